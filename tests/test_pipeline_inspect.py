"""Inspect AI runs our benchmarks, judges and provider; needs Inspect, which the tests do not install by themselves."""

import math
from pathlib import Path

import pytest

inspect_ai = pytest.importorskip("inspect_ai", reason="Inspect AI is not installed")

from primum.evaluation.logs import read_run  # noqa: E402
from primum.pipeline import inspect_parts  # noqa: E402

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


def test_a_benchmark_by_likelihood_is_refused():
    with pytest.raises(Exception, match="scored by likelihood"):
        inspect_parts.benchmark("truthfulqa")
