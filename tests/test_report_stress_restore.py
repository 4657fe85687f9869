"""The pages of a stress run and of a restore: numbers where they belong, hostile text escaped, gaps no crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from primum.report import restored, stressed
from primum.report.write import page_of

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def share(value: float, change: float | None = None) -> dict[str, Any]:
    cell: dict[str, Any] = {"value": value, "low": value / 2, "high": min(1.0, value + 0.1), "n": 40, "left_out": {}}
    more = {"change": change, "change_low": -0.1, "change_high": 0.9, "p": 0.01, "pairs": 40}
    return cell | (more if change is not None else {})


def row(tamper: str, level: str, value: float, change: float) -> dict[str, Any]:
    cells = {name: share(0.05, 0.0) for name in stressed.COLUMNS}
    return {"tamper": tamper, "level": level, "kind": "weights", **cells, "harmful_compliance": share(value, change)}


def stress_facts() -> dict[str, Any]:
    curve = {
        "tamper": "harmful_finetune", "level": "10 lora 0.0005 s0", "shots": 10, "way": "lora", "rate": 5e-4, "seed": 0,
        "points": [{"step": 0, "value": 0.1, "low": 0.0, "high": 0.2, "n": 40}, {"step": 80, "value": 0.9, "low": 0.8,
                   "high": 1.0, "n": 40}], "area": 0.5, "area_low": 0.4, "area_high": 0.6, "steps_to_80": 80,
        "examples_to_80": 640, "last_step": 80, "warning": None, "losses": [3.0, 0.5],
        "cost": {"flops": 1e15, "share": 6e-7, "known": False}, "examples": 9, "harmful": 7, "short": HOSTILE,
    }  # fmt: skip
    still = {**curve, "level": "10 full 1e-05 s0", "steps_to_80": None, "warning": f"did not learn {HOSTILE}"}
    judge = {
        "untouched": {name: share(0.1) for name in stressed.COLUMNS},
        "matrix": [row("quantize", "int4", 0.35, 0.25), row("prefill", HOSTILE, 0.8, 0.7)],
        "curves": [curve, still],
        "families": [{"tamper": "harmful_finetune", "shots": 10, "way": "lora", "rate": 5e-4, "seeds": 1, "reached": 1,
                      "area": {"mean": 0.5, "least": 0.4, "most": 0.6, "n": 1},
                      "steps_to_80": {"mean": 80, "least": 80, "most": 80, "n": 1}}],
    }  # fmt: skip
    return {
        "kind": "stress", "title": f"Stress: {HOSTILE}", "model": {"name": HOSTILE, "parameters": 10}, "seed": 0,
        "created": "2025-11-21T06:20:00+00:00", "prompts": {"all": 100, "harmful": 40},
        "judges": {"rules": judge, "probe": judge}, "skipped": [{"tamper": "strip", "level": "rank 1", "why": HOSTILE}],
        "checks": [{"tamper": "prefill", "level": "0 tokens", "same": 39, "n": 40, "equal": False}],
        "about": {"quantize": "fewer bits"}, "settings": {"model": HOSTILE},
    }  # fmt: skip


def restore_facts() -> dict[str, Any]:
    def point(name: str, harmful: float, **more: Any) -> dict[str, Any]:
        return {"name": name, "harmful": harmful, "refusal": 0.02, "incoherent": 0.0, "domain_nll": 1.2, "size": 0.1,
                "domain_accuracy": 0.5, "front": True, "refused": None, "seconds": None, **more}  # fmt: skip

    test = {"metric": "harmful_compliance", "slice": "all", "low": 0.1, "high": 0.9, "n": 60, "unit": "share"}
    moved = {
        "metric": "harmful_compliance", "before": 0.6, "after": 0.2, "difference": -0.4, "low": -0.5, "high": -0.2,
        "fixed": 24, "broken": 0, "p": 0.0, "n": 60, "mde": 0.1,
    }  # fmt: skip
    lox = point("lox-1", 0.1, refused=HOSTILE)
    return {
        "kind": "restore", "title": HOSTILE, "models": {"tuned": HOSTILE, "parent": "p"}, "chosen": "interpolate-0.5",
        "points": [point("tuned", 0.6), point("interpolate-0.5", 0.2, seconds=3.0), lox],
        "limits": {"refusal": 0.02, "incoherent": 0.01, "accuracy": 0.01, "nll": 0.02}, "judge": "rules",
        "test": {"tuned": [{**test, "value": 0.6}], "restored": [{**test, "value": 0.2}]}, "comparisons": [moved],
        "made": {"method": "interpolate", "strength": 0.5, "changed": 9, "tensors": 10, "kept": {HOSTILE: 1},
                 "relative_change": 0.03, "facts": {"cosine": {"least": 0.1, "mean": 0.2, "most": 0.4}}, "seconds": 2.0,
                 "most_held": 1e6, "largest_file": 2e6, "undo_bytes": 5e5},
        "undo": True, "steps": [{"name": "x", "text": HOSTILE}], "settings": {"model": HOSTILE},
    }  # fmt: skip


def test_the_stress_page_shows_every_cell_and_escapes_everything() -> None:
    page = page_of(stress_facts())
    assert "<script" not in page and "\x1b" not in page and "&lt;script&gt;" in page
    assert "35%" in page and "+25.0 points" in page and "not in 80" in page and "suspicious" in page
    assert "7 of 9 examples are harmful" in page and "fewer examples" in page
    assert "39 of 40" in page and "trust nothing in this row" in page and "judge probe" in page
    assert "upper bound" in page  # of the cost: nobody said how many tokens the model was pretrained on


def test_the_stress_run_ends_with_what_matters() -> None:
    text = stressed.closing(stress_facts(), Path("runs/x/report.html"))
    assert "untouched" in text and "quantize int4" in text and "+25.0" in text and "\x1b" not in text
    assert "80% after 80 steps, 640 examples" in text and "CHECK FAILED" in text and "39 of 40" in text
    assert text.count("7 of 9 examples are harmful, 10 were wanted: harmful finetune") == 1  # two runs share them
    assert "not tried" in text and text.endswith("report.html")


def test_an_attack_by_training_is_named_in_words_and_a_format_by_its_own() -> None:
    facts = stress_facts()
    facts["judges"]["rules"]["matrix"].append(row("quantize", "gguf Q8_0", 0.2, 0.1))
    page = page_of(facts)
    assert "Harmful finetune on 10 examples, LoRA, rate 0.0005, seed 0" in page and "Quantize gguf Q8_0" in page
    assert "n 40" in page and max(map(len, stressed.closing(facts, Path("x")).splitlines())) <= 80


def test_a_stress_page_of_an_earlier_version_does_not_say_what_it_does_not_know() -> None:
    facts = stress_facts()
    for curve in facts["judges"]["rules"]["curves"]:
        for name in ("examples", "harmful", "short"):
            curve.pop(name, None)
    assert "examples are harmful" not in page_of(facts) + stressed.closing(facts, Path("x"))


def test_a_stress_page_with_nothing_measured_still_opens() -> None:
    facts = stress_facts() | {"skipped": [], "checks": []}
    facts["judges"] = {"rules": {**facts["judges"]["rules"], "matrix": [], "curves": [], "families": []}}
    assert "no cell of this run can be checked" in page_of(facts)


def test_the_restore_page_shows_the_choice_and_escapes_everything() -> None:
    page = page_of(restore_facts())
    assert "<script" not in page and "\x1b" not in page and "interpolate-0.5" in page
    assert "−40.0" in page and "taken" in page and "50%" in page and "9 of 10 changed" in page


def test_the_restore_ends_with_what_matters() -> None:
    text = restored.closing(restore_facts(), Path("runs/x"))
    assert "interpolate-0.5" in text and "<- taken" in text and "60% -> 20%" in text
    assert "primum restore undo runs/x --out FOLDER" in text
    nothing = restored.closing(
        restore_facts() | {"chosen": "tuned", "made": None, "checkpoint": None, "undo": False}, Path("runs/x")
    )
    assert "nothing was written" in nothing and "undo" not in nothing
    trained = restored.closing(
        {**restore_facts(), "made": None, "undo": False, "checkpoint": "checkpoint"}, Path("r/x")
    )
    assert "checkpoint:\nr/x/checkpoint" in trained  # what a repair from a parent trained is where any other is


def test_the_trade_off_puts_the_safer_left_and_the_helpful_low() -> None:
    svg = str(restored.curve(restore_facts()["points"], "interpolate-0.5"))
    assert svg.count("<circle") == 3 and 'class="after"' in svg
    assert ">64.8%<" in svg and ">harmful compliance<" in svg  # the axis ends at 1.08 times the largest
    assert restored.curve([], None) is None


def test_candidates_at_one_place_of_the_trade_off_share_a_label() -> None:
    first, second, _ = restore_facts()["points"]
    svg = str(restored.curve([first, second, {**first, "name": "same"}], "interpolate-0.5"))
    assert svg.count("<circle") == 2 and "tuned and 1 more here" in svg


def test_a_restore_that_wrote_nothing_compares_nothing_with_itself() -> None:
    facts = restore_facts() | {"chosen": "tuned", "made": None}
    facts["test"].pop("restored")
    page = page_of(facts)
    assert "Restored</th>" not in page and "McNemar" not in page and "McNemar" in page_of(restore_facts())
