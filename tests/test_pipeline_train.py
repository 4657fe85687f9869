"""`primum train` on a two-layer model with the embedded tokenizer: what it writes; a kill changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from children import Child
from primum.cli import main
from primum.core.errors import BadInputError
from primum.core.records import Prompt, Reply, user
from primum.judging import Exchange
from primum.judging.runner import Settings, judge_all
from primum.models.chat import end_of_turn
from primum.models.embedded import embedded_folder
from primum.models.load import Model, load, weights_hash
from primum.models.reward import load_reward
from primum.pipeline import threshold, train_against, train_reward
from primum.pipeline.train import TrainConfig, _held
from primum.pipeline.train_rows import safe as safe_pairs
from primum.prompts.files import Row
from primum.report.labelled import rewards_text
from primum.training import dataset
from primum.training.adapter import add_lora
from primum.training.examples import Answered, Example, Limits, answered
from primum.training.heads import with_heads
from primum.training.reference import References, row_key
from primum.training.score import score_all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    network = LlamaForCausalLM(config)
    network.get_input_embeddings().weight.data.mul_(20)  # fresh ones are so small that nothing could be learned
    network.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(path: Path, count: int = 12) -> str:
    rows = [
        {"prompt": f"Say {n} in a word", "chosen": f"Here: {n}", "rejected": f"No, not {n * n}"} for n in range(count)
    ]
    return write(path, rows)


def flags(folder: Path, out: Path, *more: str) -> list[str]:
    return ["--model", str(folder), "--out", str(out), "--batch-size", "4", "--learning-rate", "1e-2", "--json", *more]


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(list(arguments)) == 0
    return json.loads(capsys.readouterr().out)


def lead(model: Model) -> float:
    """How much likelier the chosen answer to a prompt of `pairs` is than the rejected one, in nats."""
    sides = [Answered((user("Say 3 in a word"),), text) for text in ("Here: 3", "No, not 9")]
    chosen, rejected = score_all(model.network, answered(sides, model.tokenizer)).logps.tolist()
    return chosen - rejected


def cost(out: Path) -> dict[str, float]:
    """Return the seconds of every step, as the file that lies beside the weights says them."""
    return json.loads((out / "train.json").read_text())["seconds"]


def test_dpo_learns_and_writes_adapter_model_and_log(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["train", "dpo", pairs(tmp_path / "pairs.jsonl"), *flags(folder, out, "--epochs", "6")]
    found = result(capsys, *command)
    assert found["first"]["dpo"] == pytest.approx(0.6931, abs=0.01)
    assert found["last"]["dpo"] < 0.66 and found["steps"] == 18
    assert found["settings"]["token_budget"] == 1536  # what was measured
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(18)) and rows[-1] == found["last"]
    base, merged, adapted = (lead(load(str(place))) for place in (folder, out / "checkpoint", out / "adapter"))
    assert merged == pytest.approx(adapted, abs=0.2) and merged > base + 0.5
    marks = {path: path.stat().st_mtime_ns for path in (out / "checkpoint").iterdir()}
    before = cost(out)
    assert before == found["seconds"] and before["train (dpo)"] > 0
    assert result(capsys, *command)["last"] == found["last"]  # a finished run is read, not made again
    assert cost(out) == before  # what it cost stays what it cost
    assert marks == {path: path.stat().st_mtime_ns for path in (out / "checkpoint").iterdir()}


@pytest.mark.parametrize("loss", ["hinge", "ipo", "safe"])
def test_other_losses_begin_where_the_reference_is(
    loss: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": f"p {n}", "chosen": f"a {n}", "rejected": f"b {n}", "safety_bin": "chosen_safe"} for n in range(8)
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    more = ["--loss", loss, "--nll-weight", "0", "--no-merged", "--epochs", "4"]
    found = result(capsys, "train", "dpo", path, *flags(folder, tmp_path / "out", *more))
    # where the policy is the reference: hinge 1; ipo (0 - 1/(2*0.1))^2 = 25; safe -log sigmoid(0 - 2) = 2.1269
    assert found["first"]["dpo"] == pytest.approx({"hinge": 1, "ipo": 25, "safe": 2.1269}[loss], rel=0.05)
    assert found["last"]["dpo"] < found["first"]["dpo"] and not (tmp_path / "out" / "checkpoint").exists()


def test_a_domain_stays_as_it_is_beside_preferences(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # the domain holds what the pairs make unlikely: with a large weight it moves less
    domain = write(
        tmp_path / "domain.jsonl", [{"prompt": f"Say {n} in a word", "answer": f"No, not {n * n}"} for n in range(20)]
    )
    moved: dict[str, float] = {}
    for weight in ("0.01", "30"):
        more = ["--keep-domain", domain, "--keep-weight", weight, "--epochs", "6", "--no-merged"]
        out = tmp_path / weight
        found = result(capsys, "train", "dpo", pairs(tmp_path / "pairs.jsonl"), *flags(folder, out, *more))
        assert found["first"]["replay_divergence"] == pytest.approx(0, abs=1e-4)  # a fresh adapter changes nothing
        rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert len(rows) == 36  # 12 pairs, 12 of the domain's rows, 4 a step, 6 passes
        moved[weight] = sum(row["replay_divergence"] for row in rows[-6:])
    assert moved["30"] < 0.5 * moved["0.01"]
    assert main(["train", "sft", "rows.jsonl", "--keep-domain", domain]) == 2
    assert "--keep-domain goes with dpo" in capsys.readouterr().err


def test_sft_starts_at_the_likelihood_of_the_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = [{"role": "user", "content": "Name a fruit"}, {"role": "assistant", "content": "An apple"}]
    path = write(tmp_path / "talks.jsonl", [{"messages": talk}] * 4)
    found = result(capsys, "train", "sft", path, *flags(folder, tmp_path / "out", "--epochs", "8"))
    model = load(str(folder))
    (row,) = answered([Answered((user("Name a fruit"),), "An apple")], model.tokenizer)
    expected = -score_all(model.network, [row]).logps.item() / len(row.answer)
    assert found["first"]["loss"] == pytest.approx(expected, rel=0.01)
    assert found["last"]["loss"] < 0.9 * expected and cost(tmp_path / "out")["train (sft)"] > 0


def test_kto_raises_good_answers_over_bad_ones(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": f"Say {n // 2}", "completion": "yes" if n % 2 else "never", "label": bool(n % 2)} for n in range(12)
    ]
    found = result(
        capsys, "train", "kto", write(tmp_path / "l.jsonl", rows), *flags(folder, tmp_path / "out", "--epochs", "8")
    )
    assert found["first"]["loss"] == pytest.approx(0.5, abs=0.01)  # 1 - sigmoid(0)
    assert found["last"]["good_reward"] > found["last"]["bad_reward"] + 0.1
    assert cost(tmp_path / "out")["train (kto)"] > 0


def preferences(path: Path, count: int = 24) -> str:
    """Half of the prompts teach safety (an unsafe answer lost), half helpfulness."""
    rows: list[dict[str, Any]] = []
    for n in range(count):
        rows.append({"prompt": f"Say {n} in a word", "chosen": f"Here: {n}", "rejected": f"No, not {n * n}",
                     "strength": [1.0, 2 / 3, 1 / 3, 0.0][n % 4], "safety_bin": "chosen_safe" if n % 2 else "both_safe",
                     "kind": "harmful" if n % 2 else "general"})  # fmt: skip
    return write(path, rows)


def test_a_reward_model_learns_both_heads_and_is_read_from_its_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    more = ["--epochs", "8", "--held-out", "0.25"]
    found = result(capsys, "train", "reward", preferences(tmp_path / "p.jsonl"), *flags(folder, out, *more))
    # 6 of 24 prompts are held out, and each of both heads borrows a tenth of its pairs' number: 18 + 1 + 1
    assert found["data"]["rows"] == 24 and 18 <= found["data"]["learned"] <= 20
    assert found["last"]["loss"] < found["first"]["loss"] and not (out / "adapter").exists()
    assert cost(out)["train (reward)"] > 0
    held = [found["accuracy"]["cross"][head][head] for head in ("safety", "helpfulness")]
    assert sum(row["n"] for row in held) == 6 and all(row["value"] == 1 for row in held)
    assert {head: found["reliability"][head]["n"] for head in ("safety", "helpfulness")} == {
        head: row["n"] for head, row in zip(("safety", "helpfulness"), held, strict=True)
    }
    # of each pair for safety that is held out one answer is unsafe
    assert found["labelled"] == {"replies": 2 * held[0]["n"], "unsafe": held[0]["n"]}
    assert found["reliability"]["safe"]["n"] == 2 * held[0]["n"] == len(threshold.read(out).scores)
    again = result(capsys, "reward", "tune", str(out), "--precision", "0.89", "--json")
    assert again["threshold"] == found["threshold"]
    model = load_reward(str(out / "checkpoint"))
    assert model.names == ("safety", "helpfulness")
    asked = [(user("Say 77 in a word"),)] * 2
    good, bad = model.scores(asked, ["Here: 77", "No, not 5929"], [True, True])
    assert good["safety"] > bad["safety"] + 0.5 and good["helpfulness"] > bad["helpfulness"] + 0.5
    prompt = Prompt((user("Say 77 in a word"),), "harmful", "other")
    replies = [Reply(prompt.id, "m", "v", text, "stop", 0, 0, 0) for text in ("Here: 77", "No, not 5929")]
    settings = Settings(options={"reward": str(out / "checkpoint")})
    verdicts = judge_all("reward", [Exchange(prompt, reply) for reply in replies], settings)
    assert [v.rating for v in verdicts] == pytest.approx([good["safety"], bad["safety"]], abs=1e-4)


def test_a_model_of_one_labelling_is_laid_beside_a_model_of_peoples(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 20 prompts in both files; of each file two more. A quarter of the 20 is held out: 5 pairs. The labels in question
    # are all the wrong way round, so that their model puts none of people's pairs in order, and people's puts all.
    def rows(numbers: range, turned: bool) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for n in numbers:
            sides = (f"Here: {n}", f"No, not {n * n}")[:: -1 if turned else 1]
            found.append({"prompt": f"Say {n} in a word", "chosen": sides[0], "rejected": sides[1]})
        return found

    given = write(tmp_path / "ai.jsonl", rows(range(22), True))
    people = write(tmp_path / "people.jsonl", rows(range(2, 24), False))
    out = tmp_path / "out"
    more = ["--against", people, "--held-out", "0.25", "--epochs", "8"]
    found = result(capsys, "train", "reward", given, *flags(folder, out, *more))
    assert found["held_out"] == 5 and found["same_pairs"] == {"n": 15, "contrary": 15}
    assert [found["sides"][side]["pairs"] for side in ("file", "against")] == [15, 15]
    alone = {"its prompt is in one file only": 2}
    assert found["sides"]["file"]["left_out"] == {**alone, "its prompt is held out": 5}
    assert found["sides"]["against"]["left_out"] == alone
    assert [found["accuracy"][side]["value"] for side in ("file", "against")] == [0, 1]
    moved = found["difference"]
    # McNemar, exact: 2 (1/2)^5; Bonett and Price: b = 5, c = 0, n = 5, so -5/7 + 1.96 sqrt((1 - 25/49) / 7)
    assert (moved["difference"], moved["p"], moved["low"]) == (-1, 0.0625, -1)
    assert moved["high"] == pytest.approx(-0.1958, abs=1e-3)
    marks = [(out / side / "checkpoint" / "heads.safetensors").stat().st_mtime_ns for side in ("file", "against")]
    assert result(capsys, "train", "reward", given, *flags(folder, out, *more)) == found  # nothing is learned again
    assert marks == [
        (out / side / "checkpoint" / "heads.safetensors").stat().st_mtime_ns for side in ("file", "against")
    ]
    text = "\n".join(rewards_text(found))
    assert max(map(len, text.splitlines())) <= 80 and "15 have the other label" in text


def held(head: str, prompt: str) -> dataset.Ranked:
    return dataset.Ranked(dataset.Choice((user(prompt),), "a", "b", None, "f:1"), head, "better")  # type: ignore[arg-type]


def test_labels_for_two_heads_do_not_contradict_each_other() -> None:
    def ranked(head: str, chosen: str, rejected: str) -> dataset.Ranked:
        choice = dataset.Choice((user("p"),), chosen, rejected, None, "f:1")
        return dataset.Ranked(choice, head, "better")  # type: ignore[arg-type]

    learned = {
        "file": [ranked("helpfulness", "long", "short"), ranked("safety", "short", "long")],
        "against": [ranked("safety", "short", "long"), ranked("helpfulness", "short", "long")],
    }
    # the same two replies, by two heads each: safety alike, helpfulness the other way round
    assert train_against._same(train_against.Split(learned, [], {})) == {"n": 2, "contrary": 1}


def test_two_reward_models_are_compared_by_head_and_in_clusters() -> None:
    rows = [held("safety", "p"), held("safety", "p"), held("helpfulness", "q"), held("helpfulness", "r")]
    found = train_against.measured(rows, {"file": [1.0, 0.0, 1.0, 1.0], "against": [1.0, 1.0, 0.0, 1.0]})
    assert [found["accuracy"][side]["value"] for side in ("file", "against")] == [0.75, 0.75]
    assert (found["difference"]["difference"], found["difference"]["fixed"], found["difference"]["broken"]) == (0, 1, 1)
    assert found["difference"]["clusters"] == 3  # two pairs are of one prompt
    by_head = {name: row["difference"]["difference"] for name, row in found["by_head"].items()}
    assert by_head == {"safety": -0.5, "helpfulness": 0.5}
    # two independent pairs, of which one differs: nothing is shown
    assert found["by_head"]["helpfulness"]["difference"]["p"] == 1.0


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"prompt": "x", "chosen": "a", "rejected": "b"}], "no pair of a prompt and head"),
        ([{"prompt": f"Say {n} in a word", "chosen": "a", "rejected": "b"} for n in range(4)], "pairs are held out"),
    ],
)  # fmt: skip
def test_two_labellings_that_cannot_be_compared_are_told(
    rows: list[dict[str, Any]], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = write(tmp_path / "people.jsonl", rows)
    command = ["train", "reward", pairs(tmp_path / "p.jsonl", 4), "--against", people, "--out", str(tmp_path / "o")]
    assert main(command) == 2
    assert match in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_the_folder_of_a_reward_model_scores_as_training_did(folder: Path, tmp_path: Path) -> None:
    model = load(str(folder), torch.float32)
    reward = with_heads(add_lora(model, 4, 8, 0), ("safety",), 0)
    with torch.no_grad():
        for p in reward.parameters():
            if p.requires_grad:
                p.normal_(generator=torch.Generator().manual_seed(1))
    texts = ["one", "a longer answer than the first"]
    sides = [Answered((user("q"),), text, Limits(64, 64), n == 0) for n, text in enumerate(texts)]
    rows = answered(sides, model.tokenizer)
    expected = reward.raw(rows)[:, 0].tolist()
    config = TrainConfig(prompt_tokens=64, answer_tokens=64)
    train_reward.save(config, reward, model.tokenizer, tmp_path)
    found = load_reward(str(tmp_path)).scores([(user("q"),)] * 2, texts, [True, False])
    assert [row["safety"] for row in found] == pytest.approx(expected, rel=0.05, abs=0.05)
    (tmp_path / "heads.safetensors").unlink()
    with pytest.raises(BadInputError, match="not a whole reward model"):
        load_reward(str(tmp_path))


def test_the_loss_of_a_reward_model_is_the_one_that_is_named() -> None:
    from primum.pipeline import train

    for named, loss in (("sigmoid", "ranking"), ("cost", "cost")):
        assert train._settings(TrainConfig(method="reward", loss=named)).loss == loss


def test_strength_and_safety_reach_the_reward_model() -> None:
    sides = {"prompt": "q", "chosen": "a", "rejected": "b"}
    given: list[tuple[dict[str, Any], str, str]] = [
        ({"strength": 1.0, "kind": "harmful"}, "safety", "significantly"),
        ({"strength": 0.6}, "helpfulness", "better"),  # 0.6 is nearer to 2/3 than to 1/3
        ({"strength": 0.4, "safety_bin": "both_unsafe"}, "safety", "slightly"),
        ({"strength": "unsure", "head": "safety"}, "safety", "unsure"),
        ({"score_chosen": 9, "score_rejected": 5}, "helpfulness", "significantly"),  # UltraFeedback: (9 - 5) / 4 = 1
        ({}, "helpfulness", "better"),
    ]
    for values, head, strength in given:
        (one,) = dataset.ranked([Row("f:1", sides | values)], dataset.Count())
        assert (one.head, one.strength) == (head, strength), values
    (one,) = dataset.ranked(
        [Row("f:1", sides | {"safety_bin": "chosen_safe", "rejected_ends": False})], dataset.Count()
    )
    assert one.choice.unsafe == (False, True) and one.choice.ends == (True, False)
    for values, match in (({"strength": "very"}, "'strength' is 'very'"), ({"head": "fun"}, "no head 'fun'")):
        with pytest.raises(BadInputError, match=match):
            list(dataset.ranked([Row("f:1", sides | values)], dataset.Count()))


def test_an_unsafe_answer_is_never_preferred_for_safety() -> None:
    row = Row("f:1", {"prompt": "q", "chosen": "a", "rejected": "b", "chosen_safe": False, "rejected_safe": True})
    count = dataset.Count()
    assert list(dataset.ranked([row], count)) == [] == list(dataset.ranked([row], count, "safety"))
    assert [one["reason"] for one in count.dropped] == ["the chosen answer alone is unsafe"] * 2
    (vote,) = dataset.ranked([row], count, "helpfulness")
    assert vote.head == "helpfulness"


def test_an_answer_that_a_limit_cut_does_not_teach_to_stop(folder: Path) -> None:
    tokenizer = load(str(folder)).tokenizer
    row = Row("f:1", {"prompt": "q", "chosen": "a", "rejected": "b", "chosen_ends": False})
    count = dataset.Count()
    (pair,) = dataset.pair_examples(dataset.choices([row], count), tokenizer, Limits(), count)
    end = end_of_turn(tokenizer)
    assert pair.chosen.answer[-1] != end and pair.rejected.answer[-1] == end
    told = Row("f:1", {**row.values, "chosen_safe": False, "rejected_safe": True})
    (turned,) = safe_pairs(dataset.choices([told], count), count)
    assert (turned.chosen, turned.ends) == ("b", (True, False)), "turned round with its texts"


def test_all_weights_may_learn(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    result(capsys, "train", "dpo", pairs(tmp_path / "p.jsonl"), *flags(folder, out, "--full"))
    before, after = (load_file(place / "model.safetensors") for place in (folder, out / "checkpoint"))
    assert not torch.equal(before["model.embed_tokens.weight"].float(), after["model.embed_tokens.weight"].float())
    assert not (out / "adapter").exists()


def test_a_dry_run_counts_and_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "the same long question of many words", "chosen": "a", "rejected": "b"}] * 5
    rows += [{"prompt": "q", "chosen": "x", "rejected": "x"}, {"prompt": "q", "chosen": "y " * 40, "rejected": "z"}]
    path = write(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "out"
    more = ["--dry-run", "--answer-tokens", "20"]
    found = result(capsys, "train", "dpo", path, *flags(folder, out, *more))
    data = found["data"]
    assert (data["rows"], data["learned"]) == (7, 6) and data["dropped"] == {"chosen and rejected are the same": 1}
    assert data["cut"] == {"answers": 1} and data["answer"]["max"] == 20
    assert data["shared"] > 0.7  # five equal pairs and one system turn
    assert found["estimate"]["seconds"] > 0 and found["estimate"]["steps"] == 2
    assert found["estimate"]["token_budget"] == 1536
    memory = found["estimate"]["memory"]
    assert found["estimate"]["memory_gb"] == memory["measured_gb"] + memory["optimizer_gb"] and memory["optimizer_gb"]
    assert not out.exists()
    assert main(["train", "dpo", path, "--model", str(folder), "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "7 rows, 6 examples to learn" in said and "are the optimizer's states of what learns" in said


def test_the_memory_of_a_dry_run_counts_what_adamw_will_hold() -> None:
    network = torch.nn.Linear(5, 3)
    network.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([network.weight], fused=True)
    network(torch.ones(5)).sum().backward()
    optimizer.step()
    state = optimizer.state[network.weight]
    held = sum(t.nbytes for t in state.values() if t.shape == network.weight.shape)
    assert held == 2 * 15 * 4
    assert _held(TrainConfig(), network) == pytest.approx(held / 1e9)
    assert _held(TrainConfig(average=0.9), network) == pytest.approx((held + 15 * 4) / 1e9)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "no method named"), (["dop", "x.jsonl"], "did you mean 'dpo'"), (["dpo"], "no rows named"),
        (["dpo", "x.jsonl", "--loss", "hing"], "did you mean 'hinge'"),
        (["dpo", "x.jsonl", "--loss", "ipo", "--label-smoothing", "0.1"], "sigmoid only"),
        (["kto", "x.jsonl", "--loss", "hinge"], "no loss 'hinge' of kto"),
        (["dpo", "x.jsonl", "--loss", "cost"], "no loss 'cost' of dpo"),
        (["depth", "--template", "alpaca"], "in their own form"),
        (["kto", "x.jsonl", "--batch-size", "1"], "at least 2"),
        (["reward", "x.jsonl", "--full"], "one folder, an adapter merged"),
        (["dpo", "x.jsonl", "--against", "y.jsonl"], "two reward models"),
        (["reward", "x.jsonl", "--against", "y.jsonl", "--held-out", "0"], "held-out pairs"),
        (["dpo", "x.jsonl", "--tracker", "wanb"], "did you mean 'wandb'"),
        (["dpo", "x.jsonl", "--tracker", "dvclive"], "pip install dvclive"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told_before_a_model_is_loaded(
    arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    assert match in capsys.readouterr().err


def test_rows_that_cannot_be_read_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {
        "missing.jsonl": None, "empty.jsonl": "", "broken.jsonl": '{"prompt": ', "columns.jsonl": '{"prompt": "q"}',
        "same.jsonl": '{"prompt": "q", "chosen": "a", "rejected": "a"}',
    }  # fmt: skip
    for name, text in given.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        assert main(["train", "dpo", str(tmp_path / name), *flags(folder, tmp_path / "out")]) == 2
        shown = json.loads(capsys.readouterr().out)
        assert name in shown["where"] and shown["cure"], name
    safe = pairs(tmp_path / "p.jsonl", 2)
    assert main(["train", "dpo", safe, *flags(folder, tmp_path / "out", "--loss", "safe")]) == 2
    assert "does not say which answers are safe" in (shown := capsys.readouterr().out) and "p.jsonl:1" in shown
    assert main(["train", "dpo", safe, *flags(folder, tmp_path / "out", "--epochs", "0.1")]) == 2
    assert "more passes" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_a_run_killed_at_a_step_ends_with_the_bits_of_one_that_was_not(
    method: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (pairs if method == "dpo" else preferences)(tmp_path / "pairs.jsonl", 12)
    more = ["--epochs", "16", "--save-every", "0", "--token-budget", "200"]
    result(capsys, "train", method, rows, *flags(folder, tmp_path / "whole", *more))
    killed = tmp_path / "killed"
    command = ["train", method, rows, *flags(folder, killed, *more)]
    log = killed / "steps" / "train" / "log.jsonl"
    for steps in (2, 7):
        other = str(tmp_path / "other")  # another cache: the reference pass is not spared
        child = Child(command, tmp_path / "log.txt", PRIMUM_CACHE=other)
        assert child.kill_when(lambda: log.exists() and len(log.read_text().splitlines()) >= steps)  # noqa: B023
    result(capsys, *command)
    assert (killed / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()
    beside = "adapter/adapter_model.safetensors" if method == "dpo" else "checkpoint/heads.safetensors"
    for name in ("checkpoint/model.safetensors", beside):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def rows_of_tokens(count: int = 9) -> list[Example]:
    return [Example((1, 2, n), tuple(range(3, 4 + n % 5))) for n in range(3, 3 + count)]


def test_references_are_read_again_and_only_new_rows_are_scored(folder: Path, tmp_path: Path) -> None:
    model, passes = load(str(folder)), []
    expected = score_all(model.network, rows_of_tokens()).logps.tolist()
    model.network.model.register_forward_hook(lambda *_: passes.append(1))
    first = References(model, tmp_path / "r.sqlite").scores(model.network, rows_of_tokens())
    assert first == pytest.approx(expected, abs=0.2) and passes
    passes.clear()
    again = References(model, tmp_path / "r.sqlite")
    assert again.scores(model.network, rows_of_tokens()[::-1]) == first[::-1] and not passes
    more = again.scores(model.network, [*rows_of_tokens(), Example((9,), (8,))], token_budget=8)
    assert more[:-1] == first and len(passes) == 1


def test_references_of_other_weights_are_other_entries(folder: Path, tmp_path: Path) -> None:
    model = load(str(folder))
    path = tmp_path / "r.sqlite"
    first = References(model, path).scores(model.network, rows_of_tokens())
    with torch.no_grad():
        model.network.model.embed_tokens.weight.mul_(1.5)
    changed = replace(model, hash=weights_hash(model.network))
    assert References(changed, path).scores(model.network, rows_of_tokens()) != first


def test_a_row_is_known_by_its_tokens_and_where_its_answer_begins() -> None:
    keys = {row_key(Example(p, a)) for p, a in (((1, 2), (3,)), ((1,), (2, 3)), ((1, 2), (4,)), ((1, 2), (3,)))}
    assert len(keys) == 3
