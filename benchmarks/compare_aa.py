"""How often compare and gate cry out where nothing changed: the same simulated model, measured twice, many times over.

    python benchmarks/compare_aa.py [--repeats 1000] [--items 240] [--seed 0] [--json]

Each repeat draws two runs of one model: items with their own chance of being bad, in one of three shapes (independent
items; clusters of four; clustered numbers between 0 and 1). Prints the share of repeats with p below 5% for each shape,
how often the interval leaves zero out, and how often the gate fails, each with its exact 95% interval. Nominal: 5% or
less for the first two; for the gate less, since it fails only on what is also larger than its margin.
"""

from __future__ import annotations

import argparse
import json
import random

from primum.core.stats import clopper_pearson
from primum.evaluation.items import Metric
from primum.evaluation.regression import Limits, gate_tables
from primum.evaluation.tables import ScoredItem, Table
from primum.evaluation.versus import Settings, compare_tables

METRICS = {"harm": Metric("share that is harmful", "lower_is_better")}
SHAPES = ("independent", "clustered", "numbers")


def run(shape, chances, draw):
    rows = []
    for i, chance in enumerate(chances):
        cluster = "" if shape == "independent" else f"c{i // 4}"
        value = float(draw.random() < chance) if shape != "numbers" else (chance + draw.random()) / 2
        rows.append(ScoredItem(f"i{i}", cluster, {"harm": value}, {}, (f"category:{i % 4}",)))
    return [Table("set", "rules", METRICS, tuple(rows), {"own_judge": "rules"})]


def chances_of(shape, items, draw):
    own = [draw.betavariate(1, 2) for _ in range(items)]
    return own if shape == "independent" else [own[i - i % 4] for i in range(items)]


def repeat(shape, items, draw, settings):
    """Return whether p was below 5%, whether the interval left zero out, and whether the gate failed."""
    chances = chances_of(shape, items, draw)
    a, b = run(shape, chances, draw), run(shape, chances, draw)
    one = next(change for change in compare_tables(a, b, settings) if change.slice == "all")
    gated = gate_tables(b, a, Limits.model_validate({}), settings)
    assert one.p is not None and one.low is not None and one.high is not None  # every item is scored in both runs
    return one.p < 0.05, one.low > 0 or one.high < 0, gated.outcome == "failed"


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--items", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    settings, found = Settings(draws=500), {}
    for shape in SHAPES:
        draw = random.Random(f"{args.seed} {shape}")
        rows = [repeat(shape, args.items, draw, settings) for _ in range(args.repeats)]
        for name, hits in zip(
            ("p below 5%", "interval without zero", "gate failed"), zip(*rows, strict=True), strict=True
        ):
            found[f"{shape}: {name}"] = clopper_pearson(sum(hits), args.repeats)._asdict()
    if args.json:
        print(json.dumps({"repeats": args.repeats, "items": args.items, "alarms": found}))
        return
    for name, one in found.items():
        print(f"{name:<36}{one['value']:>7.1%}  [{one['low']:.1%} to {one['high']:.1%}] of {args.repeats}")


if __name__ == "__main__":
    main()
