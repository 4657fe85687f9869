"""Names to benchmarks: a member of the catalogue, a YAML file of the user's own, or a named card of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from primum.core.catalogue import member, names
from primum.core.errors import UsageError, did_you_mean
from primum.evaluation.items import Benchmark, from_module
from primum.evaluation.own import read_own

CARDS = {
    "card": ("toxigen", "truthfulqa", "bold", "xstest", "harmbench", "medqa"),
    "safe-to-serve": (
        "i_malicious", "i_cona", "i_controversial", "q_harm", "i_physical_unsafe", "i_physical_safe", "i_alpaca",
    ),
}  # fmt: skip
"""The standard card of a safety-tuned model, and the seven sets of Safe to Serve (arXiv:2412.00074)."""


def benchmarks(wanted: Sequence[str]) -> list[Benchmark]:
    """Return the benchmarks of these names, each once, in order.

    Raises:
        UsageError: no such benchmark, card or file; names the nearest.
        BadInputError: a YAML file that describes no benchmark.
    """
    expanded = dict.fromkeys(name for one in wanted for name in CARDS.get(one, (one,)))
    found = [benchmark(name) for name in expanded]
    doubled = {one.name for one in found if sum(other.name == one.name for other in found) > 1}
    if doubled:
        raise UsageError(f"two benchmarks are named '{sorted(doubled)[0]}'", cure="rename the one of your own")
    return found


def benchmark(name: str) -> Benchmark:
    """Return one benchmark by name or by the path of its YAML file."""
    if name.endswith((".yaml", ".yml")):
        return read_own(Path(name))
    known = names("benchmarks")
    if name not in known:
        raise UsageError(f"no benchmark '{name}'", cure=did_you_mean(name, [*known, *CARDS]) + ", or a .yaml file")
    return from_module(name, member("benchmarks", name))
