"""A name to a classifier of lines: the embedded one, or any text classifier of the hub or a folder.

ToxiGen's HateBERT, which the paper used, is `tomh/toxigen_hatebert`; its tokenizer is that of bert-base-uncased, and
its label 1 is hate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from primum.audit.toxicity import embedded
from primum.core.errors import UsageError

Classifier = Callable[[Sequence[str]], list[float]]
"""Lines to probabilities of being toxic."""
TOKENIZERS = {"tomh/toxigen_hatebert": "bert-base-uncased", "tomh/toxigen_roberta": "roberta-large"}
TOXIC = ("toxic", "toxicity", "hate", "hateful", "hate_speech", "offensive", "abusive", "label_1", "unsafe", "harmful")
BATCH, LONGEST = 32, 512


def classifier(name: str, label: str = "") -> Classifier:
    """Return the classifier of a name.

    Args:
        name: `embedded`, a hub id or a folder with a sequence classifier (safetensors).
        label: the label that means toxic; found by its name where empty.

    Raises:
        UsageError: no such model, or none of its labels is known to mean toxic.
    """
    if name == embedded.NAME:
        return embedded.score
    return _transformer(name, label)


def toxic_index(labels: Sequence[str], wanted: str = "") -> int:
    """Return which of a model's labels means toxic.

    Raises:
        UsageError: the wanted label is none of them, or none has a known name.
    """
    plain = [label.lower().replace(" ", "_").replace("-", "_") for label in labels]
    for name in [wanted.lower()] if wanted else TOXIC:
        if name in plain:
            return plain.index(name)
    raise UsageError("no label that means toxic", where=", ".join(labels), cure="name one with --toxic-label")


def _transformer(name: str, label: str) -> Classifier:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        network = AutoModelForSequenceClassification.from_pretrained(name, use_safetensors=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(TOKENIZERS.get(name, name))
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or ["unreadable"])[0]
        cure = "name a hub id you can reach or a folder with a sequence classifier in safetensors; or `embedded`"
        raise UsageError(f"cannot load classifier '{name}': {first}", cure=cure) from error
    labels = [str(network.config.id2label[i]) for i in range(network.config.num_labels)]
    index = toxic_index(labels, label)
    several = network.config.problem_type == "multi_label_classification" or network.config.num_labels == 1

    def score(lines: Sequence[str]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(lines), BATCH):
            part = list(lines[start : start + BATCH])
            batch: Any = tokenizer(part, truncation=True, max_length=LONGEST, padding=True, return_tensors="pt")
            with torch.inference_mode():
                logits = network(**batch).logits
            found += (torch.sigmoid(logits) if several else torch.softmax(logits, -1))[:, index].tolist()
        return found

    return score
