"""Prints how many replies a second the embedded judge makes, and beside it those of another version of the sources.

    python benchmarks/judge_speed.py [--other FOLDER/src] [--turns 11] [--replies 1000]

The replies are those that ship with primum: the judge's corpus, the gold, the cases of threads. Each version has its
own process; they take turns, because a machine's speed changes from minute to minute. In every turn the prompts are
new to the judge (a blank more behind each), its words are not. Pin it: `OMP_NUM_THREADS=1 taskset -c 1 python ...`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, cast

HERE = Path(__file__).resolve().parent.parent / "src"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, help="sources of the version to compare with")
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--replies", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.replies)
    workers = [start(source, args.replies) for source in (HERE, args.other) if source]
    found = [[turn(worker) for worker in workers] for _ in range(args.turns)]
    for worker in workers:
        worker.communicate()
    for name, speeds in zip(("this", "other"), zip(*found, strict=True), strict=False):
        print(f"{name}: {show(speeds, 0)} replies a second (CPU time, n {args.replies}, {args.turns} turns)")
    if args.other:
        print(f"ratio: {show([this / other for this, other in found], 2)}")


def show(values: tuple[float, ...] | list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def start(source: Path, replies: int) -> subprocess.Popen[str]:
    """Start a process that judges the replies once per line that it reads."""
    command = [sys.executable, __file__, "--serve", "--replies", str(replies)]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(source)}
    )
    turn(worker)
    return worker


def turn(worker: subprocess.Popen[str]) -> float:
    """Return how many replies a second a process made."""
    ask, answers = cast(IO[str], worker.stdin), cast(IO[str], worker.stdout)
    ask.write("\n")
    ask.flush()
    return float(answers.readline())


def serve(replies: int) -> None:
    from primum.judging import exchange
    from primum.judging.judges import embedded

    chosen = random.Random(0).sample(shipped(), replies)
    for count, _ in enumerate(sys.stdin):
        asked = [exchange("borderline", prompt + " " * count, reply) for prompt, reply in chosen]
        begin = time.process_time()
        embedded.judge(asked)
        print(replies / (time.process_time() - begin), flush=True)


def shipped() -> list[tuple[str, str]]:
    """Return the exchanges that ship with primum, texts that are withheld left out."""
    from primum.judging import corpus
    from primum.judging.gold import load_gold

    found = [(one.prompt, one.reply) for one in (*corpus.whole(), *(one for one, _, _ in corpus.written()))]
    for name in (corpus.FOLDER / "sampled.jsonl", corpus.FOLDER.parent / "gold" / "threads.jsonl"):
        rows = [json.loads(line) for line in name.read_text(encoding="utf-8").splitlines()]
        found += [(row["prompt"], row["reply"]) for row in rows]
    return found + [(row.prompt, row.text) for row in load_gold(None).rows if row.text is not None]


if __name__ == "__main__":
    main()
