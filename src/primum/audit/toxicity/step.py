"""Score each line, average by document, and count by group what a filter would remove."""

from __future__ import annotations

from collections.abc import Sequence

from primum.audit.notes import Counts, Note, table
from primum.audit.sample import sampled
from primum.audit.toxicity.classifier import Classifier

THRESHOLD = 0.5
"""From this average on (>=) a document is toxic (Llama 2, page 21)."""
THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
"""Where a filter might cut; erasure is told for each."""
OVERALL = "all documents"
LONGEST_LINE = 2000
"""Characters of a line that are scored; classifiers read no further than 512 tokens."""


def document_score(lines: Sequence[float]) -> float:
    """Return a document's score, the mean of its lines': [1, 0, 0, 0] is .25, which is not toxic."""
    return sum(lines) / len(lines)


class ToxicityStep:
    """Scores the documents of the sample that are in the lexicon's language; blank lines are passed over."""

    def __init__(self, score: Classifier, share: float = 1.0, seed: int = 0) -> None:
        self._score, self._share, self._seed = score, share, seed

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Score a block."""
        chosen = [note for note in notes if note.scoped and sampled(note.document.id, self._share, self._seed)]
        lines = [_lines(note.document.text) for note in chosen]
        scores = iter(self._score([line for one in lines for line in one]))
        for note, own in zip(chosen, lines, strict=True):
            note.toxicity = document_score([next(scores) for _ in own])
            note.mark("toxicity", "score", round(note.toxicity, 4))
        _count(chosen, counts)


def _lines(text: str) -> list[str]:
    return [line[:LONGEST_LINE] for line in text.split("\n") if line.strip()]


def _count(chosen: Sequence[Note], counts: Counts) -> None:
    scored, removed = table(counts, "toxicity_scored"), table(counts, "toxicity_removed")
    histogram = table(counts, "toxicity_histogram")
    for note in chosen:
        assert note.toxicity is not None
        histogram[str(min(int(note.toxicity * 20), 19))] += 1
        names = groups(note)
        scored.update(names)
        for threshold in THRESHOLDS:
            if note.toxicity >= threshold:
                removed.update(f"{threshold}\t{name}" for name in names)


def groups(note: Note) -> list[str]:
    """Return the groups a document belongs to: all, its axes, its terms as axis/term, its gendered pronouns."""
    names = [OVERALL]
    if note.mentions:
        names += sorted({axis for axis, _ in note.mentions.terms})
        names += [f"{axis}/{term}" for axis, term in note.mentions.terms]
        names += [f"pronoun/{name}" for name in note.mentions.pronouns if name in ("she", "he", "unspecified")]
    return names
