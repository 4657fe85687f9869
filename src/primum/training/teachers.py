"""A student and its two teachers, on one copy of the base where the fine-tune is an adapter, else on two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from primum.core.errors import UsageError
from primum.models.load import ADAPTER, Model, base_of, load, quiet, tokenizer_of, weights_hash
from primum.training.adapter import add_lora
from primum.training.examples import Example
from primum.training.heads import adapter_on, copy_adapter
from primum.training.methods.two_teacher import PARENT, TUNED, Teacher
from primum.training.score import answer_states, logits


@dataclass(frozen=True)
class Classroom:
    """A student with its teachers.

    Args:
        model: the student's model; its network has the adapter that learns.
        network: the same network as PEFT wraps it.
        teachers: the parent and the fine-tuned model.
        key: what their answers depend on.
        one_base: whether all three share their weights.
    """

    model: Model
    network: Any
    teachers: dict[str, Teacher]
    key: list[str]
    one_base: bool


def seated(tuned: str, parent: str | None, rank: int, seed: int) -> Classroom:
    """Load student and teachers.

    Where `tuned` is a PEFT adapter and the parent its base, one base is in memory: the parent is that base with its
    adapters off, the fine-tuned model a frozen copy of the adapter, and the student goes on with the adapter itself
    (of its own rank). Else the student is a fresh adapter on the fine-tuned model, which teaches with that adapter
    off, and the parent is a second model in memory.

    Args:
        tuned: the fine-tuned model.
        parent: the aligned model that it was fine-tuned from; None: the base that the adapter names.
        rank: of a fresh adapter.
        seed: of its first weights.

    Raises:
        UsageError: no parent is known, or it reads other tokens than the fine-tuned model.
    """
    base = _base_of(tuned)
    if base is not None and (parent is None or _same(parent, base)):
        return _on_one_base(tuned, base)
    if parent is None:
        cure = "give the aligned model with --parent MODEL (a PEFT adapter's own base is found by itself)"
        raise UsageError("the parent is not known", where=tuned, cure=cure)
    model, other = load(tuned), load(parent)
    if model.tokenizer.get_vocab() != other.tokenizer.get_vocab():
        cure = "two-teacher distillation compares token by token: the parent must have the same tokenizer"
        raise UsageError("the parent reads other tokens than the fine-tuned model", where=parent, cure=cure)
    key = [model.key, other.key]
    network = add_lora(model, rank, 2 * rank, seed)
    width = model.network.get_input_embeddings().num_embeddings
    if other.network.get_input_embeddings().num_embeddings < width:
        cure = "cut the fine-tuned model's unused rows, or pad the parent's"
        raise UsageError("the parent's embedding has fewer rows than the fine-tuned model's", where=parent, cure=cure)
    teachers = {PARENT: _teacher(other.network, width=width), TUNED: _teacher(network, None)}
    return Classroom(model, network, teachers, key, one_base=False)


def _base_of(name: str) -> str | None:
    """Return the base that an adapter folder names; None where the name is no adapter folder."""
    return base_of(Path(name)) if (Path(name) / ADAPTER).is_file() else None


def _same(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(one).resolve() == Path(other).resolve())


def _on_one_base(tuned: str, base: str) -> Classroom:
    from peft import PeftModel

    model = load(base)
    key = [model.key]
    with quiet():
        network = PeftModel.from_pretrained(model.network, tuned, is_trainable=True)
        network.add_adapter(TUNED, network.peft_config["default"])
    copy_adapter(network, "default", TUNED)
    network.set_adapter("default")
    tokenizer = tokenizer_of(tuned) if (Path(tuned) / "tokenizer_config.json").is_file() else model.tokenizer
    student = replace(model, tokenizer=tokenizer, name=tuned, hash=weights_hash(network))
    teachers = {PARENT: _teacher(network, None), TUNED: _teacher(network, TUNED)}
    return Classroom(student, network, teachers, [*key, student.key], one_base=True)


def _teacher(network: Any, *adapter: str | None, width: int | None = None) -> Teacher:
    """Return what gives a network's logits; `adapter`: with another one on, or (None) with none."""

    @torch.no_grad()
    def say(rows: Sequence[Example]) -> Tensor:
        if not adapter:
            return logits(network, answer_states(network, rows).hidden)[:, :width]
        with adapter_on(network, adapter[0]):
            return logits(network, answer_states(network, rows).hidden)

    return say
