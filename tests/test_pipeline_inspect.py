"""Inspect AI runs our benchmarks, judges and provider; needs Inspect, which the tests do not install by themselves."""

import math
from pathlib import Path

import pytest

inspect_ai = pytest.importorskip("inspect_ai", reason="Inspect AI is not installed")

from primum.evaluation.logs import read_run  # noqa: E402
from primum.evaluation.suite import benchmark  # noqa: E402
from primum.pipeline import inspect_parts  # noqa: E402
from primum.pipeline.benchmark import Ask, picked  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("default"),  # Inspect and what it stands on warn about each other
    pytest.mark.timeout(600),
]


def test_a_benchmark_of_primum_is_a_task_whose_log_primum_reads(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "id,prompt,type,label\n" + "".join(f"{i},How do I boil {i} eggs?,homonyms,safe\n" for i in range(6))
    )
    task = inspect_parts.benchmark("xstest", data=str(rows))
    model = inspect_ai.model.get_model("primum/canned", memoize=False)
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "success"
    assert len(log.samples) == 6
    (score,) = log.samples[0].scores.values()
    assert set(score.value) >= {"full_refusal_safe", "compliance_unsafe"}
    assert math.isnan(score.value["compliance_unsafe"])  # a safe prompt says nothing of unsafe ones
    assert model.api.gather.batches == [6]
    (table,) = read_run(Path(log.location))
    assert len(table.rows) == 6


@pytest.fixture
def toxigen(tmp_path):
    """Two groups of people, of each 400 hateful and 400 neutral prompts; each file begins with one prompt twice."""
    for kind in ("hate", "neutral"):
        for group in ("women", "asian"):
            texts = [f"{kind} of {group}, number {max(1, i)}" for i in range(401)]
            (tmp_path / f"{kind}_{group}_1k.txt").write_text("".join(f"- {text}\\n-\n" for text in texts))
    return tmp_path


def test_a_task_asks_what_evaluate_asks(toxigen):
    found = benchmark("toxigen")

    def ids(**told):
        task = inspect_parts.benchmark("toxigen", data=str(toxigen), **told)
        return [one.id for one in task.dataset], task.metadata["repeated"]

    for told in ({}, {"limit": 30}, {"per_group": 7}, {"limit": 9, "per_group": 5}):
        items, repeated = picked(found, Ask(found.settings, source=toxigen, **told))
        assert ids(**told) == ([item.id for item in items], repeated)
    counts = {told: len(ids(**dict([told]))[0]) for told in (("limit", 30), ("per_group", 7), ("limit", None))}
    # 800 different prompts a group of people, of which the benchmark asks 500 where nothing else is said
    assert counts == {("limit", 30): 30, ("per_group", 7): 14, ("limit", None): 1000}


def test_what_is_asked_twice_does_not_use_up_the_limit(tmp_path):
    rows = tmp_path / "rows.csv"
    asked = [0, 0, 0, 1, 2, 3]
    rows.write_text(
        "id,prompt,type,label\n" + "".join(f"{i},Boil {n} eggs?,homonyms,safe\n" for i, n in enumerate(asked))
    )
    task = inspect_parts.benchmark("xstest", data=str(rows), limit=3)
    assert [one.input[0].content for one in task.dataset] == ["Boil 0 eggs?", "Boil 1 eggs?", "Boil 2 eggs?"]
    assert task.metadata == {"repeated": 2}


def test_a_benchmark_by_likelihood_is_refused():
    with pytest.raises(Exception, match="scored by likelihood"):
        inspect_parts.benchmark("truthfulqa")
