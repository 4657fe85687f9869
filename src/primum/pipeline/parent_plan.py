"""How long a repair from a parent would take here, and the share of its prompts that ends in `--minutes`.

Counted are the replies and the texts of every candidate, of the distillation and of what is proved, and a training as
`plan` counts it, each as if it were needed. Writing candidates is not: it costs seconds where a reply costs minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from primum.core.errors import UsageError
from primum.core.records import digest
from primum.core.store import read_json, write_json
from primum.evaluation.domain import DomainRow
from primum.pipeline.plan import FEWEST, FULL_REPLY, GPU_RATE, MEAN_PROMPT, REACHED, SAMPLING_SHARE, TEXT
from primum.pipeline.plan import TRAINING_SHARE as READING_SHARE
from primum.pipeline.points import Bench
from primum.pipeline.restore import Sets
from primum.pipeline.settings import RepairConfig

STEPS = 20
"""Shares that are tried, from all down to FEWEST."""
DISTILL = 8
"""Operations a token and weight: a teacher reads, the student reads and learns."""


def weight_seconds(config: RepairConfig, sets: Sets, candidates: int, parameters: int) -> tuple[float, float]:
    """Return the seconds that grow with the number of prompts (candidates and proof), and those that do not (teachers).

    Args:
        config: of the verb.
        sets: all that would be measured on.
        candidates: strengths of weight methods.
        parameters: weights of the model.
    """
    from primum.models.device import device

    here = device()
    shares = REACHED[str(here.dtype)] if here.rates else (SAMPLING_SHARE, READING_SHARE)
    rate = max(here.rates.values(), default=GPU_RATE) * 1e9 / parameters
    teaches = config.train != "never" and bool(config.domain)
    again = (config.train != "never") + teaches  # what training makes is measured on the same prompts

    def bench(one: Bench) -> float:
        tokens = len(one.prompts) * (MEAN_PROMPT / 2 + FULL_REPLY * one.draw.sampling.max_new_tokens)
        return 2 * tokens / rate / shares[0] + 2 * TEXT * _texts(one.domain) / rate / shares[1]

    growing = (2 + candidates + again) * bench(sets.dev) + 3 * bench(sets.test)
    if not teaches:
        return growing, 0.0
    steps = config.teachers.steps // (3 if config.budget == "quick" else 1)
    replies = max(1, steps) * _batch()
    drawn = replies * (MEAN_PROMPT / 2 + FULL_REPLY * config.teachers.tokens)
    return growing, 2 * drawn / rate / shares[0] + DISTILL * drawn / rate / shares[1]


def _batch() -> int:
    from primum.training.methods import two_teacher

    return int(two_teacher.Config.model_fields["batch_size"].default)


def _texts(rows: Sequence[DomainRow]) -> int:
    return sum(max(1, len(row.options)) for row in rows)


def within(
    config: RepairConfig,
    folder: Path,
    weights: Callable[[], tuple[float, float]],
    training: Callable[[RepairConfig], float],
) -> tuple[RepairConfig, str]:
    """Return the settings with the share of prompts that ends in `config.minutes`, and what to say.

    The share is found once a run folder, so that a run that goes on keeps to its prompts.

    Args:
        config: all settings.
        folder: of the run.
        weights: seconds that grow with the share, and those that do not, of everything but training.
        training: seconds of a training with these settings; asked for all and for the least share, between which it
            grows evenly.

    Raises:
        UsageError: not even the least share ends in time.
    """
    from primum.models.device import device

    if not config.minutes or not device().rates:
        return config, ""
    kept, key = folder / "fitted.json", digest(config.model_dump(mode="json", exclude={"out", "dry_run"}))
    if kept.exists() and (held := read_json(kept))["key"] == key:
        return _sharing(config, held["share"]), held["said"]
    growing, fixed = weights()
    most, least = (0.0, 0.0)
    if config.train != "never":
        most, least = training(config), training(_sharing(config, config.share * FEWEST))

    def minutes(part: float) -> float:
        return (part * growing + fixed + least + (most - least) * (part - FEWEST) / (1 - FEWEST)) / 60

    parts = [step / STEPS for step in range(STEPS, round(STEPS * FEWEST) - 1, -1)]
    part = next((one for one in parts if minutes(one) <= config.minutes), None)
    if part is None:
        problem = f"even {FEWEST:.0%} of the prompts would take this machine about {minutes(FEWEST):.0f} minutes"
        cure = f"give --minutes {minutes(FEWEST) + 1:.0f} or more, a smaller --budget, or --train never"
        raise UsageError(problem, where="--minutes", cure=cure)
    said = "" if part == 1 else (
        f"{config.share * part:.0%} of the {config.budget} budget's prompts: all would take this machine about "
        f"{minutes(1):.0f} minutes, these {minutes(part):.0f} with distillation and training (--minutes 0 takes all)"
    )  # fmt: skip
    found = _sharing(config, config.share * part)
    if not config.dry_run:
        write_json(kept, {"key": key, "share": found.share, "said": said})
    return found, said


def _sharing(config: RepairConfig, share: float) -> RepairConfig:
    return config if share == config.share else config.model_copy(update={"share": share})
