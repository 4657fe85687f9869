"""Sequence classifiers: a text in, a number or several out. Classifiers of toxicity and refusals, reward models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from primum.core.errors import UsageError

TOKENIZERS = {"tomh/toxigen_hatebert": "bert-base-uncased", "tomh/toxigen_roberta": "roberta-large"}
"""Classifiers that were published without their tokenizer."""
BATCH = 32


@dataclass(frozen=True)
class SequenceClassifier:
    """A transformers sequence classifier with its tokenizer."""

    network: Any
    tokenizer: Any

    @property
    def labels(self) -> list[str]:
        """The names of its outputs, in order."""
        config = self.network.config
        return [str(config.id2label[i]) for i in range(config.num_labels)]

    @property
    def independent(self) -> bool:
        """Whether each output has a probability of its own (sigmoid), and they do not sum to one (softmax)."""
        config = self.network.config
        return config.problem_type == "multi_label_classification" or config.num_labels == 1

    def logits(
        self, texts: Sequence[str], longest: int = 512, special: bool = True, seconds: Sequence[str] | None = None
    ) -> torch.Tensor:
        """Return the outputs (N, labels), fp32.

        Args:
            texts: what to read.
            longest: tokens that are read of each.
            special: whether the tokenizer adds its own special tokens; a chat template has put them in already.
            seconds: of each text, the second one of a pair.
        """
        found = [torch.zeros(0, self.network.config.num_labels)]
        for start in range(0, len(texts), BATCH):
            end = start + BATCH
            part = (list(texts[start:end]), None if seconds is None else list(seconds[start:end]))
            batch = self.tokenizer(
                *part, truncation=True, max_length=longest, padding=True, return_tensors="pt",
                add_special_tokens=special,
            )  # fmt: skip
            with torch.inference_mode():
                found.append(self.network(**batch).logits.float())
        return torch.cat(found)

    def probabilities(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the probability (N, labels) of each output."""
        logits = self.logits(texts)
        return torch.sigmoid(logits) if self.independent else torch.softmax(logits, -1)

    def chat(self, turns: Sequence[tuple[str, str]]) -> str:
        """Return a conversation of (role, content) as its chat template writes it.

        Raises:
            UsageError: it has no chat template.
        """
        if not self.tokenizer.chat_template:
            where = str(self.network.config.name_or_path)
            raise UsageError("no chat template", where=where, cure="save one with its tokenizer")
        said = [{"role": role, "content": content} for role, content in turns]
        return self.tokenizer.apply_chat_template(said, tokenize=False)


def load_sequence(name: str) -> SequenceClassifier:
    """Return the sequence classifier of a hub id or a folder (safetensors only).

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        network = AutoModelForSequenceClassification.from_pretrained(name, use_safetensors=True).eval()
        tokenizer: Any = AutoTokenizer.from_pretrained(TOKENIZERS.get(name, name))
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if network.config.pad_token_id is None:  # else a decoder's classifier does not know where a row ends
        network.config.pad_token_id = tokenizer.pad_token_id
    return SequenceClassifier(network, tokenizer)


def labels_of(name: str) -> list[str]:
    """Return the names of a sequence classifier's outputs by its settings: its weights are not read.

    Raises:
        UsageError: there is none, or its settings cannot be read.
    """
    from transformers import AutoConfig

    try:
        config = cast(Any, AutoConfig).from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    return [str(config.id2label[i]) for i in range(config.num_labels)]


def _unreadable(name: str, error: Exception) -> UsageError:
    first = (str(error).strip().splitlines() or ["unreadable"])[0]
    cure = "name a hub id you can reach or a folder with a sequence classifier in safetensors"
    return UsageError(f"cannot load classifier '{name}': {first}", cure=cure)
