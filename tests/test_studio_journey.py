"""From people to weights: votes on the studio's pages become a file, and the file trains, with nothing done by hand."""

import json
import re

import pytest
from sqlalchemy import select

from primum.cli import main
from primum.pairing.columns import read_pairs
from primum.studio.tables import Item
from studio_kit import serving

ROWS = [
    {"prompt": f"question {n}", "intent": "harmful" if n % 2 else "benign",
     "replies": [{"text": f"yes good {n}", "model": "new"}, {"text": f"no bad {n}", "model": "old"}]}
    for n in range(8)
]  # fmt: skip


def vote_for_good(browser):
    """Vote until nothing is left: for the reply that begins with yes, wherever it is shown.

    Of a harmful prompt the other reply is ticked as unsafe, and the vote is a strong one.
    """
    given = 0
    while "Nothing left" not in (page := browser.get("/tasks/1/work").text):
        fields = browser.work_fields()
        number = int(re.search(r"question (\d)", page)[1])
        first = page.index("yes good") < page.index("no bad")
        fields |= {"strength": "significantly" if number % 2 else "slightly"}
        fields |= {"unsafe": "1" if first else "0"} if number % 2 else {}
        answer = browser.post("/tasks/1/work", **fields, do="vote", outcome="A" if first else "B")
        assert answer.status == 303
        given += 1
    return given


@pytest.fixture
def voted(tmp_path, capsys):
    """The file of pairs after eight votes on the pages."""
    items, out = tmp_path / "items.jsonl", tmp_path / "pairs.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with serving(tmp_path) as running:
        assert main(["studio", "import", f"--data={tmp_path}", "--task=t", f"--file={items}"]) == 0
        assert vote_for_good(running.browser()) == 8
        with running.studio.database.reading() as db:
            assert len(db.scalars(select(Item)).all()) == 8
        assert main(["studio", "export", f"--data={tmp_path}", "--task=t", f"--file={out}"]) == 0
    capsys.readouterr()
    return out


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A two-layer model in a folder, with the embedded tokenizer and its chat template."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from primum.models.embedded import embedded_folder

    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))  # not before: the embedded model would be made again
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True,
    )  # fmt: skip
    network = LlamaForCausalLM(config)
    network.get_input_embeddings().weight.data.mul_(20)  # fresh ones are so small that nothing could be learned
    network.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def train(method, file, model, out, capsys, *more):
    """Run `primum train` on the exported file, as it is, and return what it says."""
    command = ["train", method, str(file), "--model", str(model), "--out", str(out), "--batch-size", "4", "--json"]
    assert main([*command, "--learning-rate", "1e-2", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_exported_file_trains_a_policy_by_dpo(voted, tiny, tmp_path, capsys):
    found = train("dpo", voted, tiny, tmp_path / "dpo", capsys, "--epochs", "8")
    assert (found["data"]["rows"], found["data"]["learned"], found["data"]["dropped"]) == (8, 8, {})
    assert found["first"]["dpo"] == pytest.approx(0.6931, abs=0.01), "ln 2: the reference is the policy"
    assert found["last"]["margin"] > 1 and found["last"]["accuracy"] == 1
    assert (tmp_path / "dpo" / "checkpoint" / "model.safetensors").exists()


def test_the_exported_file_trains_a_reward_model(voted, tiny, tmp_path, capsys):
    from primum.core.records import user
    from primum.models.reward import load_reward

    pairs = read_pairs(voted)
    told = {(p.kind, round(p.strength, 3), p.safety_bin) for p in pairs}
    assert told == {("harmful", 1.0, "chosen_safe"), ("general", 0.333, "both_safe")}
    found = train("reward", voted, tiny, tmp_path / "reward", capsys, "--epochs", "12", "--held-out", "0.25")
    by_strength = found["accuracy"]["by_strength"]
    assert set(by_strength.get("safety", {})) <= {"significantly"}, "strength came through"
    assert set(by_strength.get("helpfulness", {})) <= {"slightly"}
    model = load_reward(str(tmp_path / "reward" / "checkpoint"))
    assert model.names == ("safety", "helpfulness")
    good, bad = model.scores([(user("question 9"),)] * 2, ["yes good 9", "no bad 9"], [True, True])
    assert good["safety"] > bad["safety"] and good["helpfulness"] > bad["helpfulness"]
    assert good["safety"] > 0 > bad["safety"], "the safety ticks are labels: above and below one half"


def test_the_file_has_the_columns_that_trl_reads(voted):
    """TRL's conversational preference format: three lists of turns a row (its `is_conversational` looks for them)."""
    rows = [json.loads(line) for line in voted.read_text().splitlines()]
    for row in rows:
        for column in ("prompt", "chosen", "rejected"):
            assert all(set(turn) == {"role", "content"} for turn in row[column])
        assert [row[column][-1]["role"] for column in ("prompt", "chosen", "rejected")] == [
            "user", "assistant", "assistant"
        ]  # fmt: skip
    assert len(rows) == 8


def exported(tmp_path, format_, task="t"):
    """Return the path of a file that the terminal exported."""
    out = tmp_path / f"{format_}.jsonl"
    command = ["studio", "export", f"--data={tmp_path}", f"--task={task}", f"--file={out}"]
    assert main([*command, f"--format={format_}"]) == 0
    return out


def test_the_votes_make_pairs_by_the_strategy_llama2(voted, tmp_path, capsys):
    replies, votes = (exported(tmp_path, name) for name in ("replies", "preferences"))
    out = tmp_path / "made"
    command = ["pair", str(replies), "--strategy", "llama2", "--preferences", str(votes), "--out", str(out)]
    assert main([*command, "--judge", "rules", "--force"]) == 0
    made = read_pairs(out / "pairs.jsonl")
    assert len(made) == 8 and {(p.chosen.split()[0], p.rejected.split()[0]) for p in made} == {("yes", "no")}
    direct = {(p.prompt, p.chosen, p.rejected, p.strength, p.safety_bin) for p in read_pairs(voted)}
    assert {(p.prompt, p.chosen, p.rejected, p.strength, p.safety_bin) for p in made} == direct, "both ways agree"


def test_ratings_are_the_labels_of_the_judge_human(tmp_path, capsys):
    rows = [{"prompt": f"question {n}", "intent": "harmful", "reply": f"answer {n}"} for n in range(3)]
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(tmp_path) as running:
        browser = running.browser()
        browser.get("/tasks/new")
        browser.post("/tasks/new", name="r", kind="rate", overlap=1, qualify=0, pass_mark=80, guideline="g")
        assert main(["studio", "import", f"--data={tmp_path}", "--task=r", f"--file={items}"]) == 0
        for given in ({"do": "vote", "rating": 1}, {"do": "vote", "rating": 5, "refuses": "yes"}, {"do": "skip"}):
            browser.get("/tasks/1/work")
            fields = browser.work_fields()
            assert browser.post("/tasks/1/work", **fields, **given).status == 303
    replies, votes = (exported(tmp_path, name, "r") for name in ("replies", "preferences"))
    capsys.readouterr()
    out = tmp_path / "judged"
    assert main(["judge", str(replies), "--judge", "human", "--votes", str(votes), "--out", str(out)]) == 0
    said = [json.loads(line)["behaviour"] for line in (out / "verdicts.jsonl").read_text().splitlines()]
    # 1 is a violation, a refusal is one whatever its rating; nobody labelled what was skipped
    assert said == ["harmful_compliance", "refusal", None]


def test_the_log_of_events_keeps_what_was_taken_back(tmp_path, capsys):
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps(ROWS[0]) + "\n")
    with serving(tmp_path) as running:
        assert main(["studio", "import", f"--data={tmp_path}", "--task=t", f"--file={items}"]) == 0
        browser = running.browser()
        assert vote_for_good(browser) == 1
        browser.post("/tasks/1/work", do="undo", undo_token=browser.hidden("undo_token"))
        assert vote_for_good(browser) == 1
    rows = [json.loads(line) for line in exported(tmp_path, "events").read_text().splitlines()]
    assert [(row["event"], row["undoes"], row["counts"]) for row in rows] == [
        (1, None, False), (2, 1, False), (3, None, True)
    ]  # fmt: skip
    assert rows[0]["record"]["outcome"] == "winner" and all(row["at"] and row["by"] for row in rows)
    assert len(exported(tmp_path, "preferences").read_text().splitlines()) == 1
