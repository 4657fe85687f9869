"""How like a reply is to a reference answer: BLEU, ROUGE and, where a model is named, BERTScore or a learned metric.

BLEU: Papineni et al. 2002 on one sentence, by sacrebleu (13a tokens, exponential smoothing, effective order), as a
share. ROUGE-1, -2 and -L: Lin 2004, the F measure; lower-case words and numbers, no stemming, as in google-research's
rouge_score. BERTScore: Zhang et al. 2020 (arXiv:1904.09675, section 3), without idf weights and without rescaling.
Learned: the one output of a sequence classifier that reads reference and reply as a pair, in BLEURT's order (Sellam et
al. 2020, arXiv:2004.04696); its scale is the model's own.

A reference is one good answer of many: the numbers compare models on the same rows and say little by themselves.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from primum.core.errors import MissingExtraError, StepFailedError, UsageError, did_you_mean
from primum.evaluation.items import Answer, Item, Metric, Score

Likeness = Callable[[str, str], float]
"""Reply and reference in, 0 to 1 out (BERTScore: -1 to 1; a learned metric: any number)."""
PLAIN = ("bleu", "rouge1", "rouge2", "rougeL")
BERTSCORE = "bertscore"
LEARNED = "learned"
LAYERS = {
    "bert-base-uncased": 9, "bert-large-uncased": 18, "roberta-base": 10, "roberta-large": 17,
    "distilbert-base-uncased": 5, "microsoft/deberta-xlarge-mnli": 40, "microsoft/deberta-large-mnli": 18,
    "microsoft/deberta-base-mnli": 9, "bert-base-multilingual-cased": 9,
}  # fmt: skip
"""Layers that BERTScore's authors chose on WMT16 (their `model2layers`); the last one for any other model."""
_WORD = re.compile(r"[a-z0-9]+")


@cache
def bleu() -> Likeness:
    """Return what counts the sentence BLEU of a reply.

    Raises:
        MissingExtraError: no sacrebleu.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingExtraError("sacrebleu, which counts BLEU,", "likeness") from error
    metric = BLEU(effective_order=True)
    return lambda reply, reference: min(metric.sentence_score(reply, [reference]).score / 100, 1.0)


def rouge(n: int, reply: str, reference: str) -> float:
    """Return ROUGE-n's F measure: n-grams that both have, as often as both have them."""
    ours, theirs = (Counter(_grams(_words(text), n)) for text in (reply, reference))
    return _f(sum((ours & theirs).values()), sum(ours.values()), sum(theirs.values()))


def rouge_l(reply: str, reference: str) -> float:
    """Return ROUGE-L's F measure: the longest run of words that both have in the same order, gaps allowed."""
    ours, theirs = _words(reply), _words(reference)
    row = [0] * (len(theirs) + 1)
    for word in ours:
        before = 0
        for at, other in enumerate(theirs, 1):
            before, row[at] = row[at], before + 1 if word == other else max(row[at], row[at - 1])
    return _f(row[-1], len(ours), len(theirs))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def _f(both: int, ours: int, theirs: int) -> float:
    return 2 * both / (ours + theirs) if both else 0.0


def bertscore(model: str, layer: int | None, reply: str, reference: str) -> float:
    """Return BERTScore's F1: each token against the nearest of the other text, by the cosine of their vectors.

    Args:
        model: hub id or folder of an encoder.
        layer: whose vectors are compared, from 1; None takes the authors' choice, or the last one.
        reply: what the model said.
        reference: what it might have said.

    Raises:
        StepFailedError: the encoder cannot be loaded.
    """
    if not reply.strip() or not reference.strip():
        return 0.0
    (ours, mine), (theirs, yours) = (_encoder(model, layer)(text) for text in (reply, reference))
    if not mine.any() or not yours.any():
        return 0.0
    near = ours @ theirs.T
    # as in the authors' code, special tokens may be the nearest of a word and are no words themselves
    precision, recall = float(near[mine].max(dim=1).values.mean()), float(near[:, yours].max(dim=0).values.mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@cache
def _encoder(name: str, layer: int | None) -> Callable[[str], tuple[Any, Any]]:
    """Return a function from a text to its tokens' unit vectors, [tokens, width], and which are no special ones."""
    import torch
    import transformers

    library: Any = transformers  # its types are partly unknown
    try:
        words: Any = library.AutoTokenizer.from_pretrained(name)
        network: Any = library.AutoModel.from_pretrained(name, dtype=torch.float32).eval()
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StepFailedError(f"no encoder '{name}' ({reason})", cure="give bertscore:FOLDER, or a hub id") from error
    at = layer or LAYERS.get(name) or network.config.num_hidden_layers

    @torch.inference_mode()
    def vectors(text: str) -> tuple[Any, Any]:
        longest = min(words.model_max_length, getattr(network.config, "max_position_embeddings", 512))
        held: Any = words(
            text, return_tensors="pt", truncation=True, max_length=longest, return_special_tokens_mask=True
        )
        plain = ~held.pop("special_tokens_mask")[0].bool()
        found: Any = network(**held, output_hidden_states=True).hidden_states[at][0]
        return torch.nn.functional.normalize(found, dim=-1), plain

    return vectors


@cache
def learned(model: str) -> Likeness:
    """Return a learned metric: a regression model that reads reference and reply as a pair.

    Args:
        model: hub id or folder of a sequence classifier with one output, in safetensors.

    Raises:
        UsageError: it cannot be loaded, or gives several numbers.
    """
    from primum.models.sequence import load_sequence

    found = load_sequence(model)
    if len(found.labels) != 1:
        cure = "name a regression model (BLEURT's kind): a sequence classifier with num_labels 1"
        raise UsageError(f"'{model}' gives {len(found.labels)} numbers, not one", cure=cure)
    return lambda reply, reference: float(found.logits([reference], seconds=[reply])[0, 0])


def metrics_of(names: Sequence[str]) -> Mapping[str, Metric]:
    """Return the metrics of these names; a gate decides on ROUGE-L, or on the first where that is not among them."""
    decides = "rougeL" if "rougeL" in names else names[0]
    return {
        name: Metric(
            f"likeness to the reference answer by {name}", unit="score" if name.startswith(f"{LEARNED}:") else "share",
            primary=name == decides,
        )
        for name in names
    }  # fmt: skip


def score(names: Sequence[str], item: Item, answer: Answer) -> Mapping[str, Score]:
    """Return how like the reply is to the reference (`item.target["answer"]`) by each of these names."""
    return {
        name: found(answer.text, item.target["answer"]) for name, found in zip(names, map(likeness, names), strict=True)
    }


def likeness(name: str) -> Likeness:
    """Return one way of comparing by its name.

    bleu, rouge1, rouge2, rougeL, bertscore:MODEL, bertscore:MODEL:LAYER or learned:MODEL.

    Raises:
        UsageError: no such name, or no such learned metric.
        MissingExtraError: BLEU without sacrebleu.
    """
    kind, _, rest = name.partition(":")
    if kind == BERTSCORE and rest:
        model, colon, layer = rest.rpartition(":")
        return partial(bertscore, model, int(layer)) if colon and layer.isdigit() else partial(bertscore, rest, None)
    if kind == LEARNED and rest:
        return learned(rest)
    known: dict[str, Likeness] = {"rouge1": partial(rouge, 1), "rouge2": partial(rouge, 2), "rougeL": rouge_l}
    if name == "bleu":
        return bleu()
    if name not in known:
        raise UsageError(
            f"no likeness '{name}'", cure=did_you_mean(name, ["bleu", *known, "bertscore:MODEL", "learned:MODEL"])
        )
    return known[name]
