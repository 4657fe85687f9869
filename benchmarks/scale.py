"""From one worker to two: what a cluster makes of a second core, beside two processes that share nothing.

    python benchmarks/scale.py            # 3 repeats, about 6 minutes on two cores; needs Ray (make check-ray has it)
    python benchmarks/scale.py --json     # ends with one JSON line

The embedded model, one core a worker, greedy. `raw`: the engine in one process, then in two, each given its share of
the prompts at once; nothing is written. `ray`: the same prompts by the runner over a Ray cluster of one worker, then of
two, replies written to disk; the process that hands out the prompts has no core of its own. Opening the model and a
first small batch are not timed. In every repeat each way is timed once, in turn; medians over repeats are printed.

    efficiency = (ray with 2 / ray with 1) / (raw with 2 / raw with 1)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from primum.core.records import JsonDict, Messages
from primum.models.cluster import ClusterEngine, Workers
from primum.models.opening import choose, open_engine
from primum.models.runner import Asked, Plan, draw_all
from primum.models.sampling import Opening, Request, Sampling
from primum.prompts.embedded import embedded

COUNTS = (1, 2)


def conversations(count: int) -> list[Messages]:
    """Return the first different prompts of the embedded set."""
    return list(dict.fromkeys(prompt.messages for prompt in embedded()))[:count]


def opening(args: argparse.Namespace) -> Opening:
    return Opening(batch_size=args.batch_size)


def engine_id(args: argparse.Namespace) -> str:
    return choose(args.engine, opening(args)).engine


def child(args: argparse.Namespace) -> None:
    """Draw the share that each line names (`OFFSET MODULO`); say how many new tokens it has."""
    engine, sampling = open_engine(engine_id(args), opening(args)), Sampling(0.0, args.tokens)
    asked = conversations(args.prompts)
    engine(asked[:4], Sampling(0.0, 4), 0)
    print("ready", flush=True)
    for line in sys.stdin:
        offset, modulo = map(int, line.split())
        requests = (Request(i, messages, 0) for i, messages in enumerate(asked[offset::modulo]))
        print(sum(got.reply_tokens for _, got in engine.stream(requests, sampling)), flush=True)


@contextmanager
def children(count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes of one core each that wait for work."""
    command = [sys.executable, __file__, "--child", *sys.argv[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    made = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]
    try:
        yield made
    finally:
        for process in made:
            process.communicate()


def raw(count: int) -> float:
    """Return tokens a second of processes that share nothing; the last one to end counts."""
    with children(count) as made:
        for process in made:
            assert process.stdout and process.stdout.readline() == "ready\n"
        start = time.perf_counter()
        for offset, process in enumerate(made):
            assert process.stdin
            process.stdin.write(f"{offset} {count}\n")
            process.stdin.flush()
        total = sum(int(process.stdout.readline()) for process in made if process.stdout)
        return total / (time.perf_counter() - start)


def ray(count: int, args: argparse.Namespace) -> float:
    """Return tokens a second of the runner over a cluster, everything that `primum sample` writes included."""
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise, and the raw processes are not nice either
    engine = ClusterEngine(engine_id(args), opening(args), Workers(count=count))
    with tempfile.TemporaryDirectory() as folder, closing(engine):
        engine.wait_for(count)
        asked = [Asked(str(i), messages) for i, messages in enumerate(conversations(args.prompts))]
        engine([one.messages for one in asked[: 4 * count]], Sampling(0.0, 4), 0)
        start = time.perf_counter()
        plan = Plan(Sampling(0.0, args.tokens))
        tally = draw_all(Path(folder) / "run", {}, asked, plan, lambda: engine, lambda *_: None)
        assert tally.replies == len(asked) and not tally.failed
        return tally.tokens / (time.perf_counter() - start)


def measured(args: argparse.Namespace) -> JsonDict:
    rates: dict[str, list[float]] = {f"{kind} {count}": [] for count in COUNTS for kind in ("raw", "ray")}
    for repeat in range(args.repeats):
        for name, values in rates.items():
            kind, count = name.split()
            values.append(raw(int(count)) if kind == "raw" else ray(int(count), args))
            print(f"{repeat + 1}  {name}  {values[-1]:>9,.1f} tokens/s", file=sys.stderr)

    def gains(kind: str) -> list[float]:
        return [two / one for one, two in zip(rates[f"{kind} 1"], rates[f"{kind} 2"], strict=True)]

    efficiency = [ours / theirs for ours, theirs in zip(gains("ray"), gains("raw"), strict=True)]
    return {
        "scaling_efficiency": round(statistics.median(efficiency), 3),
        "gain_ray": round(statistics.median(gains("ray")), 3),
        "gain_raw": round(statistics.median(gains("raw")), 3),
        "tokens_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "engine": engine_id(args), "prompts": args.prompts, "new_tokens": args.tokens, "repeats": args.repeats,
        "load_at_start": round(args.load, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=64, help="longest reply")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if args.child:
        return child(args)
    if args.load > 1:
        print(f"other work is running here (load {args.load:.1f}): these numbers say little", file=sys.stderr)
    print(json.dumps(measured(args), indent=None if args.json else 2))


if __name__ == "__main__":
    main()
