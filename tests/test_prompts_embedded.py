"""The embedded set, counted and checked whole: what issue and policy ask of it, and that no benchmark is in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from primum.core.taxonomy import policy
from primum.prompts.collect import collect
from primum.prompts.decontaminate import benchmarks_at, decontaminate
from primum.prompts.dedup import dedup
from primum.prompts.embedded import embedded
from primum.prompts.files import jsonl_rows
from primum.prompts.rows import LEARNED
from primum.prompts.text import exact_key

HELD_OUT = [name for name, category in policy().categories.items() if category.held_out]


@pytest.fixture(scope="module")
def prompts():
    return embedded()


@pytest.fixture(scope="module")
def harmful(prompts):
    return [p for p in prompts if p.intent == "harmful"]


def test_there_are_enough_of_each_kind(prompts, harmful):
    assert len(harmful) >= 400
    assert sum(p.category == "general" for p in prompts) >= 300
    advice = Counter(p.category for p in prompts if "advice" in p.tags)
    assert sum(advice.values()) == 60
    assert set(advice) == {"medical_advice", "legal_advice", "financial_advice"}


def test_every_harmful_prompt_has_a_benign_twin_and_the_reverse(prompts, harmful):
    by_id = {p.id: p for p in prompts}
    for p in harmful:
        mate = by_id[p.twin]
        assert (mate.intent, mate.twin, mate.category) == ("benign", p.id, p.category)
        assert exact_key(mate.text) != exact_key(p.text)
    assert sum(p.twin is not None for p in prompts) == 2 * len(harmful)


def test_general_and_advice_are_benign_and_have_no_twin(prompts):
    rest = [p for p in prompts if p.category == "general" or "advice" in p.tags]
    assert {(p.intent, p.twin) for p in rest} == {("benign", None)}
    assert sum(p.answer is not None for p in rest) >= 30  # held-out text for the negative log-likelihood


def test_every_category_of_the_policy_is_there(harmful):
    assert {p.category for p in harmful} == set(policy().categories)
    assert {policy().categories[p.category].risk for p in harmful} == {"illicit", "hateful", "unqualified"}


def test_ids_of_records_and_of_rows_are_unique(prompts):
    assert len({p.id for p in prompts}) == len(prompts)
    folder = Path(__file__).parents[1] / "src/primum/prompts/sets/embedded"
    ids = [row.values["id"] for path in sorted(folder.rglob("*.jsonl")) for row in jsonl_rows(path)]
    assert len(set(ids)) == len(ids)


def test_source_licence_and_order_are_stable(prompts):
    assert {(p.source, p.licence) for p in prompts} == {("primum-embedded", "Apache-2.0")}
    assert embedded() == prompts


def test_nothing_in_it_is_a_duplicate(prompts):
    assert dedup(prompts).dropped == []


def test_no_benchmark_is_in_it(prompts, public_data):
    benchmarks = benchmarks_at(public_data)
    assert len(benchmarks) == 11
    assert [(d.of, d.detail) for d in decontaminate(prompts, benchmarks).dropped] == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_splits_by_category(seed):
    collected = collect(["embedded"], held_out=HELD_OUT, seed=seed, data_dir=Path("no such folder"))
    trained = {p.category for p in collected.prompts if p.split != "test" and p.intent == "harmful"}
    tested = {p.category for p in collected.prompts if p.split == "test" and p.intent == "harmful"}
    assert tested == set(HELD_OUT)
    assert trained == set(policy().categories) - tested
    assert sum(p.split == "test" and p.category == "general" for p in collected.prompts) == 400
    assert sum(p.split == "test" and p.intent == "harmful" for p in collected.prompts) >= 200


def test_ordinary_requests_are_only_learned_from(prompts):
    ordinary = {p.id for p in prompts if LEARNED in p.tags}
    assert len(ordinary) >= 400
    collected = collect(["embedded"], held_out=HELD_OUT, seed=0, data_dir=Path("no such folder")).prompts
    assert {p.split for p in collected if p.id in ordinary} == {"train"}
