"""What a repair would run and about how long: the dry run, and what fits into some minutes.

Estimates come from this machine's measured matrix rate, and from what fraction of it each kind of work reached on two
cores with bf16 in hardware and on two without (docs/log.md); other work on the machine is not foreseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from primum.core.records import JsonDict, Prompt, digest
from primum.core.store import read_json, write_json
from primum.pipeline.choose import asked, is_general
from primum.pipeline.held import held_rows
from primum.pipeline.reading import START_GOING
from primum.pipeline.settings import RepairConfig

if TYPE_CHECKING:
    from primum.models.load import Model

SAMPLING_SHARE, TRAINING_SHARE = 0.25, 0.35
"""Fraction of the measured matrix rate that sampling and training reach at least (docs/benchmarks/repair.md)."""
REACHED = {"torch.bfloat16": (0.33, 0.6), "torch.float32": (0.42, 0.65)}
"""Sampling's and training's fraction of the rate of a CPU, by number format: fp32 products are slower, all else not."""
MEAN_PROMPT = 50
GPU_RATE = 100_000.0
FULL_REPLY = 0.8
"""Of the longest reply, what is written in the mean."""
UPPER = 0.6
"""Of the blocks, those that gradients flow through."""
SMALL_STEPS = 2.0
"""Steps of a few short rows cost so many times what their products do."""
TEXT, TEXTS = 200, 100
"""Tokens of a general prompt and its answer, and how many of them the likelihood is read on at most."""
FLAGGED = 0.4
"""Of the harmful prompts that the model is asked, those whose replies make a pair."""
FEWEST, LEAST_READ = 0.2, 0.4
"""The least share of a budget that is worth a run, and of the prompts that the linear start reads."""


def estimate(
    config: RepairConfig, train: Sequence[Prompt], test: Sequence[Prompt], model: Model, known: Sequence[Prompt]
) -> JsonDict:
    """Return the plan as JSON, with `text` for the terminal; `known`: what the linear start and the line read."""
    from primum.models.device import device

    tokens, seconds = _work(config, train, test, model.parameters, known)
    lines = [f"{name:<24}{tokens[name]:>10,} tokens   about {seconds[name]:>6,} s" for name in tokens]
    head = f"{config.budget} budget on {model.name} ({model.parameters / 1e6:.0f}M), {device().describe()}"
    prompts = f"{len(train)} prompts to learn from, {len(test)} to measure on"
    total = f"about {sum(seconds.values()) / 60:.0f} minutes in all, on a quiet machine"
    text = "\n".join([head, prompts, *lines, total])
    return {"prompts": {"train": len(train), "test": len(test)}, "tokens": tokens, "seconds": seconds, "text": text}


def _work(
    config: RepairConfig, train: Sequence[Prompt], test: Sequence[Prompt], parameters: int, known: Sequence[Prompt]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the tokens and the seconds of every step.

    A token costs two operations a parameter to read, and as many again to learn in every block that gradients reach.
    """
    from primum.models.device import device

    size, here, read = config.size, device(), MEAN_PROMPT / 2  # the template's head is read once for many
    questioned = asked(train, size)
    pairs = sum(p.intent != "benign" for p in questioned)
    drawn = len(questioned) + (size.samples - 1) * pairs
    benign = len(questioned) - pairs
    short = read + (config.sft.short_tokens + config.sft.whole_tokens) / 2
    whole = min(config.sft.whole_tokens, size.train_tokens)
    kept = read + config.sft.kept_tokens + (whole - config.sft.kept_tokens) / config.sft.kept_whole
    paired = FLAGGED * pairs
    both = paired * (1 + config.dpo.benign_share)
    held = min(len(held_rows(config)), both) * (MEAN_PROMPT + config.sft.whole_tokens)
    general = sum(is_general(p) for p in train)
    seldom = general * kept * (1 - 1 / config.sft.general_every)
    learned = config.passes * ((len(train) - benign) * short + benign * kept + held - seldom)
    general = min(general, config.dpo.replay_general * both) if config.dpo.replay_weight and pairs else 0
    replayed = paired * (short + kept) + general * kept if general else 0
    pair = config.dpo.epochs * both * (read + 1.5 * config.dpo.tokens)
    replayed = config.dpo.epochs * (replayed + held)
    measured = len(test) * (read + FULL_REPLY * size.test_tokens)
    texts = TEXT * min(TEXTS, sum(is_general(p) for p in test) / 2)
    upper, again = 2 * (UPPER + UPPER), config.rounds  # forward and backward from the first adapter
    below = ((len(train) - benign) * short + benign * kept + held) if config.passes else 0
    linear = sum(p.split == "train" for p in known)
    begun = (linear + 600) * read + min(START_GOING, benign) * (read + whole)
    line = sum(p.split == "dev" and not is_general(p) for p in known)
    # tokens, operations a token and parameter, and whether replies are drawn
    work = {
        "replies before": (measured, 2.0, True),
        "judging, likelihood": (2 * (measured / 2 * ("probe" in config.judges) + texts), 2.0, False),
        "replies to learn from": (again * drawn * (read + FULL_REPLY * size.train_tokens), 2.0, True),
        "note below the adapter": (again * below, 2 * (1 - UPPER), False),
        "note own answers": (again * (benign * kept + held), 2 * UPPER, False),
        "linear start": (begun if config.sft.linear_start else 0, 2.0, False),
        "warm start": (again * learned, SMALL_STEPS * upper, False),
        "preferences": (again * pair, 2 * (1 + UPPER) + 1, False),
        "their anchor": (again * replayed, SMALL_STEPS * upper, False),
        "line": (6 * line * read if config.line.draw else 0, 2.0, False),
        "replies after": (measured, 2.0, True),
    }
    shares = REACHED[str(here.dtype)] if here.rates else (SAMPLING_SHARE, TRAINING_SHARE)
    rate = max(here.rates.values(), default=GPU_RATE) * 1e9
    tokens = {name: round(count) for name, (count, _, _) in work.items()}
    seconds = {
        name: round(count * cost * parameters / rate / shares[0 if draws else 1])
        for name, (count, cost, draws) in work.items()
    }
    return tokens, seconds


def fitted(
    config: RepairConfig,
    folder: Path,
    model: Callable[[], Model],
    prompts: Callable[[RepairConfig], tuple[Sequence[Prompt], Sequence[Prompt]]],
    known: Callable[[RepairConfig], Sequence[Prompt]],
) -> tuple[RepairConfig, str]:
    """Return the settings with the share of the budget's prompts that ends in `config.minutes` here, and what to say.

    Where not even the least share ends in time, the linear start reads fewer prompts, too. The shares are found once a
    run folder, so that a run that goes on keeps to its prompts.

    Args:
        config: all settings.
        folder: of the run.
        model: loads what is to be repaired.
        prompts: those to learn from and those to measure on, of settings.
        known: those that the linear start reads and the line is drawn on, of settings.
    """
    from primum.models.device import device

    if not config.minutes or not device().rates:
        return config, ""
    kept = folder / "fitted.json"
    free = {"out": True, "dry_run": True, "gate": True, "line": {"share"}}  # take the same time whatever they are
    key = digest(config.model_dump(mode="json", exclude=free))
    if kept.exists() and (held := read_json(kept))["key"] == key:
        return _sharing(config, held["share"], held["linear_share"]), held["said"]
    parameters = model().parameters

    def minutes(found: RepairConfig) -> float:
        return sum(_work(found, *prompts(found), parameters, known(found))[1].values()) / 60

    shares = [config.share * step / 20 for step in range(20, round(20 * FEWEST) - 1, -1)]
    reads = [config.sft.linear_share * step / 20 for step in range(20, round(20 * LEAST_READ) - 1, -1)]
    tried = [_sharing(config, share, reads[0]) for share in shares]
    tried += [_sharing(config, shares[-1], read) for read in reads[1:]]
    found = next((one for one in tried if minutes(one) <= config.minutes), tried[-1])
    said = ""
    if found != config:
        read = found.sft.linear_share
        also = f", {read:.0%} of those that the linear start could read" if read < config.sft.linear_share else ""
        said = (
            f"{found.share:.0%} of the {config.budget} budget's prompts{also}: all would take this machine about "
            f"{minutes(config):.0f} minutes, these {minutes(found):.0f} (--minutes 0 takes all)"
        )
    if not config.dry_run:
        write_json(kept, {"key": key, "share": found.share, "linear_share": found.sft.linear_share, "said": said})
    return found, said


def _sharing(config: RepairConfig, share: float, read: float) -> RepairConfig:
    """Return the settings with other shares of prompts, and of those that the linear start reads."""
    if (share, read) == (config.share, config.sft.linear_share):
        return config
    return config.model_copy(update={"share": share, "sft": config.sft.model_copy(update={"linear_share": read})})
