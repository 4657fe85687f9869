"""What a bad set of pairs looks like, in numbers, before an hour is spent on training with it.

The worst fault is a set whose sides can be told apart without the prompt: a model then learns the surface ("refusals
are good") and not when to refuse. Direct preference optimisation rests on the difference of the two sides
(arXiv:2305.18290, equation 7), so whatever separates them is what is learnt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any

from primum.core.errors import UsageError
from primum.core.records import Pair
from primum.pairing.replies import echoes

MIN_PAIRS = 20
FOLDS = 5
OPENING_WORDS = 6
AUC_LIMIT, AUC_SEVERE = 0.75, 0.95
LENGTH_LIMIT = 2.0
TEMPLATE_LIMIT = 0.30
IDENTICAL_LIMIT, IDENTICAL_SEVERE = 0.3, 0.9
BENIGN_LIMIT = 1.0
BALANCE_LIMIT = 5.0
ECHO_SEVERE = 0.5

CURES = {
    "pairs": "give more prompts, more replies to each, or a judge that scores them",
    "prompt_blind_auc": "vary the wording of both sides, and let the same kind of text be chosen and rejected",
    "identical_chosen": "answer harmful prompts with safe completions in many forms (strategy safe_completion)",
    "prompt_echo": "cut the prompt off the replies: only new tokens belong in a pair",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One number about the set. `value` is None where there were too few pairs to tell; that is no fault."""

    name: str
    value: float | None
    limit: float
    ok: bool
    severe: bool
    text: str


@dataclass(frozen=True, slots=True)
class Lint:
    """All findings; `passed` if every one is within its limit."""

    findings: list[Finding]
    passed: bool


def lint(pairs: Sequence[Pair]) -> Lint:
    """Return what the set looks like; nothing is changed and nothing raised."""
    harmful = [pair for pair in pairs if pair.kind == "harmful"]
    findings = [
        _size(pairs),
        _prompt_blind(pairs),
        _length_ratio(pairs),
        _template_share(pairs),
        _identical_chosen(harmful),
        _benign_to_harmful(pairs, harmful),
        _category_balance(harmful),
        _prompt_echo(pairs),
        _duplicates(pairs),
    ]
    return Lint(findings, all(finding.ok for finding in findings))


def refuse(found: Lint, force: bool) -> None:
    """Stop before training on a set that teaches the wrong thing.

    Raises:
        UsageError: a severe finding, and `force` is not set; says what and the cure.
    """
    severe = [finding for finding in found.findings if finding.severe]
    if severe and not force:
        cures = "; ".join(CURES[finding.name] for finding in severe)
        problem = "these pairs would teach the wrong thing: " + "; ".join(finding.text for finding in severe)
        raise UsageError(problem, cure=f"{cures}; or force it, to train on them all the same")


def prompt_blind_auc(pairs: Sequence[Pair], folds: int = FOLDS) -> float:
    """Return how well chosen is told from rejected by its words alone: .5 not at all, 1 always.

    Logistic regression on the presence of words and pairs of words, cross-validated; a prompt's texts are in one fold.
    """
    # Named, not imported: scikit-learn carries no types, and only this function needs it.
    words: Any = import_module("sklearn.feature_extraction.text")
    linear: Any = import_module("sklearn.linear_model")
    selection: Any = import_module("sklearn.model_selection")
    pipeline: Any = import_module("sklearn.pipeline")
    model = pipeline.make_pipeline(
        words.CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=r"(?u)\w[\w'’]*|[^\w\s]"),
        linear.LogisticRegression(solver="liblinear", max_iter=1000),
    )
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    labels = [1] * len(pairs) + [0] * len(pairs)
    groups = [pair.prompt_id for pair in pairs] * 2
    folded = selection.GroupKFold(n_splits=folds)
    scores = selection.cross_val_score(model, texts, labels, groups=groups, cv=folded, scoring="roc_auc")
    return float(scores.mean())


def _size(pairs: Sequence[Pair]) -> Finding:
    n = len(pairs)
    return Finding("pairs", float(n), 1.0, n > 0, n == 0, f"{n} pairs" if n else "there are no pairs")


def _prompt_blind(pairs: Sequence[Pair]) -> Finding:
    name = "prompt_blind_auc"
    if len(pairs) < MIN_PAIRS or len({pair.prompt_id for pair in pairs}) < FOLDS:
        return _too_few(name, len(pairs), AUC_LIMIT)
    auc = prompt_blind_auc(pairs)
    text = f"without the prompt, words alone tell chosen from rejected with AUC {auc:.2f} (at most {AUC_LIMIT})"
    return Finding(name, auc, AUC_LIMIT, auc <= AUC_LIMIT, auc > AUC_SEVERE, text)


def _length_ratio(pairs: Sequence[Pair]) -> Finding:
    if len(pairs) < MIN_PAIRS:
        return _too_few("length_ratio", len(pairs), LENGTH_LIMIT)
    chosen = median(len(pair.chosen.split()) for pair in pairs)
    rejected = median(len(pair.rejected.split()) for pair in pairs)
    ratio = chosen / max(rejected, 1)
    text = f"half of the chosen have over {chosen:g} words, half of the rejected over {rejected:g}"
    text += f" (ratio {ratio:.2f}, from {1 / LENGTH_LIMIT:g} to {LENGTH_LIMIT:g})"
    return Finding("length_ratio", ratio, LENGTH_LIMIT, 1 / LENGTH_LIMIT <= ratio <= LENGTH_LIMIT, False, text)


def _template_share(pairs: Sequence[Pair]) -> Finding:
    if len(pairs) < MIN_PAIRS:
        return _too_few("template_share", len(pairs), TEMPLATE_LIMIT)
    openings = Counter(" ".join(pair.chosen.casefold().split()[:OPENING_WORDS]) for pair in pairs)
    opening, count = openings.most_common(1)[0]
    share = count / len(pairs)
    text = f"{share:.0%} of the chosen begin with '{opening}' (at most {TEMPLATE_LIMIT:.0%})"
    return Finding("template_share", share, TEMPLATE_LIMIT, share <= TEMPLATE_LIMIT, False, text)


def _identical_chosen(harmful: Sequence[Pair]) -> Finding:
    if len(harmful) < MIN_PAIRS:
        return _too_few("identical_chosen", len(harmful), IDENTICAL_LIMIT, "harmful ")
    share = Counter(pair.chosen.strip() for pair in harmful).most_common(1)[0][1] / len(harmful)
    text = f"{share:.0%} of the harmful prompts have the same chosen text (at most {IDENTICAL_LIMIT:.0%})"
    ok, severe = share <= IDENTICAL_LIMIT, share > IDENTICAL_SEVERE
    return Finding("identical_chosen", share, IDENTICAL_LIMIT, ok, severe, text)


def _benign_to_harmful(pairs: Sequence[Pair], harmful: Sequence[Pair]) -> Finding:
    if len(pairs) < MIN_PAIRS or not harmful:
        return _too_few("benign_to_harmful", len(pairs) if harmful else 0, BENIGN_LIMIT)
    ratio = (len(pairs) - len(harmful)) / len(harmful)
    text = f"{ratio:.2f} benign pairs to each harmful one (at least {BENIGN_LIMIT:g})"
    return Finding("benign_to_harmful", ratio, BENIGN_LIMIT, ratio >= BENIGN_LIMIT, False, text)


def _category_balance(harmful: Sequence[Pair]) -> Finding:
    if len(harmful) < MIN_PAIRS:
        return _too_few("category_balance", len(harmful), BALANCE_LIMIT, "harmful ")
    counts = Counter(pair.category for pair in harmful).most_common()
    (most, high), (least, low) = counts[0], counts[-1]
    text = f"{high} pairs of {most}, {low} of {least} (ratio {high / low:.1f}, at most {BALANCE_LIMIT:g})"
    return Finding("category_balance", high / low, BALANCE_LIMIT, high / low <= BALANCE_LIMIT, False, text)


def _prompt_echo(pairs: Sequence[Pair]) -> Finding:
    count = sum(echoes(pair.prompt, pair.chosen) or echoes(pair.prompt, pair.rejected) for pair in pairs)
    text = f"{count} pairs hold the prompt or template markers in an answer (none should)"
    return Finding("prompt_echo", float(count), 0.0, count == 0, count > ECHO_SEVERE * len(pairs), text)


def _duplicates(pairs: Sequence[Pair]) -> Finding:
    count = len(pairs) - len({(pair.prompt, pair.chosen, pair.rejected) for pair in pairs})
    return Finding("duplicates", float(count), 0.0, count == 0, False, f"{count} pairs are there twice (none should)")


def _too_few(name: str, n: int, limit: float, kind: str = "") -> Finding:
    return Finding(name, None, limit, True, False, f"not told: {n} {kind}pairs are too few (at least {MIN_PAIRS})")
