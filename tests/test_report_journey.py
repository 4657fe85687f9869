"""The page and the closing table of a journey: numbers as given, hostile text escaped, gaps shown as gaps."""

from __future__ import annotations

import re
from typing import Any

from primum.report.journey import COLUMNS, page, table

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
        "scatters": [{"before": "base", "after": "sft", "points": {"safety": [[0.2, 0.8], [0.5, 0.4]]},
                      "below": {"safety": metric(0.5, 2)}}],
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
    reward = next(line for line in lines[lines.index(next(x for x in lines if x.startswith("mean reward"))) + 1 :])
    assert reward.split("  ")[0] == "base" and "0.40 [0.30, 0.50]" in reward and "0.60 [0.50, 0.70]" in reward
    assert reward.endswith("25 [15,35]")
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
    assert html.count('<td class="n">–</td>') >= 2 * 5, "reports of earlier versions say nothing of quadrants"


def test_one_reward_model_is_a_level_line_among_the_rules_and_says_where_the_two_heads_pull_apart() -> None:
    def rule(name: str, twins: float, apart: tuple[int, int], **more: Any) -> dict[str, Any]:
        cells = {"harmful_compliance": metric(0.5), "refusal_twin": metric(twins), "refusal_general": metric(0.0)}
        quadrants = {
            "harmful prompts": {"both high": 1, "helpful, not safe": apart[0], "both low": 2},
            "benign prompts": {"both high": 4, "safe, not helpful": apart[1]},
        }
        return {"rule": name, **more, **cells, "safety": 0.61, "helpfulness": 0.37, "quadrants": quadrants}

    gates = [
        rule(f"gate {t}", t, (7, 9), threshold=t, tagging=tagged) for tagged in (True, False) for t in (0.0, 0.2, 0.4)
    ]  # fmt: skip
    log = [{"step": 0, "loss": 0.7, "accuracy": 0.5}, {"step": 1, "loss": 0.6, "accuracy": 0.75}]
    found = {"kind": "tension", "log": log, "rules": [*gates, rule("one reward model", 0.1, (3, 6), heads=1)]}
    html = page({**facts(), "found": {"tension": found}})
    row = html[html.index('<th scope="row">one reward model</th>') :].partition("</tr>")[0]
    assert '<td class="n">3 of 6</td><td class="n">6 of 10</td>' in row
    for kind, quadrant in (("harmful", "Helpful, not safe"), ("benign", "Safe, not helpful")):
        assert f'<th scope="col" class="n">{quadrant}<small>{kind} prompts</small></th>' in html
    label = "benign twins refused over threshold: tagged ends at 0.4; not tagged ends at 0.4; one reward model ends at"
    svg = html[html.index(label) :].partition("</svg>")[0]
    # twins from 0 to 0.4 with 6% of air above: 0.1 lies at 100 - 100 * 0.1 / 0.424
    assert f"{label} 0.1" in svg and '<polyline class="series3" points="0.0,76.42 50.0,76.42 100.0,76.42"/>' in svg
    assert "tension: one reward model&#39;s loss over training steps" in html


def test_the_best_of_k_is_drawn_up_to_the_largest_k() -> None:
    curve = [{"step": k, "best": k / 20, "median": 0.4} for k in range(1, 17)]
    html = page({**facts(), "found": {"rejection-1": {"kind": "rejection", "curve": curve}}})
    title = "rejection-1: reward of the best of K over K: best ends at 0.8; median ends at 0.4"
    figure = html[html.index(title) :].partition("</figure>")[0]
    assert "<span>1</span><span>16</span>" in figure
    line = figure[figure.index('<polyline class="series1" points="') :].partition('"/>')[0]
    heights = [float(point.partition(",")[2]) for point in line.rpartition('"')[2].split()]
    assert len(heights) == 16 and heights == sorted(heights, reverse=True), "y grows downwards"


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
    bare = {key: value for key, value in facts().items() if key not in ("rewards", "reward_moves", "scatters", "found")}
    html = page(bare)
    assert "Safety reward" not in html and "40%" in html


def test_a_row_of_whole_shares_and_long_names_fits_into_eighty_columns() -> None:
    full = {"value": 1.0, "low": 0.5101, "high": 1.0, "n": 4, "left_out": {}}
    row = dict.fromkeys(COLUMNS, full)
    sure = {**row, "hateful": {**full, "low": 1.0}}
    lines = table({**facts(), "table": {"rules": {"dpo-sixteenth": row, "sft": sure}}}).splitlines()
    long, short = (next(line for line in lines if line.startswith(start)) for start in ("dpo-sixtee…", "sft"))
    assert long.count("100[51,100]") == 6 and len(long) == len(short) == 79
    assert "100 [100]" in short


def test_what_is_done_otherwise_than_published_is_told_at_the_end() -> None:
    text = table({**facts(), "corrected": ["files are never closed, " + "so that their end may be lost " * 3, EVIL]})
    assert "done otherwise than published:\n- files are never closed, so that" in text
    assert "\u202e" not in text and max(map(len, text.splitlines())) <= 80


def scaled() -> dict[str, Any]:
    rows = {
        f"share-{share}": {"harmful_compliance": metric(harm), "refusal_twin": metric(twins)}
        for share, harm, twins in ((0, 0.6, 0.1), (10, 0.4, 0.2), (100, 0.2, 0.4))
    }
    points = [{"policy": f"share-{s}", "amount": s / 100, "rows": 2 * s} for s in (0, 10, 100)]
    curve = {"do": "sft", "unit": "share of the safety demonstrations", "points": points}
    return {**facts(), "table": {"rules": rows}, "scaling": [curve]}


def test_the_scaling_curve_is_drawn_with_its_intervals_over_the_share_of_safety_data() -> None:
    html = page(scaled())
    (svg,) = re.findall(r'<svg class="chart dots".*?</svg>', html, re.S)
    assert "harmful compliance 60% (95% interval 50–70%), 40% (95% interval 30–50%), 20%" in svg
    # three places are 16.67, 50 and 83.33% across; two series stand a point to the left and to the right of them
    found = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)%"', svg)
    assert [(float(x), float(y)) for x, y in found] == [
        (15.67, 40.0), (49.0, 60.0), (82.33, 80.0), (17.67, 90.0), (51.0, 80.0), (84.33, 60.0)
    ]  # fmt: skip
    assert (
        svg.count('class="whisker"') == 6
        and '<line class="whisker" x1="15.67%" y1="50.0%" x2="15.67%" y2="30.0%"/>' in svg
    )
    assert (
        "<span>0%</span><span>10%</span><span>100%</span>" in html
        and "share of the safety demonstrations</div>" in html
    )
    assert "Mean rewards" not in html, "none of these policies has a reward"


def test_the_closing_table_has_the_scaling_curve() -> None:
    lines = table(scaled()).splitlines()
    start = lines.index("share of the safety demonstrations, judge rules, % [95% interval]")
    assert lines[start + 1].split() == ["safety", "data", "rows", "harmful", "refused", "twins", "general"]
    assert lines[start + 3].split() == ["10%", "20", "40", "[30,50]", "–", "20", "[10,30]", "–"]
    assert max(map(len, lines)) <= 80


def test_error_modes_are_a_table_with_intervals() -> None:
    shares = {"refuse": 0.5, "safe": 0.1, "unsafe": 0.25, "incoherent": 0.0, "off_topic": 0.15}
    found = {**{mode: metric(value, 20) for mode, value in shares.items()}, "unscored": 3}
    modes = {"base": {"kinds": {"benign prompts": found}, "by_set": {EVIL: found}, "unsafe": metric(0.25)}}
    one = {"kind": "error_modes", "sets": {"I-CoNa": 23}, "modes": modes, "ordering": ["base 25.0% [15.0, 35.0]"]}
    html = page({**facts(), "found": {"modes": one}})
    assert '<td class="n">25%<small>15–35% · n 20</small></td>' in html and '<td class="n">3</td>' in html
    assert "Error modes: benign prompts" in html and "least first: base 25.0% [15.0, 35.0]." in html
    assert "modes.base" not in html and "<script" not in html
    lines = table({**facts(), "found": {"modes": one}}).splitlines()
    start = lines.index("error modes, benign prompts, % [95% interval]")
    assert lines[start + 2].split() == [
        "base",
        "50",
        "[40,60]",
        "10",
        "[0,20]",
        "25",
        "[15,35]",
        "0",
        "[0,10]",
        "15",
        "[5,25]",
    ]


def test_every_step_has_its_scatter_behind_the_whole_way() -> None:
    steps = [
        {"before": before, "after": after, "points": {"safety": [[0.2, 0.8]]}, "below": {"safety": None}}
        for before, after in (("base", "ppo"), ("base", "sft"), ("sft", "ppo"))
    ]
    html = page({**facts(), "scatters": steps})
    whole, behind = html.split("Each step, prompt by prompt")
    assert whole.count('class="scatter"') == 1 and "base across, ppo up" in whole
    assert behind.count('class="scatter"') == 2 and "sft across, ppo up" in behind
    old = {key: value for key, value in facts().items() if key != "scatters"}
    assert page({**old, "scatter": steps[0]}).count('class="scatter"') == 1, "a report of an earlier version"
