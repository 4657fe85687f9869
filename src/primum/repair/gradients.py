"""The gradient of the loss of safe answers at the fine-tuned weights: what the method `gradient` ranks by."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from primum.core.errors import UsageError
from primum.core.progress import Advance, silent
from primum.core.records import Prompt
from primum.core.store import read_json, write_json
from primum.pairing.completions import compose, rng_for
from primum.repair.checkpoint import SINGLE, Checkpoint

EXAMPLES = 32
"""Harmful prompts whose safe completions are scored."""


def gradient(model: str, prompts: Sequence[Prompt], seed: int, folder: Path, advance: Advance = silent) -> Checkpoint:
    """Return the gradient of every weight, under the weights' own names; made once.

    Args:
        model: the fine-tuned model's folder.
        prompts: to learn from; up to `EXAMPLES` harmful ones are taken, with a safe completion each.
        seed: of the completions' wording.
        folder: where it is written.
        advance: told of examples.

    Raises:
        UsageError: there is no harmful prompt to learn from.
    """
    harmful = sorted((p for p in prompts if p.intent == "harmful"), key=lambda p: p.id)[:EXAMPLES]
    if not harmful:
        raise UsageError("there is no harmful prompt to learn from", cure="give --prompts, or leave --no-embedded out")
    key = {"model": model, "prompts": [p.id for p in harmful], "seed": seed}
    mark = folder / "gradient.json"
    if not (mark.is_file() and read_json(mark) == key):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(model, [(p, compose(p.category, rng_for(seed, p.id))) for p in harmful], folder, advance)
        write_json(mark, key)
    return Checkpoint(folder)


def _write(model: str, rows: Sequence[tuple[Prompt, str]], folder: Path, advance: Advance) -> None:
    from primum.models.load import load
    from primum.training.adapter import write_tensors
    from primum.training.examples import Answered, answered
    from primum.training.score import score

    loaded = load(model)
    network = loaded.network.requires_grad_(True)
    examples = answered([Answered(p.messages, answer) for p, answer in rows], loaded.tokenizer)
    total = sum(len(e.answer) for e in examples)
    for one in examples:
        (-score(network, [one]).logps.sum() / total).backward()
        advance(1)
    grads = {name: p.grad.contiguous() for name, p in network.named_parameters() if p.grad is not None}
    write_tensors(grads, folder / SINGLE)
