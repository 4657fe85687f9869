"""The page: self-contained, hostile text stays text, harmful replies stay behind a click, gaps do not break it."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from typing import Any

import pytest

from primum.report import plots
from primum.report.example import example_facts, wilson
from primum.report.page import LONGEST_REPLY, page

LOADING = {"src", "srcset", "href", "data", "action", "poster", "background", "formaction", "xlink:href"}
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(HTMLParser):
    """Reads a page: what it would load, its tags, and the texts with whether a closed <details> hides them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.events: list[str] = []
        self.texts: list[tuple[str, bool]] = []
        self.unbalanced: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in LOADING]
        self.events += [key for key, _ in attrs if key.startswith("on")]
        if tag not in VOID:
            self._open.append((tag, tag == "details" and "open" not in dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        last = self._open.pop()[0] if self._open else ""
        if last != tag:
            self.unbalanced.append(f"</{tag}> closes <{last}>")

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        hidden = any(closed for _, closed in self._open) and "summary" not in tags
        self.texts.append((data, hidden))


@pytest.mark.parametrize("outcome", ["passed", "failed", "undecided"])
def test_every_outcome_is_said_in_words(outcome: str) -> None:
    text = page(example_facts(outcome))
    assert f'<h2 id="verdict">{outcome.capitalize()}</h2>' in text
    assert f'class="banner {outcome}"' in text


def test_nothing_is_loaded_and_no_script_can_run() -> None:
    text = page(example_facts())
    read = Reader(text)
    assert [link for link in read.links if not link.startswith(("#", "data:"))] == []
    assert not {"script", "iframe", "object", "embed", "img", "form", "base"} & set(read.tags)
    assert read.events == []
    assert "default-src 'none'" in text
    assert "url(" not in text and "@import" not in text


def test_the_tags_are_balanced() -> None:
    assert Reader(page(example_facts())).unbalanced == []


def test_every_link_within_the_page_has_its_place() -> None:
    text = page(example_facts())
    assert [link for link in Reader(text).links if link.startswith("#") and f'id="{link[1:]}"' not in text] == []


def _with_reply(reply: str, intent: str = "benign") -> dict[str, Any]:
    facts = example_facts()
    row = facts["transcripts"][0] | {"prompt": reply, "before": reply, "after": reply, "intent": intent}
    facts["transcripts"] = [row | {"category": reply}]
    return facts


@pytest.mark.parametrize("intent", ["harmful", "benign"])
def test_markup_and_templates_in_a_reply_stay_text(intent: str) -> None:
    text = page(_with_reply("<script>alert(1)</script>{{7*7}}\"'><img src=x onerror=alert(1)>{% raw %}", intent))
    read = Reader(text)
    assert "script" not in read.tags and "img" not in read.tags and read.events == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}" in text


def test_markup_is_escaped_wherever_it_comes_from() -> None:
    bad = "</title></style></svg><script>alert(1)</script>"
    facts = json.loads(json.dumps(example_facts()).replace('"rules"', json.dumps(bad)))  # a judge's id, everywhere
    facts["title"] = facts["model"]["name"] = facts["decision"]["text"] = bad
    facts["steps"] = [{"name": bad, "text": bad}]
    facts["training"]["alarms"] = [{"step": 3, "name": bad, "text": bad}]
    facts["data"]["dropped"] = {bad: 1}
    facts["settings"] = {bad: bad}
    facts["decision"]["rules"] = [{"name": bad, "judge": bad, "outcome": bad, "text": bad}]
    read = Reader(page(facts))
    assert "script" not in read.tags and read.unbalanced == []


def test_a_huge_reply_is_cut_and_says_so() -> None:
    text = page(_with_reply("x" * 100_000))
    left_out = 100_000 - LONGEST_REPLY
    assert text.count(f"[{left_out:,} more characters left out]") == 2  # before and after
    assert "x" * (LONGEST_REPLY + 1) not in text


def test_control_characters_and_lone_surrogates_are_replaced() -> None:
    text = page(_with_reply("a\x00b\x1b[31mc\ud800d\u202ee"))
    assert "a\ufffdb\ufffd[31mc\ufffdd\ufffde" in text
    text.encode("utf-8")  # a lone surrogate would raise


@pytest.mark.parametrize("intent", ["harmful", "borderline", "no such intent"])
def test_harmful_prompts_and_replies_are_behind_a_click(intent: str) -> None:
    facts = example_facts()
    facts["transcripts"] = [
        row | {"intent": intent, "prompt": "PROMPT", "before": "BEFORE", "after": "AFTER", "category": category}
        for row, category in zip(facts["transcripts"], ["cyber", "drugs", "general"], strict=False)
    ]
    found = [hidden for said, hidden in Reader(page(facts)).texts if said in ("PROMPT", "BEFORE", "AFTER")]
    assert found == [True] * 9


def test_benign_transcripts_can_be_seen_at_once() -> None:
    assert ("Why is the sky blue?", False) in Reader(page(example_facts())).texts


def test_gaps_render() -> None:
    facts = example_facts()
    facts["training"] = {"sft": [], "dpo": [], "alarms": []}
    facts |= {"judges_agree": None, "transcripts": [], "comparisons": {}, "seconds": {}}
    facts["judges"] = [judge | {"agreement": None} for judge in facts["judges"]]
    facts["measurements"]["rules"]["after"][0] |= {"value": None, "low": None, "high": None, "n": 0}
    text = page(facts)
    assert "No training was logged." in text and "No alarm was raised." in text
    assert text.count("Its agreement with labels by hand was not measured.") == 2


def test_the_smallest_facts_render() -> None:
    text = page({"primum": "0", "title": "t", "budget": "quick", "seed": 0, "created": ""})
    assert "Nothing was measured." in text and "Undecided" in text


def test_numbers_are_shown_with_interval_and_n() -> None:
    low, high = wilson(0.08, 240)
    assert (round(low, 4), round(high, 4)) == (0.0519, 0.1213)  # statsmodels proportion_confint(19.2, 240, "wilson")
    text = page(example_facts())
    assert "5.2–12.1% · n 240" in text


def test_a_rule_of_the_gate_says_its_limit_with_unit_and_direction() -> None:
    text = page(example_facts("failed"))
    assert "at most +15.0 points" in text and "at least +45.0 points" in text and "at most 20.7%" in text
    assert "Refusal of benign twins<small>Refusal of benign twins rises by at most 15 points</small>" in text


def test_a_check_that_could_not_be_made_did_not_pass() -> None:
    facts = example_facts()
    before = page(facts).count("✓ passed")
    facts["pairs"]["lint"]["findings"][0]["value"] = None
    assert page(facts).count("✓ passed") == before - 1 and ">not told</span>" in page(facts)


def test_a_category_in_which_nothing_was_measured_has_no_row() -> None:
    facts = example_facts()
    facts["measurements"]["rules"]["after"].append(
        {"metric": "refusal_general", "slice": "category:not_measured", "value": 0.1, "low": 0.0, "high": 0.2, "n": 10}
    )
    assert "Not measured" not in page(facts)


def test_a_strip_puts_the_dots_where_the_numbers_are() -> None:
    rows = [{"value": 0.5, "low": 0.4, "high": 0.6}, {"value": 0.1, "low": 0.05, "high": 0.2}]
    svg = plots.strip(*rows, plots.scale(rows, "share"), "share", "Harm")
    assert 'cx="50.0%"' in svg and 'cx="10.0%"' in svg
    assert 'aria-label="Harm: 50% (95% interval 40–60%) before, 10% (95% interval 5–20%) after"' in svg


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [([0.5], "share", (0.0, 1.0)), ([0.1], "share", (0.0, 0.2)), ([-0.1, 0.6], "share", (-0.25, 1.0)),
     ([2.0, 3.0], "nats", (1.88, 3.12)), ([10.0, 10.0], "nats", (9.9, 10.1)), ([], "nats", (0.0, 1.0))],
)  # fmt: skip
def test_scales(values: list[float], unit: str, expected: tuple[float, float]) -> None:
    found = plots.scale([{"value": value} for value in values], unit)
    assert found == pytest.approx(expected)


def test_a_chart_leaves_out_what_is_no_number() -> None:
    rows = [{"step": step, "loss": loss} for step, loss in enumerate([math.log(2), math.nan, None, 0.5])]
    drawn = plots.chart("DPO", rows, {"loss": "loss"})
    assert drawn is not None
    assert drawn.svg.count("<polyline") == 1 and "nan" not in drawn.svg
    assert drawn.legend == [("series1", "loss", "0.5")] and (drawn.first, drawn.last) == ("0", "3")
    assert plots.chart("DPO", [{"step": 0, "loss": math.inf}], {"loss": "loss"}) is None
