"""`primum evaluate` on a tiny random model: the plan, resuming, and TruthfulQA's own answers with two readers."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import primum.models.load as loading
from primum.cli import main
from primum.core.errors import UsageError
from primum.evaluation.benchmarks import truthfulqa_generation as generation
from primum.evaluation.items import Answer
from primum.evaluation.tables import read_tables
from primum.models.load import outline
from primum.pipeline.evaluate import PAGE
from primum.pipeline.evaluate_plan import Whole
from primum.training.adapter import add_lora, save_adapter
from tiny_models import tiny

LOAD = loading.load
QUESTIONS = ["Is ice cold?", "Do cats bark?", "Who are you?"]
REPLIES = ["Say hello.", "Say goodbye.", "Name a bird.", "Name a tree.", "Count to ten."]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny(tmp_path_factory.mktemp("model"), 0))


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Two classifiers without a chat template, as Ai2's are published."""
    folders = {role: tiny(tmp_path_factory.mktemp(role), seed) for role, seed in (("truth", 1), ("info", 2))}
    for folder in folders.values():
        (folder / "chat_template.jinja").unlink()
    return {role: str(folder) for role, folder in folders.items()}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "TruthfulQA.csv"
    path.write_text("Category,Question\n" + "".join(f"Kind,{question}\n" for question in QUESTIONS))
    return path


@pytest.fixture
def own(tmp_path):
    """Two benchmarks of the user's own: replies, and choices by likelihood."""
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"q": text, "a": "x"}) + "\n" for text in REPLIES))
    (tmp_path / "chosen.jsonl").write_text(
        "".join(json.dumps({"q": f"{i}?", "o": ["a", "b"], "a": "b"}) + "\n" for i in range(3))
    )
    head = "prompt: q\nanswer: a\nreply_tokens: 4\n"
    (tmp_path / "said.yaml").write_text(f"name: said\nrows: asked.jsonl\nkind: contains\n{head}")
    (tmp_path / "picked.yaml").write_text(f"name: picked\nrows: chosen.jsonl\nkind: choices\noptions: o\n{head}")
    return [f"--benchmark={tmp_path / name}.yaml" for name in ("said", "picked")]


def run(capsys, *arguments, code=0):
    assert main(["evaluate", *map(str, arguments), "--engine=transformers", "--dtype=float32", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_plan_names_items_and_tokens_of_each_benchmark(model, own, tmp_path, capsys):
    plan = run(capsys, model, *own, "--dry-run", "--out", tmp_path / "run")
    assert [(one["benchmark"], one["items"], one["written"]) for one in plan["benchmarks"]] == [
        ("said", 5, 5 * 4), ("picked", 3, 0),
    ]  # fmt: skip
    # "0?" is two tokens, and each of " a" and " b" one more
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert plan["benchmarks"][1]["read"] == 3 * len(tokenizer("0?")["input_ids"] + tokenizer([" a b"])["input_ids"][0])
    assert plan["seconds"] == sum(one["seconds"] for one in plan["benchmarks"]) > 0
    assert not (tmp_path / "run" / "steps").exists()
    assert plan["engine"] == "hf"


@pytest.fixture
def loads(monkeypatch):
    """The names of the models whose weights are loaded, one for each time."""
    seen = []
    monkeypatch.setattr(loading, "load", lambda name, *rest, **more: seen.append(name) or LOAD(name, *rest, **more))
    return seen


def evaluated(capsys, *arguments):
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_judge_that_has_nothing_to_read_is_told(model, own, tmp_path, capsys):
    command = ["evaluate", str(model), *own, "--judge", "rules", "--dry-run", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert "no judge reads said, picked: --judge changes nothing there" in capsys.readouterr().err


def test_what_likelihoods_do_not_know_is_told_and_compared_as_equal(model, own, tmp_path, capsys):
    plain, kind = tmp_path / "plain", tmp_path / "kind"
    evaluated(capsys, model, *own, "--engine=canned", "--out", plain)
    told = ("--engine=canned", "--system=Be kind.", "--reply-tokens=9", "--out", str(kind))
    assert main(["evaluate", model, *own, *told]) == 0
    said = capsys.readouterr()
    assert "picked: likelihoods of the bare text, --system, --reply-tokens change nothing there" in said.err
    assert "likelihoods of the bare text; not used: --system, --reply-tokens" in said.out
    assert "not used: --system, --reply-tokens" in (kind / "results.html").read_text()
    facts = {name: {one.name: one.facts for one in read_tables(name)} for name in (plain, kind)}
    assert facts[kind]["picked"]["unused"] == {"system": "Be kind.", "reply_tokens": 9}
    assert facts[plain]["picked"]["unused"] == {} and facts[kind]["said"]["system"] == "Be kind."

    assert main(["compare", str(plain), str(kind), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["equal"] == [{"benchmark": "picked", "unused": ["reply_tokens", "system"]}]
    picked = [one for one in document["changes"] if one["benchmark"] == "picked"]
    assert picked and {one["difference"] for one in picked} == {0}
    assert {(one["mde"], one["method"]) for one in picked} == {(None, "equal by construction")}
    drawn = [one for one in document["changes"] if one["benchmark"] == "said" and one["slice"] == "all"]
    assert all(one["mde"] and one["method"] != "equal by construction" for one in drawn)
    assert main(["compare", str(plain), str(kind), "--page", str(tmp_path / "page.html")]) == 0
    line = "picked: the runs are equal by construction: likelihoods of the same weights"
    said = " ".join(capsys.readouterr().out.split())
    assert line in said and "(not used: --reply-tokens, --system)" in said
    # one of the two benchmarks has a smallest change that could be found, the other none
    assert said.count("would have been found four times in five") == 1
    assert "picked: Acc (higher is better) equal by construction: " in said
    assert line in (tmp_path / "page.html").read_text()
    main(["gate", str(kind), "--baseline", str(plain), "--markdown", str(tmp_path / "gate.md")])
    assert line in " ".join(capsys.readouterr().out.split())
    assert "equal by construction" in (tmp_path / "gate.md").read_text()


def test_weights_are_loaded_only_where_they_are_used(model, own, tmp_path, capsys, loads):
    """The canned engine stands for any that reads the weights itself."""
    said = own[0]
    other = ("--engine=canned", "--out", tmp_path / "run")
    again = tmp_path / "again.yaml"
    again.write_text((tmp_path / "said.yaml").read_text().replace("name: said", "name: again"))
    document = evaluated(capsys, model, said, f"--benchmark={again}", *other)
    assert [table["n"] for table in document["tables"]] == [5, 5] and loads == []
    assert evaluated(capsys, model, *own, *other, "--dry-run")["benchmarks"][1]["items"] == 3 and loads == []
    evaluated(capsys, model, *own, *other)
    assert loads == [model]  # for the likelihoods
    evaluated(capsys, model, said, f"--benchmark={again}", "--engine=transformers", "--out", tmp_path / "hf")
    assert loads == [model, model]


def test_results_of_other_weights_in_the_same_place_are_set_aside_and_named(own, tmp_path, capsys):
    place = tiny(tmp_path / "model", 0)
    again = tmp_path / "again.yaml"
    again.write_text((tmp_path / "said.yaml").read_text().replace("name: said", "name: again"))
    arguments = (place, "--engine=canned", "--out", tmp_path / "run")
    evaluated(capsys, *arguments, own[0])
    both = evaluated(capsys, *arguments, f"--benchmark={again}")
    assert [table["benchmark"] for table in both["tables"]] == ["said", "again"]
    tiny(place, 1)
    assert main(["evaluate", *map(str, arguments), f"--benchmark={again}"]) == 0
    aside = tmp_path / "run" / "earlier" / "1"
    told = " ".join(capsys.readouterr().err.split())
    assert "held results of another model" in told and "said, again" in told
    assert [table.name for table in read_tables(tmp_path / "run")] == ["again"]
    assert [table.name for table in read_tables(aside)] == ["said", "again"]
    (tmp_path / "run" / "results.json").write_text("{")
    assert main(["evaluate", *map(str, arguments), f"--benchmark={again}", "--json"]) == 2
    assert "broken JSON" in json.loads(capsys.readouterr().out)["error"]


def test_a_preset_and_each_flag_change_how_replies_are_drawn(model, own, tmp_path, capsys):
    said = own[0]  # its own settings: temperature 0, 4 tokens
    for flags, name in [
        ([], "t0-n4"),
        (["--preset=meditron"], "t0.4-n512"),
        (["--preset=safe-to-serve-beams", "--reply-tokens=6"], "t0.1-n6-p0.75-k40"),
        (["--temperature=1", "--top-p=0.9", "--top-k=5"], "t1-n4-p0.9-k5"),
    ]:
        document = evaluated(capsys, model, said, "--engine=canned", "--out", tmp_path / name, *flags)
        assert document["tables"][0]["facts"]["sampling"] == name
    assert main(["evaluate", model, said, "--top-p=0", "--out", str(tmp_path / "none")]) == 2
    assert "top_p" in capsys.readouterr().err


def test_a_preset_is_kept_with_what_it_leaves_out(model, own, tmp_path, capsys):
    arguments = ("--engine=canned", "--out", tmp_path / "run")
    document = evaluated(capsys, model, own[0], *arguments, "--preset=safe-to-serve")
    assert "frequency penalty" in document["preset"] and "safe-to-serve" in document["preset"]
    assert (document["settings"]["temperature"], document["settings"]["top_p"]) == (0.0, 0.95)
    # the same settings, spelled out: results found by name still hold
    again = tmp_path / "again.yaml"
    again.write_text((tmp_path / "said.yaml").read_text().replace("name: said", "name: again"))
    spelled = ("--temperature=0", "--top-p=0.95", "--top-k=0", "--reply-tokens=120")
    both = evaluated(capsys, model, f"--benchmark={again}", *arguments, *spelled)
    assert [table["benchmark"] for table in both["tables"]] == ["said", "again"]


def test_results_of_a_version_that_knew_fewer_settings_still_hold(model, own, tmp_path, capsys):
    arguments = ("--engine=canned", "--out", tmp_path / "run")
    evaluated(capsys, model, own[0], *arguments)
    path = tmp_path / "run" / "results.json"
    older = json.loads(path.read_text())
    del older["settings"]["top_p"], older["settings"]["top_k"], older["preset"]
    path.write_text(json.dumps(older))
    again = tmp_path / "again.yaml"
    again.write_text((tmp_path / "said.yaml").read_text().replace("name: said", "name: again"))
    both = evaluated(capsys, model, f"--benchmark={again}", *arguments)
    assert [table["benchmark"] for table in both["tables"]] == ["said", "again"]


def test_rows_that_ask_the_same_are_counted(model, own, tmp_path, capsys):
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in ["xx", "xy", "zz"]))
    arguments = ("evaluate", model, own[0], "--engine=canned", "--out", str(tmp_path / "run"))
    assert main(list(arguments)) == 0
    assert "said, 2 items (1 more ask the same and were left out), judge text" in capsys.readouterr().out
    assert "1 more ask the same" in (tmp_path / "run" / "results.html").read_text()


def test_prompts_longer_than_the_window_are_counted(model, own, tmp_path, capsys):
    long = " ".join(["word"] * 600)  # the tiny model reads 512 tokens
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"q": q, "a": "x"}) + "\n" for q in (long, "Hi")))
    (tmp_path / "chosen.jsonl").write_text(
        "".join(json.dumps({"q": q, "o": ["a", "b"], "a": "b"}) + "\n" for q in ("1?", f"{long}?"))
    )
    arguments = [str(model), *own, "--engine=transformers", "--dtype=float32", f"--out={tmp_path / 'run'}"]
    assert main(["evaluate", *arguments]) == 0
    assert capsys.readouterr().out.count("1 prompt longer than the model's window, cut at the beginning") == 2
    document = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {table["benchmark"]: table["prompts_cut"] for table in document["tables"]} == {"said": 1, "picked": 1}
    assert (tmp_path / "run" / "results.html").read_text().count("1 prompt longer than the model&#39;s window") == 2
    tokenizer = AutoTokenizer.from_pretrained(model)
    turns = [{"role": "user", "content": long}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    wholes = {
        "said": len(tokenizer(text, add_special_tokens=False)["input_ids"]) - (512 - 4),
        "picked": len(tokenizer(f"{long}?")["input_ids"]) - 512,  # one token of the option is predicted, not read
    }
    for table in read_tables(tmp_path / "run"):
        assert sorted(row.prompt_cut for row in table.rows) == [0, wholes[table.name]]


def test_a_benchmark_of_advice_counts_disclaimers(model, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"q": f"Which dose of {x}?"}) + "\n" for x in "abc"))
    text = "name: doses\nrows: rows.jsonl\nkind: replies\nprompt: q\nadvice: true\nreply_tokens: 4\n"
    (tmp_path / "doses.yaml").write_text(text)
    arguments = (model, f"--benchmark={tmp_path / 'doses.yaml'}", "--engine=canned", f"--out={tmp_path / 'run'}")
    (table,) = evaluated(capsys, *arguments)["tables"]
    (row,) = [one for one in table["estimates"] if (one["metric"], one["slice"]) == ("disclaimer", "all")]
    assert row["n"] + sum(row["left_out"].values()) == 3
    assert "Advice with a disclaimer" in (tmp_path / "run" / "results.html").read_text()


def test_what_is_known_without_the_weights_is_what_they_say(model, tmp_path):
    whole, known = LOAD(model), outline(model)
    assert (known.name, known.source, known.parameters) == (whole.name, whole.source, whole.parameters)
    assert known.tokenizer.get_vocab() == whole.tokenizer.get_vocab()
    network = add_lora(LOAD(model), 2, 4, 0)
    save_adapter(network, tmp_path / "adapter", model)
    assert outline(str(tmp_path / "adapter")).parameters == whole.parameters
    with pytest.raises(UsageError, match="cannot load model"):
        outline(str(tmp_path))


def test_a_run_that_was_stopped_draws_only_what_is_missing(model, own, tmp_path, capsys):
    out = tmp_path / "run"
    document = run(capsys, model, *own, "--out", out)
    assert {table["benchmark"]: table["n"] for table in document["tables"]} == {"said": 5, "picked": 3}
    assert document["engine"]["engine"] == "hf"
    whole = (out / "items" / "said.jsonl").read_text()

    folder = out / "steps" / "1-said-replies"
    shard = folder / "shard-00000.jsonl"
    lines = shard.read_text().splitlines(keepends=True)
    marked = [line.replace('"text": "', '"text": "kept ') for line in lines[:2]]
    kept = [f"{place}\t{line}" for place, line in enumerate(marked)]
    # as a killed run leaves it: two replies on disk, the third cut, no manifest
    (folder / "open-00000.jsonl").write_text("".join(kept) + f"2\t{lines[2][:20]}")
    shard.unlink()
    (folder / "manifest.json").unlink()
    run(capsys, model, *own, "--out", out)
    again = [row.reply for row in read_tables(out)[0].rows]
    before = [json.loads(line)["reply"] for line in whole.splitlines()]
    assert sum(reply.startswith("kept ") for reply in again) == 2
    assert [reply.removeprefix("kept ") for reply in again] == before


def p_yes(folder, context):
    """The probability of " yes" behind a context, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (yes,) = tokenizer(" yes")["input_ids"]
    with torch.no_grad():
        logits = network(torch.tensor([tokenizer(context)["input_ids"]])).logits[0, -1]
    return float(logits.softmax(-1)[yes])


def test_two_named_models_read_the_replies(model, readers, table, tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(generation, "score", lambda item, answer: seen.append((item, answer)) or {})
    named = [f"--judge-model={role}={folder}" for role, folder in readers.items()]
    asked = ("--benchmark=truthfulqa_generation", f"--data={table}", "--reply-tokens=6")
    run(capsys, model, *asked, *named, "--out", tmp_path / "run")
    assert [item.target["question"] for item, _ in seen] == QUESTIONS
    for item, answer in seen:
        context = f"Q: {item.target['question']}\nA: {generation.trimmed(answer.text)}\n"
        for role, word in (("truth", "True:"), ("info", "Helpful:")):
            assert answer.read[role] == pytest.approx(p_yes(readers[role], context + word), rel=0.02)


def test_without_a_reader_answers_are_unscored_and_the_cure_is_said(model, table, tmp_path, capsys):
    asked = ("--benchmark=truthfulqa_generation", f"--data={table}", "--reply-tokens=2", "--out", tmp_path / "run")
    document = run(capsys, model, *asked)
    rows = {row["metric"]: row for row in document["tables"][0]["estimates"] if row["slice"] == "all"}
    assert [rows[name]["value"] for name in generation.metrics] == [None] * 3
    (reason,) = rows["true"]["left_out"]
    assert "--judge-model truth=allenai/truthfulqa-truth-judge-llama2-7B" in reason
    assert "did you mean 'truth'" in run(capsys, model, *asked, "--judge-model=truht=x", code=2)["cure"]
    assert "names no role" in run(capsys, model, *asked, "--judge-model=truth", code=2)["error"]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("A: Yes, it is.\n\nQ: And fire?\nA: No.", "Yes, it is."),
        (" I have no comment. ", "I have no comment."),
        ("One.\n\nTwo.", "One. Two."),
        ("Q: What?", ""),
    ],
)
def test_answers_are_trimmed_as_in_the_papers_evaluation(reply, answer):
    assert generation.trimmed(reply) == answer


def test_true_and_informative_is_no_mean(table):
    (item, *_) = generation.items(table)
    both = [(0.9, 0.9), (0.9, 0.1), (0.1, 0.9), (0.2, 0.2)]
    found = [generation.score(item, Answer("x", read={"truth": t, "info": i})) for t, i in both]
    assert [one["true_and_informative"] for one in found] == [1.0, 0.0, 0.0, 0.0]
    assert generation.readers["info"](item, "A: Yes.\n\nQ: x") == ("Q: Is ice cold?\nA: Yes.\nHelpful:", " yes")


def test_what_is_left_of_the_whole_ignores_what_lay_on_disk():
    now = 0.0
    whole = Whole({"a replies": 60.0, "b replies": 30.0}, clock=lambda: now)
    with whole.step("a replies", 100) as heard:
        heard(50)  # at once: found on disk, 30 of 90
        assert whole.words() == ""
        now = 40.0
        heard(20)  # 12 of 90 in 40 seconds; 48 are left
    assert whole.words() == "; all 47%, 2 min 40 s left"
    with whole.step("a verdicts", 100) as heard:
        heard(100)
    assert whole.words() == "; all 47%, 2 min 40 s left"


def test_every_public_set_goes_through_from_its_rows_to_the_page(model, public_data, tmp_path, capsys):
    """A reply of two tokens to the first item of each: what is found out is written, whatever a module defines."""
    sets = ("xstest", "harmbench", "toxigen", "i_cona", "i_malicious", "i_controversial", "q_harm", "i_alpaca",
            "i_physical_safe", "i_physical_unsafe", "medqa", "pubmedqa")  # fmt: skip
    document = run(capsys, model, *(f"--benchmark={name}" for name in sets), "--limit=1", "--reply-tokens=2",
                   "--out", tmp_path / "run")  # fmt: skip
    assert {table["benchmark"] for table in document["tables"]} == set(sets)
    assert all(table["n"] for table in document["tables"])
    assert (tmp_path / "run" / PAGE).is_file()
