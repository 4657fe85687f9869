"""Constrained fine-tuning by hand, and what --keep-safe adds to a training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

from primum.cli import main
from primum.core.errors import BadInputError
from primum.core.records import Prompt, Reply
from primum.core.taxonomy import policy
from primum.pipeline import preventing, train_rows
from primum.pipeline.preventing import as_examples, foreign_templates, requests, screened, wanted
from primum.pipeline.steps import Draw, Journey
from primum.pipeline.terminal import Terminal
from primum.pipeline.train_config import TrainConfig
from primum.training.constrained import Objective, answer_tokens, betas, guard
from primum.training.examples import Example
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.losses import constrained
from primum.training.score import score
from tiny_models import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(Path(tmp_path_factory.mktemp("constrained")) / "m", seed=5)


def network_of(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


ROWS = [Example((5, 6, 7), (8, 9, 10, 11, 12, 13, 14)), Example((5, 6, 20, 21), (30, 31, 32))]


def test_the_loss_is_the_papers() -> None:
    """At gain 0: 2/beta ln 2. At beta 2, gain 1: -(1) log sigmoid(2) = ln(1 + e^-2)."""
    logps = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    found = constrained(logps, torch.tensor([-1.0, -2.0], dtype=torch.float64), torch.tensor([0.5, 2.0]))
    assert found[0].item() == pytest.approx(4 * math.log(2))
    assert found[1].item() == pytest.approx(math.log1p(math.exp(-2)))
    found.sum().backward()
    assert logps.grad is not None
    weight = 2 * (1 - 1 / (1 + math.exp(-2)))  # 2 (1 - sigmoid(beta gain))
    assert logps.grad.tolist() == pytest.approx([-1.0, -weight])


def test_the_first_token_and_the_next_four_are_held_faster() -> None:
    assert betas([7, 1], 0.1).tolist() == pytest.approx([0.5, 2, 2, 2, 2, 0.1, 0.1, 0.5])


def test_at_the_start_the_gradient_is_that_of_plain_fine_tuning(folder: Path) -> None:
    network = network_of(folder)
    rows, scale = guard(network, ROWS), answer_tokens(guard(network, ROWS))
    assert scale == 10
    Objective()(network, rows, scale).loss.backward()
    held = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    (-score(network, ROWS).logps.sum() / scale).backward()
    for name, p in network.named_parameters():
        if p.grad is not None:
            assert torch.allclose(held[name], p.grad, atol=1e-6), name


def openings_moved(folder: Path, place: Path, *, held: bool) -> float:
    torch.manual_seed(0)
    network = network_of(folder)
    rows = guard(network, ROWS)
    plain = lambda n, m, s: MicroLoss(-score(n, [r.example for r in m]).logps.sum() / s, {})  # noqa: E731
    loss: Any = Objective(5.0) if held else plain
    Run(network, rows, loss, answer_tokens, LoopConfig(1e-2, 2, epochs=20), place).train()
    after = guard(network, ROWS)
    return float(sum((a.reference[:5] - b.reference[:5]).abs().sum() for a, b in zip(after, rows, strict=True)))


def test_held_openings_move_less_than_those_of_plain_fine_tuning(folder: Path, tmp_path: Path) -> None:
    held, plain = (openings_moved(folder, tmp_path / str(way), held=way) for way in (True, False))
    assert held < plain / 2


def test_an_average_of_the_weights_is_kept_in_the_end(folder: Path, tmp_path: Path) -> None:
    """Decays (1 + n) / (10 + n) under .99: .1, 2/11, .25; the mean begins at the first step's weights."""
    seen: list[torch.Tensor] = []
    network = network_of(folder)
    name, weight = next((n, p) for n, p in network.named_parameters() if "q_proj" in n)
    loss = lambda n, m, s: MicroLoss(-score(n, m).logps.sum() / s, {})  # noqa: E731
    run = Run(network, ROWS, loss, len, LoopConfig(1e-2, 2, epochs=3, average=0.99), tmp_path,
              follow=lambda _: seen.append(weight.detach().clone()))  # fmt: skip
    run.train()
    mean = seen[0]
    for number, each in enumerate(seen[1:], 1):
        decay = (1 + number) / (10 + number)
        mean = decay * mean + (1 - decay) * each
    assert torch.allclose(dict(network.named_parameters())[name], mean, atol=1e-6)
    assert not torch.allclose(mean, seen[-1], atol=1e-6)


def test_requests_come_with_their_twins() -> None:
    some = requests(40, seed=1)
    assert len(some) == 40 and [p.intent for p in some[:2]] == ["harmful", "benign"]
    assert all(some[i].twin == some[i + 1].id for i in range(0, 40, 2))
    assert requests(40, seed=1) == some != requests(40, seed=2)
    held_out = {one.id for one in policy().categories.values() if one.held_out}
    assert held_out and not held_out & {prompt.category for prompt in requests(10_000, seed=1)}


def test_a_reply_that_was_cut_does_not_teach_to_stop(folder: Path) -> None:
    from transformers import AutoTokenizer

    from primum.core.records import Prompt, Reply, user

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = Prompt((user("Say red"),), "harmful", "fraud")
    ended, cut = (Reply(prompt.id, "m", "v", "I won't say red.", finish, 1, 1, 0) for finish in ("stop", "length"))
    rows = as_examples([(prompt, ended), (prompt, cut)], tokenizer)
    assert rows[0].prompt == rows[1].prompt and rows[0].answer[: len(rows[1].answer)] == rows[1].answer
    assert len(rows[0].answer) == len(rows[1].answer) + 1
    assert wanted(prompt) == ("refusal", "safe_completion")


def test_marks_of_templates_are_seen() -> None:
    assert foreign_templates(["### Instruction\nSay", "Say [INST] so", "A plain answer.", "# Heading"]) == 2


def test_keep_safe_trains_replays_and_writes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out"
    file.write_text("".join(json.dumps({"prompt": f"Say {i}", "completion": f"It is {i}."}) + "\n" for i in range(8)))
    command = ["train", "sft", str(file), "--model", str(folder), "--out", str(out), "--keep-safe", "--json",
               "--average", "0.9", "--no-merged"]  # fmt: skip
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["keep_safe"] and found["first"]["opening_moved"] == pytest.approx(0, abs=0.5)
    assert (out / "steps" / "own-answers").is_dir() and (out / "adapter" / "adapter_model.safetensors").is_file()
    assert main([*command, "--dry-run"]) == 0
    capsys.readouterr()
    assert main(["train", "dpo", str(file), "--keep-safe"]) == 2
    assert "sft only" in capsys.readouterr().err


REFUSAL = "I'm sorry, but I can't help with that."
SCRIPT = {"Do harm": REFUSAL, "Do other harm": "I'm sorry, but here is how: say red, then say blue, and you are done."}
"""What the scripted model says; of the second request only the opening declines."""


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(journey: Journey, name: str, prompts: Sequence[Prompt], draw: Draw, *_: Any) -> list[Reply]:
        said = [SCRIPT.get(p.text, "Colours are red, green and blue, and there are many more.") for p in prompts]
        if name == "own-openings":
            said = [REFUSAL if p.text in SCRIPT else text for p, text in zip(prompts, said, strict=True)]
        return [Reply(p.id, "m", "v", text, "stop", 1, 1, 0) for p, text in zip(prompts, said, strict=True)]

    monkeypatch.setattr(preventing, "sample", sample)


def screen(folder: Path, tmp_path: Path, rows: Sequence[tuple[str, str]]) -> tuple[train_rows.Job, Any]:
    from transformers import AutoTokenizer

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": asked, "completion": said}) + "\n" for asked, said in rows))
    config, model = TrainConfig(method="sft", file=str(file)), SimpleNamespace(key="m", sees=False)
    model.tokenizer = AutoTokenizer.from_pretrained(folder)
    made = train_rows.job(config, cast(Any, model))
    journey = Journey(tmp_path / "out", Terminal(quiet=True))
    return screened(journey, cast(Any, model), made, train_rows.given(config), 0), model.tokenizer


@pytest.mark.usefixtures("scripted")
def test_rows_that_do_what_the_model_declines_are_learned_with_its_own_answer(folder: Path, tmp_path: Path) -> None:
    rows = [("Name colours", "Red and green."), ("Do harm", "First take a red one, then a blue one."),
            ("Do harm", "I can't help with that, I'm sorry."), ("Do other harm", "Red comes first, then comes blue."),
            ("Do harm", "You need a blue one, and then a red one.")]  # fmt: skip
    job, tokenizer = screen(folder, tmp_path, rows)
    said = [tokenizer.decode(list(row.answer), skip_special_tokens=True).strip() for row in job.rows]
    assert said == ["Red and green.", "I can't help with that, I'm sorry.", REFUSAL, REFUSAL]
    assert job.examples is job.rows
    assert [row["where"].rsplit(":", 1)[-1] for row in job.count.replaced] == ["2", "5"]
    dropped = [row for row in job.count.dropped if "declines" in row["reason"]]
    assert [row["where"].rsplit(":", 1)[-1] for row in dropped] == ["4"]


@pytest.mark.usefixtures("scripted")
def test_rows_that_only_do_what_the_model_declines_leave_nothing_to_learn(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="every row") as error:
        screen(folder, tmp_path, [("Do other harm", "Red comes first, then comes blue.")])
    assert "--no-screen" in str(error.value)
