"""Rejection sampling: of K replies to a prompt the best is kept, and the policy is fine-tuned on it.

Pure functions on scores; drawing and scoring are done by whoever calls. What is kept of all earlier rounds is replayed:
with the last round's samples alone, abilities were lost (arXiv:2307.09288, section 3.2.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from pydantic import Field

from primum.core.config import Config as Base
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training.alarms import Alarms
from primum.training.answers import learn_answers
from primum.training.examples import Example
from primum.training.loop import LoopConfig

about = "rejection sampling: the best of K replies is learned, with the best of earlier rounds (arXiv:2307.09288)"


class Config(Base):
    """Rejection-sampling fine-tuning (Llama 2, arXiv:2307.09288, section 3.2.3; RAFT, arXiv:2304.06767)."""

    learning_rate: float = Field(default=5e-4, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(default=1.0, gt=0, description="passes over what was kept")
    batch_size: int = Field(default=8, gt=0, description="rows per optimizer step")


class Kept(NamedTuple):
    """The best reply of a prompt: which one, its score, and the scores of all."""

    prompt: int
    index: int
    score: float
    scores: tuple[float, ...]


def best(scores: Sequence[Sequence[float]], texts: Sequence[Sequence[str]]) -> list[Kept]:
    """Return the best reply of each prompt; of equals the first, and of equal texts one only.

    Args:
        scores: per prompt, the gated reward of each reply; NaN where it has none.
        texts: per prompt, the replies. An empty one is never kept, and neither is one without a score.
    """
    found: list[Kept] = []
    for prompt, (row, said) in enumerate(zip(scores, texts, strict=True)):
        usable = [i for i, score in enumerate(row) if said[i].strip() and not math.isnan(score)]
        if usable:
            index = max(usable, key=lambda i: (row[i], -i))
            found.append(Kept(prompt, index, row[index], tuple(row)))
    return found


def curve(scores: Sequence[Sequence[float]]) -> list[JsonDict]:
    """Return the mean over prompts of the expected best of k replies, k = 1 to K, beside the median of one.

    Of K scores drawn, the expected maximum of k of them without replacement is the sum over the order statistics x_(i)
    of C(i - 1, k - 1) / C(K, k) x_(i): unbiased, and it cannot fall with k.
    """
    ordered = [sorted(one for one in row if not math.isnan(one)) for row in scores]
    ordered = [row for row in ordered if row]
    if not ordered:
        return []
    most = min(map(len, ordered))
    middle = fmean(median(row) for row in ordered)
    means = [fmean(_expected(row, k) for row in ordered) for k in range(1, most + 1)]
    return [{"step": k, "best": mean, "median": middle} for k, mean in enumerate(means, 1)]


def followed(scores: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> list[float]:
    """Return what somebody else gives, in expectation, the best of k replies by the scores, k = 1 to K.

    The mean over prompts, with the weights of `curve`. It can fall with k: then the choice has learned the scores
    (arXiv:2210.10760, best of n). Replies without a score are left out; of equal ones the first is the best.
    """
    rows: list[list[float]] = []
    for row, other in zip(scores, others, strict=True):
        usable = [i for i, one in enumerate(row) if not math.isnan(one)]
        if usable:
            rows.append([other[i] for i in sorted(usable, key=lambda i: (row[i], -i))])
    most = min(map(len, rows), default=0)
    return [fmean(_expected(row, k) for row in rows) for k in range(1, most + 1)]


def _expected(row: Sequence[float], k: int) -> float:
    total = math.comb(len(row), k)
    return sum(math.comb(i, k - 1) / total * value for i, value in enumerate(row) if i >= k - 1)


def temperature(curves: dict[float, list[JsonDict]]) -> float:
    """Return the sampling temperature whose best of K earns most; of equals the lowest.

    Raises:
        ValueError: no curve at all.
    """
    ends = {heat: rows[-1]["best"] for heat, rows in curves.items() if rows}
    if not ends:
        raise ValueError("no temperature was tried")
    return max(sorted(ends), key=lambda heat: ends[heat])


class Sample(NamedTuple):
    """A kept reply in the replay of all rounds.

    ends: whether it came to its end; one that a token limit cut must not teach the model to stop there.
    """

    prompt_id: str
    text: str
    score: float
    round: str
    ends: bool = True


def replayed(rounds: Sequence[Sequence[Sample]], most: int = 1) -> list[Sample]:
    """Return of each prompt its `most` best replies of all rounds, no text twice; later rounds win between equals."""
    by_prompt: dict[str, list[tuple[float, int, Sample]]] = {}
    for number, rows in enumerate(rounds):
        for sample in rows:
            by_prompt.setdefault(sample.prompt_id, []).append((sample.score, number, sample))
    found: list[Sample] = []
    for _, rows in sorted(by_prompt.items()):
        seen: set[str] = set()
        for _, _, sample in sorted(rows, key=lambda row: (-row[0], -row[1], row[2].text)):
            if sample.text not in seen and len(seen) < most:
                seen.add(sample.text)
                found.append(sample)
    return found


def train(
    config: Config, network: Any, rows: Sequence[Example], folder: Path, seed: int = 0, advance: Advance = silent
) -> tuple[list[JsonDict], Alarms]:
    """Fine-tune on what was kept: the mean NLL of an answer's tokens, each answer weighing the same."""
    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    return learn_answers(loop, network, rows, folder, advance)
