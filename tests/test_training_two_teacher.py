"""Two-teacher distillation on tiny random models: the divergence by hand, who teaches when, what is learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from primum import cli
from primum.core.errors import StepFailedError, UsageError
from primum.models.load import Model, load
from primum.models.sampling import Sampling
from primum.report.write import load_facts
from primum.training.adapter import add_lora, save_adapter
from primum.training.examples import Example
from primum.training.heads import adapter_on
from primum.training.losses import folded, generalised_jsd
from primum.training.methods import two_teacher
from primum.training.methods.two_teacher import PARENT, TUNED, Config, Players, prompts_of, teacher_of
from primum.training.rollouts import drawing
from primum.training.score import answer_states, logits
from primum.training.teachers import seated
from tiny_models import tiny

P, Q = [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]


def logs(shares: Sequence[float]) -> torch.Tensor:
    return torch.tensor([shares], dtype=torch.float64).log()


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_divergence_is_that_of_the_paper(beta: float) -> None:
    p, q = np.array(P), np.array(Q)
    mixed = beta * p + (1 - beta) * q
    expected = beta * entropy(p, mixed) + (1 - beta) * entropy(q, mixed)
    expected = {0.0: entropy(p, q), 1.0: entropy(q, p)}.get(beta, expected)
    assert generalised_jsd(logs(P), logs(Q), beta).item() == pytest.approx(expected, abs=1e-12)
    if beta == 0.5:
        assert expected == pytest.approx(jensenshannon(P, Q) ** 2)
    # by hand: .6 ln 3 + .3 ln .6 + .1 ln(1/3) = .3961
    assert generalised_jsd(logs(P), logs(Q), 0).item() == pytest.approx(0.3961, abs=1e-4)


def test_near_its_ends_the_divergence_over_beta_is_a_kl() -> None:
    assert generalised_jsd(logs(P), logs(Q), 1e-6).item() / 1e-6 == pytest.approx(entropy(P, Q), rel=1e-3)
    assert generalised_jsd(logs(P), logs(Q), 1 - 1e-6).item() / 1e-6 == pytest.approx(entropy(Q, P), rel=1e-3)
    with pytest.raises(ValueError, match="not from 0 to 1"):
        generalised_jsd(logs(P), logs(Q), 1.5)


def test_other_tokens_are_folded_into_one() -> None:
    found = folded(logs(P), torch.tensor([[2, 0]])).exp()
    assert torch.allclose(found, torch.tensor([[0.1, 0.6, 0.3]], dtype=torch.float64))
    whole = folded(logs(P), torch.tensor([[0, 1, 2]])).exp()
    assert whole[0, 3].item() == pytest.approx(0, abs=1e-8)


def test_teachers_take_turns_and_prompts_come_in_passes() -> None:
    assert [teacher_of(i, 4) for i in range(8)] == [PARENT, PARENT, PARENT, TUNED] * 2
    prompts = [(i,) for i in range(5)]
    line = [p for before in range(5) for p in prompts_of(prompts, before, 3, "seed")]
    assert len(line) == 15
    for at in (0, 5, 10):  # each pass holds every prompt once
        assert sorted(line[at : at + 5]) == prompts
    assert line[:5] != line[5:10] or line[5:10] != line[10:]
    assert prompts_of(prompts, 2, 12, "x")[1:6] != [] and len(prompts_of(prompts, 2, 12, "x")) == 12


WORDS = 24


def network(seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    found = LlamaForCausalLM(config).float().eval()
    found.get_input_embeddings().weight.data.mul_(20)  # fresh ones are so small that all prompts look alike
    found.lm_head.weight.data.mul_(20)
    return found


def draw(policy: Any) -> Any:
    def drawn(prompts: Sequence[tuple[int, ...]], seed: int) -> list[tuple[int, ...]]:
        random, ids = torch.Generator().manual_seed(seed), torch.tensor(prompts)
        with torch.no_grad():
            for _ in range(3):
                shares = policy(input_ids=ids).logits[:, -1].softmax(-1)
                ids = torch.cat([ids, torch.multinomial(shares, 1, generator=random)], 1)
        return [tuple(row) for row in ids[:, len(prompts[0]) :].tolist()]

    return drawn


def said(teacher: Any) -> Any:
    def say(rows: Sequence[Example]) -> torch.Tensor:
        with torch.no_grad():
            return logits(teacher, answer_states(teacher, rows).hidden)

    return say


PROMPTS = {PARENT: [(1, i) for i in range(3, 9)], TUNED: [(2, i) for i in range(3, 9)]}


def players(seed: int = 0) -> Players:
    """The parent is another random network; the fine-tuned model is the student without its adapter."""
    student = add_lora(Model(network(0), None, "tiny", "tiny", "0"), 8, 16, seed)

    def off(rows: Sequence[Example]) -> torch.Tensor:
        with adapter_on(student, None):
            return said(student)(rows)

    return Players(student, draw(student), {PARENT: said(network(7)), TUNED: off})


def fit(steps: int, folder: Path, **more: Any) -> tuple[Players, list[dict[str, Any]]]:
    table = players()
    config = Config(steps=steps, learning_rate=2e-2, batch_size=12, **more)
    log, alarms = two_teacher.train(config, table, PROMPTS, folder)
    assert not alarms
    return table, log


@pytest.mark.parametrize("more", [{}, {"divergence": 0.5}, {"top": 6}, {"keep": 0.5, "opening": 1}])
def test_the_student_becomes_each_teacher_where_it_teaches(more: dict[str, Any], tmp_path: Path) -> None:
    _, log = fit(40, tmp_path, domain_every=2, **more)
    by = {name: [row["divergence"] for row in log if row["teacher"] == name] for name in (PARENT, TUNED)}
    assert sum(by[PARENT][-4:]) < 0.5 * sum(by[PARENT][:4])  # it learned what the parent says
    assert sum(by[TUNED][-4:]) < sum(by[PARENT][:4])  # and is near the fine-tuned model where that teaches
    assert all(row["tokens"] == 3 for row in log) and len(log) == 40


def test_the_first_loss_is_the_divergence_of_the_replies(tmp_path: Path) -> None:
    table = players()
    config = Config(steps=1, batch_size=6, opening=3)
    asked = prompts_of(PROMPTS[PARENT], 0, 6, f"0-{PARENT}")
    rows = [Example(p, a) for p, a in zip(asked, table.draw(asked, 1), strict=True)]
    expected = []
    both = (table.teachers[PARENT], said(table.network))
    for row in rows:
        p, q = (one([row]).softmax(-1).double().numpy() for one in both)
        expected.append(np.mean([entropy(a, b) for a, b in zip(p, q, strict=True)]))
    log, _ = two_teacher.train(config, table, PROMPTS, tmp_path)
    assert log[0]["divergence"] == pytest.approx(np.mean(expected), rel=1e-3)
    assert log[0]["loss"] == pytest.approx(log[0]["divergence"], rel=1e-5)  # all three tokens open the reply


def test_a_stopped_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_teacher, "SAVE_EVERY", 0.0)
    whole, log = fit(6, tmp_path / "whole")

    class Stop(Exception):
        """Stands in for a kill."""

    seen: list[int] = []

    def advance(count: int) -> None:
        seen.append(count)
        if len(seen) == 4:  # one call for what was done before, then one a step
            raise Stop

    config = Config(steps=6, learning_rate=2e-2, batch_size=12)
    with pytest.raises(Stop):
        two_teacher.train(config, players(), PROMPTS, tmp_path / "cut", advance=advance)
    again, found = fit(6, tmp_path / "cut")
    assert found == log
    pairs = zip(whole.network.parameters(), again.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_student_that_is_not_the_fine_tuned_model_is_refused(tmp_path: Path) -> None:
    table = players()
    wrong = Players(table.network, table.draw, {**table.teachers, TUNED: said(network(3))})
    with pytest.raises(StepFailedError, match="from the fine-tuned model"):
        two_teacher.train(Config(steps=1), wrong, PROMPTS, tmp_path)
    with pytest.raises(ValueError, match="no prompts for the teacher 'tuned'"):
        two_teacher.train(Config(steps=1), table, {PARENT: [(1, 2)]}, tmp_path)


# ------------------------------------------------------------------------------------------------ models and the verb
@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("two-teacher")
    parent = tiny(folder / "parent", 0)
    model = load(str(parent))
    adapted = add_lora(model, 4, 8, 0)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.5)
    save_adapter(adapted, folder / "adapter", str(parent))
    domain = folder / "domain.jsonl"
    lines = [{"prompt": f"Which is vitamin {i}?", "options": ["A", "B12"], "right": i % 2} for i in range(8)]
    domain.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"parent": parent, "adapter": folder / "adapter", "tuned": tiny(folder / "tuned", 1, near=parent),
            "domain": domain}  # fmt: skip


ROWS = [Example((5, 6, 7), (8, 9)), Example((5, 6), (10,))]


def of(place: Path) -> torch.Tensor:
    return said(load(str(place)).network)(ROWS)


def test_a_fine_tune_that_is_an_adapter_needs_one_base(places: dict[str, Path]) -> None:
    seats = seated(str(places["adapter"]), None, 4, 0)
    assert seats.one_base and seated(str(places["adapter"]), str(places["parent"]), 4, 0).one_base
    tuned = of(places["adapter"])
    assert float((tuned - of(places["parent"])).abs().mean()) > 0.01
    # products of an adapter beside its base are rounded otherwise than merged ones
    assert torch.allclose(seats.teachers[PARENT](ROWS), of(places["parent"]), atol=0.05)
    assert torch.allclose(seats.teachers[TUNED](ROWS), tuned, atol=0.05)
    assert torch.allclose(said(seats.network)(ROWS), seats.teachers[TUNED](ROWS))
    learning = {name for name, p in seats.network.named_parameters() if p.requires_grad}
    assert learning and all(".default." in name for name in learning)


def test_any_other_fine_tune_teaches_beside_its_parent(places: dict[str, Path]) -> None:
    seats = seated(str(places["tuned"]), str(places["parent"]), 4, 0)
    assert not seats.one_base
    assert torch.allclose(seats.teachers[PARENT](ROWS), of(places["parent"]), atol=0.02)
    assert torch.allclose(seats.teachers[TUNED](ROWS), of(places["tuned"]), atol=0.02)
    with pytest.raises(UsageError, match="the parent is not known"):
        seated(str(places["tuned"]), None, 4, 0)
    drawn = drawing(seats.model, Sampling(1.0, 3))([(5, 6, 7)], 1)
    assert len(drawn) == 1 and 1 <= len(drawn[0]) <= 3


def test_the_verb_writes_adapter_model_and_log(places: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    flags = ["--model", str(places["adapter"]), "--teachers.steps", "4", "--teachers.tokens", "3", "--batch-size", "2"]
    command = ["train", "two_teacher", str(places["domain"]), *flags, "--out", str(out), "--json"]
    assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["one_base"] and found["steps"] == 4 and set(found["last"]) == {PARENT, TUNED}
    assert found["prompts"]["tuned"] == 8 and found["prompts"]["parent"] > 1000
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["teacher"] for row in rows] == [PARENT] * 3 + [TUNED]
    merged, adapted = of(out / "checkpoint"), of(out / "adapter")
    assert torch.allclose(merged, adapted, atol=0.1)
    assert not torch.allclose(merged, of(places["adapter"]), atol=1e-3)  # it learned
    mark = (out / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    assert cli.main(command) == 0  # a finished run is read, not made again
    assert mark == (out / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    alone = [*command[:3], "--model", str(places["tuned"]), "--out", str(out)]
    assert cli.main(alone) == 2
    assert "cure: give the aligned model with --parent" in capsys.readouterr().err


def test_a_repair_from_a_parent_tries_it(places: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = ["--limit", "2", "--reply-tokens", "4", "--temperature", "0", "--judges", "rules", "--budget", "quick"]
    flags = ["--domain", str(places["domain"]), "--teachers.steps", "3", "--teachers.tokens", "3", *small]
    code = cli.main(["repair", str(places["tuned"]), "--parent", str(places["parent"]), *flags, "--out", str(out)])
    facts = load_facts(out)
    assert code in (1, 3) and "two_teacher" in [point["name"] for point in facts["points"]]
    assert (out / "two_teacher" / "checkpoint" / "model.safetensors").is_file()
