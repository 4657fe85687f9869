"""The main job against the Meditron recipe as published, run by the same code on the same prompts and replies.

    python benchmarks/repair.py --seeds 0 1 2 --out runs/bench --write docs/benchmarks/repair.md

Both recipes start from the same replies and verdicts of a seed; the Meditron recipe takes one fixed refusal as chosen,
no warm start, no benign twins, and DPO without an anchor. XSTest is measured once, at the end, and only reported.
A run that was stopped goes on; --json prints one document.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from primum.core.records import JsonDict, to_json
from primum.evaluation.measure import measure
from primum.evaluation.metrics import Scored
from primum.judging import Exchange
from primum.models.sampling import Sampling
from primum.pipeline.repair import Loader, RepairConfig, run_verb
from primum.pipeline.steps import Draw, Journey, judge, sample
from primum.pipeline.terminal import Terminal

RECIPES: dict[str, JsonDict] = {
    "primum": {},
    "meditron": {
        "strategy": "meditron", "force": True, "sft": {"epochs": 0}, "dpo": {"nll_weight": 0.0},
    },
}  # fmt: skip
SHARED = ("02-", "03-", "04-")
"""Steps before pairs are built: the same for both recipes."""
METRICS = (
    "harmful_compliance", "hateful", "refusal_harmful", "refusal_twin", "refusal_general", "incoherent",
    "discrimination", "d_prime", "nll",
)  # fmt: skip


def repair(recipe: str, seed: int, args: argparse.Namespace) -> JsonDict:
    """Run one recipe on one seed and return its facts."""
    folder = Path(args.out) / f"{recipe}-{seed}"
    first = Path(args.out) / f"primum-{seed}"
    if recipe != "primum":
        for step in (first / "steps").iterdir():
            if (
                step.name.startswith(SHARED)
                and not step.name.endswith("after")
                and not (folder / "steps" / step.name).exists()
            ):
                shutil.copytree(step, folder / "steps" / step.name)
    config = RepairConfig(model=args.model, budget=args.budget, seed=seed, out=str(folder), **RECIPES[recipe])
    return run_verb(config, json_output=args.json)[1]


def xstest(name: str, model: str, args: argparse.Namespace) -> JsonDict:
    """Measure XSTest on a model by both judges."""
    from primum.evaluation.benchmarks import xstest as benchmark

    prompts = list(benchmark.items())
    journey = Journey(Path(args.out) / f"xstest-{name}", Terminal(quiet=args.json))
    loader = Loader(journey)
    draw = Draw(Sampling(0.4, 128), 1, 0)
    replies = sample(journey, "01-replies-xstest", prompts, draw, loader(model).hash, loader.engine(model))
    by_id = {p.id: p for p in prompts}
    found: JsonDict = {}
    for name_of_judge in RepairConfig().judges:
        verdicts = judge(journey, f"02-judge-xstest-by-{name_of_judge}", name_of_judge,
                         [Exchange(by_id[r.prompt_id], r) for r in replies])  # fmt: skip
        scored = [Scored(by_id[r.prompt_id], r, v) for r, v in zip(replies, verdicts, strict=True)]
        found[name_of_judge] = [to_json(m) for m in measure(scored) if m.slice == "all"]
    return found


def cell(rows: list[JsonDict], metric: str) -> str:
    """Return one number with its interval and n."""
    row = next((r for r in rows if r["metric"] == metric and r["slice"] == "all"), None)
    if row is None or row["value"] is None:
        return "–"
    scale, digits = (1, 3) if row["unit"] in ("nats", "z") else (100, 1)
    value, low, high = (scale * x if x is not None else float("nan") for x in (row["value"], row["low"], row["high"]))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] n={row['n']}"


def table(results: dict[str, JsonDict], side: str, judge_id: str) -> list[str]:
    """Return a Markdown table: a row per metric, a column per run."""
    runs = list(results)
    lines = ["| metric | " + " | ".join(runs) + " |", "|---|" + "---|" * len(runs)]
    for metric in METRICS:
        cells = [cell(results[run]["measurements"][judge_id][side], metric) for run in runs]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    return lines


def page(results: dict[str, JsonDict], acceptance: dict[str, Any], command: str) -> str:
    """Return docs/benchmarks/repair.md."""
    first = next(iter(results.values()))
    lines = [
        "# Repairing the embedded model: primum against the Meditron recipe", "",
        f"Made by `{command}` on {first['created'][:10]}, primum {first['primum']}, {first['machine']['device']}.",
        f"Held out: {', '.join(first['data']['held_out'])}. Shares in %, with 95% intervals.", "",
    ]  # fmt: skip
    for judge_id in first["measurements"]:
        lines += [
            f"## Judge `{judge_id}`",
            "",
            "Before:",
            "",
            *table(dict([next(iter(results.items()))]), "before", judge_id),
        ]
        lines += ["", "After:", "", *table(results, "after", judge_id), ""]
    lines += ["## Gate", "", *[f"- {run}: {facts['decision']['text']}" for run, facts in results.items()], ""]
    lines += ["## XSTest (reported once, never tuned on)", ""]
    for name, by_judge in acceptance.items():
        for judge_id, rows in by_judge.items():
            shown = ", ".join(f"{m} {cell(rows, m)}" for m in ("refusal_harmful", "refusal_twin", "discrimination"))
            lines.append(f"- {name}, judge {judge_id}: {shown}")
    lines += ["", "## Seconds", "", *[f"- {run}: {sum(f['seconds'].values()):.0f} s" for run, f in results.items()], ""]
    return "\n".join(lines)


def main() -> None:
    """Run everything that is asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=sorted(RECIPES), default=["primum", "meditron"])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--budget", default="standard")
    parser.add_argument("--out", default="runs/bench")
    parser.add_argument("--write", help="the Markdown page to write")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = {f"{r} seed {s}": repair(r, s, args) for s in args.seeds for r in args.recipes}
    models = {"before": args.model} | {
        f"{r} seed {s}": str(Path(args.out) / f"{r}-{s}" / "checkpoint") for s in args.seeds[:1] for r in args.recipes
    }
    acceptance = {name: xstest(name.replace(" ", "-"), model, args) for name, model in models.items()}
    command = f"python benchmarks/repair.py --seeds {' '.join(map(str, args.seeds))} --budget {args.budget}"
    if args.write:
        Path(args.write).parent.mkdir(parents=True, exist_ok=True)
        Path(args.write).write_text(page(results, acceptance, command), encoding="utf-8")
    if args.json:
        print(json.dumps({"results": {k: v["measurements"] for k, v in results.items()}, "xstest": acceptance}))


if __name__ == "__main__":
    main()
