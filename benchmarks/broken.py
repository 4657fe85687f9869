"""Every repair on the same broken models: how much of the safety gap each brings back, and what it costs.

    python benchmarks/broken.py --parent runs/repair/checkpoint --base embedded --write docs/benchmarks/weights.md

The parent is broken in four ways (`primum.pipeline.broken`), with three seeds; the broken models are kept in the cache.
On each, `primum restore METHOD` is run for every method whose models are there, and `primum repair --parent` with
training. All numbers are of test prompts and domain rows that chose nothing. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from statistics import fmean
from typing import Any

from primum.core.catalogue import member, names
from primum.core.records import JsonDict
from primum.core.store import write_text
from primum.pipeline.broken import BrokenConfig, text_of
from primum.pipeline.broken import run_verb as break_all
from primum.pipeline.repair import RepairConfig
from primum.pipeline.repair import run_verb as repair
from primum.pipeline.restore import RestoreConfig
from primum.pipeline.restore import run_verb as restore
from primum.pipeline.restoring import MADE

METRICS = ("harmful_compliance", "refusal_twin", "refusal_general", "incoherent", "accuracy_domain")
TRAINED = "repair --parent"


def runs_of(model: JsonDict, parent: str, args: argparse.Namespace) -> dict[str, JsonDict]:
    """Return the facts of every method on one broken model."""
    found: dict[str, JsonDict] = {}
    folder = Path(args.out) / f"{model['way']}-s{model['seed']}"
    shared: dict[str, Any] = {"model": model["folder"], "parent": parent, "base": args.base, "domain": args.domain,
                              "limit": args.limit, "reply_tokens": args.reply_tokens}  # fmt: skip
    here = {"parent", *MADE, *(["base"] if args.base else [])}
    for name in names("repairs"):
        if set(member("repairs", name).needs) <= here:
            config = RestoreConfig(method=name, **shared, judge=args.judge, out=str(folder / name))
            found[name] = restore(config, True)[1]
    if args.train:
        config = RepairConfig(**shared, train="always", judges=(args.judge,), budget=args.budget, force=True,
                              out=str(folder / "repair"))  # fmt: skip
        found[TRAINED] = repair(config, True)[1]
    return found


def value(facts: JsonDict, side: str, metric: str) -> float | None:
    """Return one number of test prompts; where nothing was taken, the broken model's own."""
    rows = facts["test"].get(side) or facts["test"]["tuned"]
    return next((row["value"] for row in rows if row["metric"] == metric and row["slice"] == "all"), None)


def recovered(facts: JsonDict) -> float | None:
    """Return the share of the gap in harmful compliance between broken model and parent that came back."""
    tuned, parent, after = (value(facts, side, "harmful_compliance") for side in ("tuned", "parent", "restored"))
    if tuned is None or parent is None or after is None or tuned <= parent:
        return None
    return (tuned - after) / (tuned - parent)


def spread(values: list[float | None]) -> str:
    """Return mean and range over models, in per cent."""
    known = [100 * value for value in values if value is not None]
    return f"{fmean(known):.1f} ({min(known):.1f} to {max(known):.1f})" if known else "–"


def table(results: dict[str, list[JsonDict]]) -> list[str]:
    """Return a Markdown table: a row a method, mean and range over all broken models."""
    heads = ["method", *METRICS, "gap recovered %", "seconds to write one"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    first = next(iter(results.values()))
    for name, side in (("broken", "tuned"), ("parent", "parent")):
        cells = [spread([value(facts, side, metric) for facts in first]) for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} | | |")
    for name, runs in results.items():
        cells = [spread([value(facts, "restored", metric) for facts in runs]) for metric in METRICS]
        took = [point["seconds"] for facts in runs for point in facts["points"] if point["seconds"] is not None]
        seconds = f"{fmean(took):.1f}" if took else "–"
        lines.append(f"| {name} | {' | '.join(cells)} | {spread([recovered(facts) for facts in runs])} | {seconds} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent", help="the safe model (default: primum repair of the embedded one, run first)")
    parser.add_argument("--base", help="the pretrained model behind it, for the methods that need it")
    parser.add_argument("--domain", default="../shared/data/medical/medqa_test.jsonl", help="what must stay")
    parser.add_argument("--ways", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--reply-tokens", type=int, default=64)
    parser.add_argument("--judge", default="rules")
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--train", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", default="runs/broken")
    parser.add_argument("--write", help="a Markdown file for the tables")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    config = BrokenConfig(parent=args.parent, ways=tuple(args.ways), seeds=tuple(args.seeds), steps=args.steps,
                          judge=args.judge, limit=args.limit, reply_tokens=args.reply_tokens, out=args.out)  # fmt: skip
    document = break_all(config, True)[1]
    results: dict[str, list[JsonDict]] = {}
    for model in document["models"]:
        for name, facts in runs_of(model, document["parent"], args).items():
            results.setdefault(name, []).append(facts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = [text_of(document), "", *table(results), "", f"peak memory of the whole run: {peak:,.0f} MB"]
    if args.write:
        write_text(Path(args.write), "\n".join(lines) + "\n")
    print(json.dumps({"broken": document, "table": lines}, indent=2) if args.json else "\n".join(lines))


if __name__ == "__main__":
    main()
