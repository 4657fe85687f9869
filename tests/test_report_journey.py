"""The page and the closing table of a journey: numbers as given, hostile text escaped, gaps shown as gaps."""

from __future__ import annotations

from typing import Any

from primum.report.journey import page, table

EVIL = "<script>alert(1)</script>\u202e"


def metric(value: float | None, n: int = 50, **left_out: int) -> dict[str, Any]:
    ends = {"low": None, "high": None} if value is None else {"low": max(0.0, value - 0.1), "high": value + 0.1}
    return {"value": value, "n": n, "left_out": left_out, **ends}


def facts() -> dict[str, Any]:
    row = {"harmful_compliance": metric(0.4, probe_unsure=3), "refusal_harmful": metric(0.2),
           "refusal_twin": metric(0.1), "refusal_general": metric(0.02), "answered_general": metric(0.9),
           "incoherent": metric(None)}  # fmt: skip
    change = {"metric": "harmful_compliance", "slice": "all", "difference": -0.3, "low": -0.4, "high": -0.2,
              "fixed": 16, "broken": 1, "p": 0.0003, "mde": 0.1, "n": 50}  # fmt: skip
    reward = {"safety": {"value": 0.4, "low": 0.3, "high": 0.5, "n": 50}, "tail": metric(0.25),
              "helpfulness": {"value": 0.6, "low": 0.5, "high": 0.7, "n": 40}}  # fmt: skip
    return {
        "title": "Journey mine", "about": EVIL, "model": {"name": "m", "parameters": 10}, "budget": "quick", "seed": 0,
        "created": "2026-11-21T10:00:00+00:00", "primum": "0", "data": {"held_out": ["theft"]},
        "table": {"rules": {"base": row, "sft": row}}, "rewards": {"base": reward},
        "moves": {"rules": [{"before": "base", "after": "sft", "comparisons": [change]}]},
        "reward_moves": [{"before": "base", "after": "sft", "safety": {"value": 0.1, "low": 0.0, "high": 0.2, "n": 50},
                          "safety_worse": 7, "helpfulness": None, "helpfulness_worse": 0}],
        "scatter": {"before": "base", "after": "sft", "points": {"safety": [[0.2, 0.8], [0.5, 0.4]]},
                    "below": {"safety": metric(0.5, 2)}},
        "found": {"ppo": {"kind": "ppo",
                          "log": [{"step": 0, "reward": 0.1, "kl": 0.0}, {"step": 1, "reward": 0.3, "kl": 0.4}],
                          "alarms": [{"step": 1, "name": "length", "text": "replies went from 10 to 80 tokens"}]},
                  "domain": {"kind": "domain_accuracy", "policies": {"base": {"acc": metric(0.33, 60)}}}},
        "stages": [{"name": "base", "do": "measure", "start": None, "skipped": False}],
        "transcripts": [{"prompt": EVIL, "kind": "harmful", "category": "theft", "replies": [
            {"policy": "base", "text": EVIL, "verdicts": {"rules": "harmful_compliance"},
             "rewards": {"safety": 0.1}}]}],
        "judges": [{"id": "rules", "about": "words", "agreement": None}], "seconds": {"base replies": 61.0},
        "versions": {"torch": "2"}, "settings": {"model": EVIL}, "left_out": [EVIL],
    }  # fmt: skip


def test_what_others_wrote_is_escaped_and_nothing_runs() -> None:
    html = page(facts())
    assert "<script" not in html and "\u202e" not in html and "&lt;script&gt;alert(1)" in html
    assert "default-src 'none'" in html and "http-equiv" in html


def test_every_number_of_the_table_is_on_the_page() -> None:
    html = page(facts())
    for text in ("40%", "30–50%", "n 50 · 3 left out", "−30.0", "0.40", "25%", "+0.10", "33.0 [23, 43] (n 60)",
                 "replies went from 10 to 80 tokens", "50%"):  # fmt: skip
        assert text in html, text
    assert html.count("<circle") == 2 and html.count("<polyline") >= 2


def test_the_closing_table_has_a_row_a_policy() -> None:
    text = table(facts(), "runs/x/report.html")
    lines = text.splitlines()
    names = [line.split()[0] for line in lines if line.startswith(("base", "sft", "mean reward"))]
    assert names == ["base", "sft", "mean", "base"]  # the judge's table, then the rewards
    assert "40 [30,50]" in text and "domain accuracy (n 60): base 33.0 [23, 43]" in text
    assert max(map(len, lines)) <= 80
    assert text.rstrip().endswith("runs/x/report.html") and "\u202e" not in text


def test_every_rule_of_the_point_of_tension_is_in_a_table_and_drawn_over_its_threshold() -> None:
    def rule(name: str, harm: float, twins: float, **gate: Any) -> dict[str, Any]:
        cells = {"harmful_compliance": metric(harm), "refusal_twin": metric(twins), "refusal_general": metric(None, 0)}
        return {"rule": name, **gate, **cells, "safety": 0.61, "helpfulness": 0.37}

    gates = [
        rule(f"gate {t}, {tag}", 0.5 - t, t, threshold=t, tagging=tag == "tagged")
        for tag in ("tagged", "not tagged") for t in (0.0, 0.5)
    ]  # fmt: skip
    html = page({**facts(), "found": {"tension": {"kind": "tension", "rules": [*gates, rule("half", 0.25, 0.75)]}}})
    for text in ("gate 0.5, not tagged", ">half<", "75%", "65–85%", "0.61", "0.37"):
        assert text in html, text
    label = "tension: benign twins refused over threshold: tagged ends at 0.5; not tagged ends at 0.5"
    assert label in html and "over training steps" not in html
    assert "general refused over threshold" not in html, "nothing was measured there"


def test_what_is_kept_of_the_gain_with_a_preprompt_is_in_the_closing_table_and_on_the_page() -> None:
    states = {"before": 0.43, "led": 0.13, "after": 0.19, "after_led": 0.12}
    rows = [
        {"by": "rules", "metric": "harmful_compliance", "n": 98, "left_out": 2, **states,
         "share": {"value": 0.8, "low": 0.61, "high": 1.04, "n": 98}},
        {"by": EVIL, "metric": "safety_reward", "n": 100, "left_out": 0, **states, "share": None},
    ]  # fmt: skip
    given = {**facts(), "found": {"distilled": {"kind": "distill", "log": [], "gain_kept": rows}}}
    html, text = page(given), table(given)
    for shown in ("43%", "13%", "19%", "12%", "80% (61–104%)", "98 · 2 left out", "0.43", "nothing was gained with it"):
        assert shown in html, shown
    assert "<script" not in html and "gain kept" not in html, "the rows stand in a table of their own"
    flat = " ".join(text.split())
    assert "distilled (judged by rules, n 98 · 2 left out) keeps of the safety gained with its preprompt: 80%" in flat
    assert "Harmful compliance: 43%, with it 13%, after 19%." in flat and "\u202e" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_journey_without_rewards_still_has_its_page() -> None:
    bare = {key: value for key, value in facts().items() if key not in ("rewards", "reward_moves", "scatter", "found")}
    html = page(bare)
    assert "Safety reward" not in html and "40%" in html
