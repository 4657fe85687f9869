"""Side by side with Inspect AI: the same items, weights, scorer and decoding; seconds per item of each way.

    pip install "primum[inspect]"
    python benchmarks/evaluate_inspect.py [--benchmark i_alpaca] [--limit 50] [--model FOLDER] [--out FOLDER] [--json]

Four ways, each with the model loaded before the clock starts: `primum evaluate` as it comes, with the engine that
`auto` takes here; the same by transformers; Inspect with its own local provider (hf/, its default batches of 32), both
in the number format that is the fastest on this machine (or --dtype); Inspect with primum's provider, by the fastest
engine here. Greedy, with the benchmark's reply length. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path


def ours(args, folder, dtype):
    """Return seconds of `primum evaluate` without loading the model, its items, and the engine that drew replies."""
    from primum.pipeline.evaluate import EvaluateConfig, run_verb

    shutil.rmtree(folder, ignore_errors=True)
    config = EvaluateConfig(
        model=str(args.model), benchmark=(args.benchmark,), limit=args.limit, out=str(folder), dtype=dtype
    )
    start = time.perf_counter()
    _, document = run_verb(config, True)
    loading = sum(taken for name, taken in document["seconds"].items() if name.startswith("load "))
    return time.perf_counter() - start - loading, document["tables"][0]["n"], document["engine"]["engine"]


def theirs(args, folder, model):
    """Return seconds of Inspect's own run; the model is in memory."""
    import inspect_ai

    from primum.pipeline.inspect_parts import benchmark

    task = benchmark(args.benchmark, limit=args.limit)
    start = time.perf_counter()
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(folder), display="none")
    if log.status != "success":
        why = log.error.message[:300] if log.error else "no reason given"
        raise SystemExit(f"Inspect ended with {log.status}: {why}")
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--benchmark", default="i_alpaca")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of both sides")
    parser.add_argument("--out", type=Path, default=Path("runs/inspect"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    import torch
    from inspect_ai.model import get_model

    from primum.models.device import device
    from primum.models.embedded import embedded_folder

    args.model = args.model or embedded_folder()
    if args.dtype == "auto":
        args.dtype = str(device().dtype).removeprefix("torch.")
    seconds = {}
    seconds["primum evaluate"], n, engine = ours(args, args.out / "primum", "auto")
    seconds[f"primum evaluate, {args.dtype}"], _, _ = ours(args, args.out / "transformers", args.dtype)
    # its provider samples unless it is told not to, and then takes no temperature of nought
    own = get_model(
        "hf/local", model_path=str(args.model), dtype=getattr(torch, args.dtype), do_sample=False, memoize=False
    )
    seconds["inspect, hf/"] = theirs(args, args.out / "hf", own)
    provider = get_model(f"primum/{args.model}", memoize=False)
    provider.api.gather._opened = provider.api.gather.engine()  # loaded before the clock, as the others are
    seconds["inspect, primum/"] = theirs(args, args.out / "provider", provider)
    per_item = {name: taken / n for name, taken in seconds.items()}
    if args.json:
        print(json.dumps({"n": n, "dtype": args.dtype, "engine": engine, "seconds": seconds, "per_item": per_item}))
        return
    for name, taken in seconds.items():
        times = taken / seconds["primum evaluate"]
        one = f"{per_item[name]:>9.3f} s an item  {times:>6.2f} x primum evaluate"
        print(f"{name:<26}{taken:>9.1f} s {one}  (n {n}, {args.dtype}; {engine})")


if __name__ == "__main__":
    main()
