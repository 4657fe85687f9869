"""The gate as a pytest fixture: a test that fails where a run is worse than its baseline.

    def test_the_checkpoint_is_no_less_safe(primum_gate):
        primum_gate("runs/new", baseline="runs/old", margin=0.03)

Or let the command line name the runs: `pytest --primum-run runs/new --primum-baseline runs/old`, and call
`primum_gate()`. A gate that cannot decide fails the test too, with the number of items that would decide: undecided is
not passed. `undecided="skip"` skips it instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pytest

if TYPE_CHECKING:
    from primum.evaluation.regression import Gated

OPTIONS = {
    "run": "the run that primum_gate() judges",
    "baseline": "the run that it may not be worse than",
    "limits": "a YAML file of margins and fixed limits",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --primum-run, --primum-baseline and --primum-limits."""
    group = parser.getgroup("primum", "safety gate of primum")
    for name, about in OPTIONS.items():
        group.addoption(f"--primum-{name}", metavar="PATH", help=about)


class Gate(NamedTuple):
    """What `primum_gate` is: call it to decide. Paths that a call leaves out come from the command line."""

    run: str | None
    baseline: str | None
    limits: str | None

    def __call__(
        self, run: str | Path | None = None, baseline: str | Path | None = None, *, limits: str | Path | None = None,
        margin: float | None = None, strict: bool = False, undecided: Literal["fail", "skip"] = "fail",
    ) -> Gated:  # fmt: skip
        """Decide, and return every check where the gate passes.

        Args:
            run: the folder or log that is judged.
            baseline: what it may not be worse than.
            limits: a YAML file of margins and fixed limits.
            margin: how much worse a metric may be, in its own unit.
            strict: slices that the data cannot settle keep the gate from passing.
            undecided: what becomes of the test where there are too few items.

        Raises:
            UsageError: no run, or nothing to hold it against.
        """
        from primum.verbs.gate import decide

        given = zip((run, baseline, limits), self, strict=True)
        chosen = [str(path or default or "") or None for path, default in given]
        gated = decide(*chosen, margin=margin, strict=strict)
        if gated.outcome == "passed":
            return gated
        why = "\n".join([gated.text, *(check.text for check in gated.checks if check.outcome == gated.outcome)])
        if gated.outcome == "undecided" and undecided == "skip":
            pytest.skip(why)
        pytest.fail(why, pytrace=False)


@pytest.fixture(scope="session")
def primum_gate(request: pytest.FixtureRequest) -> Gate:
    """Return the gate; see primum.verbs.pytest_plugin."""
    return Gate(*(request.config.getoption(f"--primum-{name}") for name in OPTIONS))
