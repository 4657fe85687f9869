"""The gradient of the loss of safe answers at the fine-tuned weights: what the method `gradient` ranks by."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.progress import Advance, silent
from primum.core.records import Prompt, digest
from primum.core.store import read_json, write_json
from primum.pairing.completions import safe_answers
from primum.repair.checkpoint import SINGLE, Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

EXAMPLES = 32
"""Harmful prompts whose safe completions are scored."""


def gradient(model: str, prompts: Sequence[Prompt], seed: int, folder: Path, advance: Advance = silent) -> Checkpoint:
    """Return the gradient of every weight, under the weights' own names; made once for the weights that lie there.

    Args:
        model: the fine-tuned model's folder.
        prompts: to learn from; up to `EXAMPLES` harmful ones are taken, with a safe completion each.
        seed: of the completions' wording.
        folder: where it is written.
        advance: told of examples.

    Raises:
        UsageError: there is no harmful prompt to learn from.
    """
    rows = safe_answers(prompts, seed)[:EXAMPLES]
    weights, learned = Checkpoint(Path(model)).stamp, digest([[p.id, answer] for p, answer in rows])
    key = {"model": model, "weights": weights, "learned": learned}
    mark = folder / "gradient.json"
    if not (mark.is_file() and read_json(mark) == key):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(model, rows, folder, advance)
        write_json(mark, key)
    return Checkpoint(folder)


def _write(model: str, rows: Sequence[tuple[Prompt, str]], folder: Path, advance: Advance) -> None:
    from primum.models.load import load
    from primum.training.adapter import all_learn, write_tensors
    from primum.training.examples import Answered, answered
    from primum.training.score import score

    loaded = load(model)
    network = all_learn(loaded.network)
    examples = answered([Answered(p.messages, answer) for p, answer in rows], loaded.tokenizer)
    total = sum(len(e.answer) for e in examples)
    for one in examples:
        (-score(network, [one]).logps.sum() / total).backward()
        advance(1)
    grads = {name: p.grad.contiguous() for name, p in network.named_parameters() if p.grad is not None}
    write_tensors(_as_on_disk(grads, network, Checkpoint(Path(model))) if loaded.sees else grads, folder / SINGLE)


def _as_on_disk(grads: Mapping[str, Tensor], network: Any, own: Checkpoint) -> dict[str, Tensor]:
    """Return gradients under the names of the checkpoint: a vision-language model in memory has other ones."""
    from primum.models.language import language_names

    inside = language_names(network, grads, str(own.folder))
    return {own.held_as[inside[name]]: grad for name, grad in grads.items() if inside[name] in own.held_as}
