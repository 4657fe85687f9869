"""What the runner itself costs: replies a second and memory with the canned engine, which answers at once.

    python benchmarks/runner.py            # 10,000 and 1,000,000 prompts, about 3 minutes
    python benchmarks/runner.py --json     # ends with one JSON line

Each size runs in a process of its own; memory is its peak (VmHWM), so this reads Linux's /proc. Every reply is written
to disk on its own before the next is taken, and every shard once more when it is full.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile

CHILD = """
import sys, time
from pathlib import Path
from primum.core.records import user
from primum.models.engines.canned import CannedEngine
from primum.models.runner import Asked, Plan, draw_all
from primum.models.sampling import Sampling
count = int(sys.argv[2])
asked = (Asked(f"p{i}", (user(f"question {i}"),)) for i in range(count))
start = time.perf_counter()
tally = draw_all(Path(sys.argv[1]), {}, asked, Plan(Sampling(0.5, 64)), CannedEngine, lambda *_: None)
taken = time.perf_counter() - start
assert tally.replies == count
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(tally.replies / taken, peak)
"""


def measured(count: int) -> tuple[float, float]:
    """Return (replies a second, peak memory in MB) of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CHILD, folder, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate, peak = map(float, done.stdout.split())
    return rate, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    rows = []
    for count in args.prompts:
        rate, peak = measured(count)
        rows.append({"prompts": count, "replies_per_second": round(rate), "peak_mb": round(peak)})
        print(f"{count:>10,} prompts  {rate:>9,.0f} replies/s  {peak:>5,.0f} MB", file=sys.stderr)
    print(json.dumps({"runner": rows}, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
