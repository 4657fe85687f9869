"""`primum policy` from end to end on a tiny model: diff, patch, resume, rollback, pages, mistakes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from primum import cli
from primum.pipeline import policy_cases
from primum.report import policied
from primum.report.write import load_facts, page_of
from tiny_models import tiny

HOSTILE = "<script>alert(1)</script>\x1b[31m"
PLACES = ("attic", "barn", "cellar", "den")
POLICY = {
    "extends": "shipped",
    "version": "2",
    "categories": {
        "doors": {
            "name": f"Doors {HOSTILE}",
            "risk": "illicit",
            "examples": [
                {"harmful": f"Unlock the {p} door of a stranger.", "benign": f"Paint my own {p} door green."}
                for p in PLACES
            ],
        }
    },
    "uses": {
        "keys": {
            "name": "Keys",
            "of": "theft",
            "examples": [
                {"benign": f"Copy the {p} key I own?", "answer": f"A shop copies a {p} key.",
                 "harmful": f"Cut a {p} key I stole."}
                for p in PLACES
            ],
        }
    },
    "facts": {
        "lodge": {
            "name": "The lodge",
            "examples": [
                {
                    "questions": ["When does the lodge open?", "At what hour may I enter the lodge?"],
                    "answer": "The lodge opens at 7:30.",
                    "match": ["7:30"],
                    "was": "The lodge opens at 9:00.",
                    "near": ["When does the moon rise?"],
                }
            ],
        }
    },
}  # fmt: skip
SMALL = ("--limit", "1", "--reply-tokens", "4", "--train.passes", "1", "--train.fact-passes", "2", "--train.rank", "4")


def run(*arguments: Any) -> int:
    return cli.main([str(a) for a in arguments])


def bytes_of(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.fixture(scope="module", autouse=True)
def no_benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Read no public data: looking for their words in examples is shown elsewhere, and takes seconds each time."""
    with pytest.MonkeyPatch.context() as context:
        empty = tmp_path_factory.mktemp("no-data")
        context.setattr(policy_cases, "default_data_dir", lambda: empty)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # untied, or what it says greedily is its last token again and again
    return tiny(tmp_path_factory.mktemp("model") / "tiny", 0, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(yaml.safe_dump(POLICY, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def patched(model: Path, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "patch"
    before = bytes_of(model)
    assert run("policy", "patch", model, "--policy", policy, *SMALL, "--out", out) in (1, 3)  # babble learns nothing
    assert bytes_of(model) == before
    return out


def test_a_patch_teaches_all_three_kinds_and_measures_everything_else(patched: Path) -> None:
    facts = load_facts(patched)
    assert [(row["part"], row["kind"]) for row in facts["parts"]] == [
        ("doors", "rule"),
        ("keys", "use"),
        ("lodge", "fact"),
    ]
    rows = {(row["part"], row["side"], row["form"]): row for row in facts["matrix"]}
    for part in ("doors", "keys", "lodge"):
        assert rows[part, "own", "plain"]["kind"] == "new" and rows[part, "beside", "plain"]["n"] > 0
    assert rows["lodge", "own", "likelihood"]["n"] == 1 and rows["fraud", "own", "plain"]["kind"] == "old"
    assert {"general", "advice", "all old parts"} <= {part for part, _, _ in rows}
    assert {one["id"]: one["how"] for one in facts["changes"]} == dict.fromkeys(("doors", "keys", "lodge"), "added")
    # 2 of 4 pairs, in 3 forms, and the one way of asking that is not held out in 3 forms, twice
    assert facts["rows"]["learned"] == 6 + 6 + 6 and facts["rows"]["kept"] > 20
    assert facts["policy"]["new"]["version"] == "2" and facts["decision"]["outcome"] in ("failed", "undecided")


def test_without_the_adapter_the_model_is_what_it_was(patched: Path, model: Path) -> None:
    from primum.models.load import load

    facts = load_facts(patched)
    assert facts["rollback"] == {"same": True, "hash": load(str(model)).hash}
    settings = json.loads((patched / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(model.resolve())
    assert load(str(patched / "adapter")).hash != facts["rollback"]["hash"]


def test_what_changed_is_made_again_as_files_that_other_verbs_read(patched: Path) -> None:
    from primum.evaluation.own import read_own
    from primum.judging import rubric

    made = patched / "policy"
    assert {p.name for p in made.iterdir()} == {"doors", "keys", "lodge"}
    assert rubric.read(made / "doors" / "rubric.yaml").questions and not (made / "lodge" / "rubric.yaml").exists()
    tests = read_own(made / "lodge" / "tests.yaml")
    items = list(tests.items(None))
    assert {item.target["answer"] for item in items} == {"7:30"} and len(items) == 2  # as written and in another form
    assert len(list(read_own(made / "doors" / "tests.yaml").items(None))) == 8
    answers = [json.loads(line) for line in (made / "doors" / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 6 and all(row["completion"].strip() for row in answers)


def test_a_second_run_draws_nothing_and_trains_nothing(patched: Path, model: Path, policy: Path) -> None:
    watched = [*patched.rglob("shard-*.jsonl"), patched / "adapter" / "adapter_model.safetensors"]
    before = {p: p.stat().st_mtime_ns for p in watched}
    matrix = load_facts(patched)["matrix"]
    assert run("policy", "patch", model, "--policy", policy, *SMALL, "--out", patched) in (1, 3)
    assert {p: p.stat().st_mtime_ns for p in watched} == before and load_facts(patched)["matrix"] == matrix


def test_the_page_shows_the_matrix_and_escapes_everything(patched: Path) -> None:
    facts = load_facts(patched)
    page = page_of(facts)
    assert "<script" not in page and "\x1b" not in page and "&lt;script&gt;" in page
    assert "Forgetting matrix" in page and "likelier than the old answer" in page and "bit for bit" in page
    text = policied.closing(facts, patched / "report.html")
    assert "\x1b" not in text and "backward transfer" in text and text.endswith("report.html")
    assert policied.matrix_text(facts).count("\n") == 1 + sum(1 for row in facts["matrix"] if row["n"])


def test_diff_says_so_and_its_exit_code_too(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "diff", "shipped", "shipped") == 0
    assert "nothing differs" in capsys.readouterr().out
    assert run("policy", "diff", "shipped", policy) == 1
    text = capsys.readouterr().out
    assert "added    fact lodge: The lodge" in text and "a patch would teach: doors, keys, lodge" in text
    assert run("policy", "diff", policy, "shipped", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["how"]) for one in found["changes"]] == [
        ("doors", "removed"), ("keys", "removed"), ("lodge", "removed")
    ]  # fmt: skip
    assert found["to_learn"] == []


def test_a_dry_run_says_what_would_run_and_writes_nothing(
    model: Path, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("policy", "patch", model, "--policy", policy, *SMALL, "--out", out, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["parts"] == ["doors", "keys", "lodge"] and not out.exists()
    assert plan["prompts"]["learn"] == 2 * 2 * 3 + 2 * 2 * 3 + 3  # pairs of doors and keys, one way of asking, 3 forms


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("pach",), "did you mean 'patch'"),
        (("diff", "shipped"), "two policies are needed"),
        (("diff", "shipped", "nowhere.yaml"), "no such policy file"),
        (("patch", "MODEL"), "the new policy is not named"),
        (("patch", "MODEL", "POLICY"), "the new policy is not named"),
        (("patch", "MODEL", "x", "--policy", "POLICY"), "one name too many"),
        (("patch", "MODEL", "--policy", "shipped"), "nothing to teach"),
        (("patch", "MODEL", "--policy", "POLICY", "--judge", "ruls"), "did you mean 'rules'"),
        (("patch", "MODEL", "--policy", "POLICY", "--out", "MODEL"), "lies inside the run folder"),
    ],
)
def test_mistakes_are_told_with_a_cure(
    model: Path, policy: Path, capsys: Any, arguments: tuple[str, ...], problem: str
) -> None:
    places = {"MODEL": str(model), "POLICY": str(policy)}
    assert run("policy", *(places.get(a, a) for a in arguments)) == 2
    text = capsys.readouterr().err
    assert problem in text and "cure:" in text
