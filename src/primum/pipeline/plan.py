"""What a repair would run and about how long: the dry run. Estimates come from this machine's measured matrix rate."""

from __future__ import annotations

from collections.abc import Sequence

from primum.core.records import JsonDict, Prompt
from primum.pipeline.choose import asked
from primum.pipeline.settings import RepairConfig

SAMPLING_SHARE, TRAINING_SHARE = 0.25, 0.35
"""Fraction of the measured matrix rate that sampling and training reach (docs/benchmarks/repair.md)."""
MEAN_PROMPT = 50
GPU_RATE = 100_000.0


def estimate(config: RepairConfig, train: Sequence[Prompt], test: Sequence[Prompt]) -> JsonDict:
    """Return the plan as JSON, with `text` for the terminal; loads the model to know its size."""
    from primum.models.device import device
    from primum.models.load import load

    size, model = config.size, load(config.model)
    questioned = sum(p.intent != "benign" for p in asked(train, size))
    rate = max(device().rates.values(), default=GPU_RATE) * 1e9
    tokens = {
        "replies before": len(test) * size.test_tokens,
        "replies to learn from": (len(asked(train, size)) + (size.samples - 1) * questioned) * size.train_tokens,
        "linear start": len(train) * MEAN_PROMPT // 2 if config.sft.linear_start else 0,
        "warm start": round(len(train) * (MEAN_PROMPT / 2 + config.sft.kept_tokens) * config.passes),
        "preferences": round(
            questioned
            * (1 + config.dpo.benign_share)
            / 2
            * (MEAN_PROMPT + 2 * config.dpo.tokens)
            * (config.dpo.epochs + 1)
        ),
        "replies after": len(test) * size.test_tokens,
    }
    again = ("replies to learn from", "warm start", "preferences")
    tokens = {name: n * (config.rounds if name in again else 1) for name, n in tokens.items()}
    trained = ("warm start", "preferences")
    cost = {name: (4 / TRAINING_SHARE if name in trained else 2 / SAMPLING_SHARE) for name in tokens}
    seconds = {name: round(n * cost[name] * model.parameters / rate) for name, n in tokens.items()}
    lines = [f"{name:<24}{n:>10,} tokens at most   about {seconds[name]:>5,} s" for name, n in tokens.items()]
    head = f"{config.budget} budget on {model.name} ({model.parameters / 1e6:.0f}M), {device().describe()}"
    prompts = f"{len(train)} prompts to learn from, {len(test)} to measure on"
    total = f"about {sum(seconds.values()) / 60:.0f} minutes in all, often less: replies end early"
    text = "\n".join([head, prompts, *lines, total])
    return {"prompts": {"train": len(train), "test": len(test)}, "tokens": tokens, "seconds": seconds, "text": text}
