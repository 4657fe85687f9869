"""A name to a classifier of lines: the embedded one, or any text classifier of the hub or a folder.

ToxiGen's HateBERT, which the paper used, is `tomh/toxigen_hatebert`; its tokenizer is that of bert-base-uncased, and
its label 1 is hate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from primum.audit.toxicity import embedded
from primum.core.errors import UsageError

Classifier = Callable[[Sequence[str]], list[float]]
"""Lines to probabilities of being toxic."""
TOXIC = ("toxic", "toxicity", "hate", "hateful", "hate_speech", "offensive", "abusive", "label_1", "unsafe", "harmful")


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


def found_label(name: str, label: str = "") -> None:
    """Find out whether there is such a classifier, and which of its labels counts, before its weights are read.

    Raises:
        UsageError: no such model, or none of its labels is known to mean toxic.
    """
    if name != embedded.NAME:
        from primum.models.sequence import labels_of

        toxic_index(labels_of(name), label)


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
    from primum.models.sequence import load_sequence

    try:
        model = load_sequence(name)
    except UsageError as error:
        raise UsageError(error.problem, cure=f"{error.cure}; or `embedded`") from error
    index = toxic_index(model.labels, label)
    return lambda lines: model.probabilities(lines)[:, index].tolist()
