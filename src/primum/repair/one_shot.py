"""The model that the method `one_shot` interpolates to: a few steps on one safe answer (arXiv:2601.01887).

The answer is the safe completion of the request's category, in one wording; which request is drawn by the seed among
those to learn from. Trained is a LoRA adapter on every layer, merged and written out as a checkpoint of its own.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from primum.core.progress import Advance, silent
from primum.core.records import Prompt
from primum.core.store import read_json, write_json
from primum.pairing.completions import safe_answers
from primum.repair.checkpoint import Checkpoint


@dataclass(frozen=True)
class Patch:
    """How the one answer is learned."""

    steps: int = 10
    learning_rate: float = 2e-4
    rank: int = 8
    seed: int = 0


def patched(model: str, prompts: Sequence[Prompt], patch: Patch, folder: Path, advance: Advance = silent) -> Checkpoint:
    """Return the fine-tuned model after it learned one safe answer; made once for the weights that lie there.

    Args:
        model: the fine-tuned model's folder.
        prompts: to learn from; one harmful one is drawn.
        patch: how it learns.
        folder: of the checkpoint.
        advance: told of steps.

    Raises:
        UsageError: there is no harmful prompt to learn from.
    """
    prompt, answer = _demonstration(prompts, patch.seed)
    weights = Checkpoint(Path(model)).stamp
    key = {"model": model, "weights": weights, "prompt": prompt.id, "answer": answer, **vars(patch)}
    mark = folder / "patch.json"
    if mark.is_file() and read_json(mark) == key:
        advance(patch.steps)
        return Checkpoint(folder)
    partial = folder.with_name(folder.name + ".partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    _train(model, prompt, answer, patch, partial, advance)
    write_json(partial / mark.name, key)
    partial.rename(folder)
    return Checkpoint(folder)


def _demonstration(prompts: Sequence[Prompt], seed: int) -> tuple[Prompt, str]:
    return random.Random(seed).choice(safe_answers(prompts, seed))


def _train(model: str, prompt: Prompt, answer: str, patch: Patch, folder: Path, advance: Advance) -> None:
    from primum.models.load import load
    from primum.training.adapter import add_lora, save_merged
    from primum.training.examples import Answered, answered
    from primum.training.short import Recipe, fine_tune

    loaded = load(model)
    network = add_lora(loaded, patch.rank, 2 * patch.rank, patch.seed)
    examples = answered([Answered(prompt.messages, answer)], loaded.tokenizer)
    for _ in fine_tune(network, examples, Recipe(patch.steps, patch.learning_rate), patch.seed):
        advance(1)
    save_merged(network, loaded.tokenizer, folder)
