"""`primum run vectors`: what is said of a vector that was left out, by hand; what runs, in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from primum import cli
from primum.core.store import write_json, write_jsonl
from primum.pipeline import deepen, redteam
from primum.pipeline.deepen import VECTORS, dresses
from primum.pipeline.vectors import VectorsConfig
from primum.redteam.against import Old
from primum.redteam.left_out import rows
from primum.report.write import load_facts


def outcomes(**by_vector: list[list[Any]]) -> dict[tuple[str, str], Old]:
    """Outcomes of goals g0, g1, ... under attacks v0, v1, ... of each vector: a list of goals a vector."""
    return {
        (f"g{goal}", f"{vector}{i}"): Old(vector, outcome)
        for vector, goals in by_vector.items()
        for goal, attacks in enumerate(goals)
        for i, outcome in enumerate(attacks)
    }


def test_the_gap_and_the_cost_are_paired_within_goals() -> None:
    # of the model that never saw a: g0 falls for both attacks of a and for one of b, g1 for one of a and none of b
    without_a = outcomes(a=[[True, True], [True, False]], b=[[True, False], [False, False]], plain=[[False], [False]])
    # of the one that learned a, and not b
    without_b = outcomes(a=[[True, False], [False, False]], b=[[True, True], [True, True]], plain=[[False], [True]])
    before = outcomes(a=[[True, True], [True, True]], b=[[True, True], [True, False]], plain=[[True], [True]])
    first, second = rows({"a": without_a, "b": without_b}, before)
    assert (first["vector"], first["seen"]["value"], first["unseen"]["value"]) == ("a", 0.25, 0.75)
    assert (first["untouched"]["value"], first["untouched"]["n"], first["plain"]["value"]) == (1.0, 4, 0.0)
    # gap: g0 1 - 1/2, g1 1/2 - 0; no goal differs from another, so the interval is that of pairs without a change
    assert first["gap"]["difference"] == 0.5 and first["gap"]["n"] == 2 and first["gap"]["low"] < 0.5
    # cost: g0 1 - 1/2, g1 1/2 - 0 of the model that learned it
    assert first["cost"]["difference"] == 0.5
    # of b: seen a 1/4, unseen 1; gap g0 1 - 1/2, g1 1 - 0: mean 0.75, sd 0.3536, t(1) = 12.706, half 3.18: cut at 1
    assert (second["seen"]["value"], second["unseen"]["value"]) == (0.25, 1.0)
    assert second["gap"]["difference"] == 0.75 and (second["gap"]["low"], second["gap"]["high"]) == (-1.0, 1.0)
    # cost: g0 1 - 1/2, g1 1 - 0
    assert second["cost"]["difference"] == 0.75


def test_the_cost_is_against_the_mean_of_all_that_learned_it_and_needs_one() -> None:
    runs = {
        "a": outcomes(a=[[True], [True]], b=[[False], [False]], c=[[False], [False]]),
        "b": outcomes(a=[[True], [False]], b=[[False], [False]], c=[[False], [False]]),
        "c": outcomes(a=[[False], [False]], b=[[False], [False]], c=[[False], [False]]),
    }
    # learned a: g0 (1 + 0) / 2, g1 0; never saw it: 1 and 1
    assert rows(runs, runs["a"])[0]["cost"]["difference"] == pytest.approx((0.5 + 1.0) / 2)
    assert rows({"a": runs["a"]}, runs["a"])[0]["cost"] is None


def test_what_was_not_judged_is_in_no_rate_and_counted() -> None:
    run = outcomes(a=[["no reply", True], ["no reply", "no reply"]], b=[[False, False], [False, False]])
    (row,) = rows({"a": run}, run)
    assert (row["unseen"]["value"], row["unseen"]["n"], row["unseen"]["left_out"]) == (1.0, 1, {"no reply": 3})
    assert row["gap"]["n"] == 1 and row["gap"]["difference"] == 1.0  # g0 alone


@pytest.fixture
def acted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Hardening and attacking that only note what they were asked for."""
    done: list[tuple[str, ...]] = []

    def harden(config: Any, json_output: bool) -> tuple[int, dict[str, Any]]:
        out = Path(config.out)
        (out / "checkpoint").mkdir(parents=True, exist_ok=True)
        drawn = out / "steps" / deepen.BEGINNINGS
        lent = drawn.is_dir()
        if not lent:
            write_json(drawn / "manifest.json", {"drawn for": config.depth.without})
        done.append(("harden", config.depth.without, "lent" if lent else "drawn"))
        return 0, {"outputs": {"checkpoint": str(out / "checkpoint")}}

    def attack(config: Any, json_output: bool) -> tuple[int, dict[str, Any]]:
        left_out = config.held_out[0] if config.held_out else ""
        found = [
            {"goal": goal, "attack": one.id, "vector": one.vector, "judge": judge,
             "outcome": not left_out or one.vector == left_out}
            for goal in ("g0", "g1") for one in dresses() for judge in config.judges
        ]  # fmt: skip
        write_jsonl(Path(config.out) / "outcomes.jsonl", found)
        done.append(("attack", left_out, config.model))
        assert set(config.attacks) == {one.id for one in dresses()}
        return 0, {"model": {"name": "tiny", "parameters": 10}}

    monkeypatch.setattr(deepen, "run_verb", harden)
    monkeypatch.setattr(redteam, "run_verb", attack)
    return done


def test_each_vector_is_left_out_once_and_attacked_beside_the_others(
    acted: list[tuple[str, ...]], tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "run"
    assert cli.main(["run", "vectors", "some/model", "--judges", "rules", "--out", str(out)]) == 0
    expected: list[tuple[str, ...]] = [("attack", "", "some/model")]
    for vector in VECTORS:
        made = str(out / vector / "training" / "checkpoint")
        drawn = "drawn" if vector == VECTORS[0] else "lent"
        expected += [("harden", vector, drawn), ("attack", vector, made)]
    assert acted == expected and len(VECTORS) == 5
    table = load_facts(out)["judges"]["rules"]
    assert [row["vector"] for row in table] == list(VECTORS)
    for row in table:
        values = [row[name]["value"] for name in ("untouched", "seen", "unseen")]
        assert values == [1.0, 0.0, 1.0] and row["gap"]["difference"] == row["cost"]["difference"] == 1.0
    said = capsys.readouterr().out
    assert all(len(line) <= 80 for line in said.splitlines()[:-1]) and "perspective" in said and "+100" in said
    page = (out / "report.html").read_text()
    assert "<script" not in page and "Cost of leaving out" in page and "Perspective" in page


def test_only_the_named_vectors_are_left_out(acted: list[tuple[str, ...]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert cli.main(["run", "vectors", "m", "--vectors", "logic", "--out", str(out), "--json"]) == 0
    assert [one[:2] for one in acted] == [("attack", ""), ("harden", "logic"), ("attack", "logic")]
    costs = {judge: rows[0]["cost"] for judge, rows in load_facts(out)["judges"].items()}
    assert costs == {"rules": None, "probe": None}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--vectors", "logics"), "did you mean 'logic'"),
        (("--vectors", "prefill"), "no vector 'prefill'"),
        (("--judges", "ruls"), "did you mean 'rules'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    acted: list[tuple[str, ...]], tmp_path: Path, capsys: Any, arguments: tuple[str, ...], problem: str
) -> None:
    assert cli.main(["run", "vectors", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert problem in capsys.readouterr().err and not acted and not (tmp_path / "run").exists()


def test_all_models_meet_the_same_attacks_with_the_same_settings() -> None:
    config = VectorsConfig(limit=3, reply_tokens=7, seed=2)
    both = [config.attacking(name, "m") for name in ("untouched", "logic")]
    one, other = (each.model_dump(exclude={"out", "held_out"}) for each in both)
    assert one == other and one["limit"] == 3 and one["reply_tokens"] == 7 and one["seed"] == 2
    assert json.loads(config.training("logic").model_dump_json())["depth"]["without"] == "logic"
