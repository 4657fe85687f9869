"""What each weight-space method costs: seconds, memory, size of what undoes it, and whether undo gives the same bytes.

    python benchmarks/restore.py --tuned ./tuned --parent ./aligned --base embedded --out runs/restore-cost

Each method runs in a process of its own, at the middle of its sweep, so that its memory is its own: the rise of the
resident set over what the libraries take, in shards of the fine-tuned model. No model is loaded and nothing is asked;
`one_shot` and `gradient`, which train, are left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from primum.core.catalogue import member, names
from primum.core.records import JsonDict
from primum.core.store import file_sha256
from primum.repair.checkpoint import Checkpoint
from primum.repair.given import Setting
from primum.repair.source import unpacked
from primum.repair.undo import undo
from primum.repair.write import write


def once(method: str, models: dict[str, Checkpoint], out: Path) -> JsonDict:
    """Run one method and undo it; return what it took."""
    warm = models["tuned"].tensor(next(iter(models["tuned"].entries))).float()
    del warm  # the libraries are loaded now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sweep = member("repairs", method).sweep
    report = write(method, Setting(sweep[len(sweep) // 2]), models, out / "checkpoint", out)
    rise = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    undo(out, out / "checkpoint", out / "back")
    tuned = models["tuned"]
    same = all(file_sha256(tuned.folder / f) == file_sha256(out / "back" / f) for f in tuned.files)
    shutil.rmtree(out, ignore_errors=True)
    return {**report, "rise": rise, "shards": rise / tuned.largest_file / len(models), "identical": same}


def table(rows: list[JsonDict]) -> str:
    """Return the numbers as Markdown."""
    lines = [
        "| method | seconds | memory, shards of each model | change of weights | undo | identical |",
        "|---" * 6 + "|",
    ]
    for row in rows:
        share = row["undo_bytes"] / row["bytes"]
        lines.append(
            f"| {row['method']} {row['strength']:g} | {row['seconds']:.1f} | {row['shards']:.2f} "
            f"| {100 * row['relative_change']:.2f}% | {100 * share:.0f}% of the weights | {row['identical']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for role in ("tuned", "parent", "base", "unaligned"):
        parser.add_argument(f"--{role}")
    parser.add_argument("--out", default="runs/restore-cost")
    parser.add_argument("--method", help="only this one, in this process")
    args = parser.parse_args()
    given = {role: name for role in ("tuned", "parent", "base", "unaligned") if (name := getattr(args, role))}
    models = {role: unpacked(name, Path(args.out) / "models" / role).checkpoint for role, name in given.items()}
    if args.method:
        wanted = ["tuned", *member("repairs", args.method).needs]
        ours = {role: models[role] for role in wanted}
        print(json.dumps(once(args.method, ours, Path(args.out) / args.method)))
        return
    fit = [name for name in names("repairs") if set(member("repairs", name).needs) <= set(models)]
    rows: list[JsonDict] = []
    for name in fit:
        command = [sys.executable, __file__, *sys.argv[1:], "--method", name]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(found.stdout.splitlines()[-1]))
    print(table(rows))


if __name__ == "__main__":
    main()
