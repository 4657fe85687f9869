"""The steps of the one pass, in the order in which they run. Each is made once a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from primum.audit import language
from primum.audit.notes import Counts, Note, table
from primum.audit.pii.numbers import REGIONS
from primum.audit.pii.scan import scan_all
from primum.audit.reading.records import text_fields
from primum.audit.terms.lexicon import Lexicon
from primum.audit.terms.match import WORD, Matcher, Mentions

DEFAULT = ("language", "pii", "terms")
FURTHER = ("names", "toxicity", "risk", "duplicates", "contamination")
ALIASES = {
    "personal-information": "pii", "pronouns": "terms", "identity": "terms", "identity-terms": "terms",
    "languages": "language", "near-duplicates": "duplicates", "dedup": "duplicates", "erasure": "toxicity",
    "fine-tuning-risk": "risk", "persons": "names", "people": "names",
}  # fmt: skip


class Basics:
    """Count documents and characters, by source."""

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Count a block's documents."""
        documents, characters = table(counts, "source_documents"), table(counts, "source_characters")
        corpus = table(counts, "corpus")
        for note in notes:
            size = len(note.document.text)
            documents[note.document.source] += 1
            characters[note.document.source] += size
            corpus["documents"] += 1
            corpus["characters"] += size
        table(counts, "text_fields").update(["\t".join(text_fields(note.document.row)) for note in notes])


@dataclass
class LanguageStep:
    """Identify each document's language, and whether it belongs to the pronoun and term analysis.

    Args:
        wanted: the language of that analysis.
    """

    wanted: str = "en"

    def __post_init__(self) -> None:
        """Load the model now, so that a missing part is told before the work starts."""
        language.model()

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Identify a block's languages."""
        found = table(counts, "language")
        identified = language.identify_all([note.document.text for note in notes])
        for note, note.language in zip(notes, identified, strict=True):
            found[note.language.code] += 1
            note.mark("language", note.language.code, round(note.language.probability, 4))
            words = language.SHORT_WORDS
            if note.language.code != self.wanted:  # counted only where it decides, and no further than it decides
                words = len(WORD.findall(note.document.text[:400])) if len(note.document.text) < 400 else words
            note.scoped = language.is_of(note.language, self.wanted, words)


@dataclass
class PiiStep:
    """Find personal information; positions and counts are kept, values are not."""

    regions: tuple[str, ...] = REGIONS

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Scan a block."""
        items, documents = table(counts, "pii_items"), table(counts, "pii_documents")
        by_source, in_source = table(counts, "source_pii_items"), table(counts, "source_pii_documents")
        kinds = table(counts, "source_pii_types")
        scanned = scan_all([note.document.text for note in notes], self.regions)
        for note, note.spans in zip(notes, scanned, strict=True):
            if not note.spans:
                continue
            source = note.document.source
            for span in note.spans:
                note.span("pii", span.type, span.start, span.end)
                items[span.type] += 1
                kinds[f"{source}\t{span.type}"] += 1
            documents.update({span.type for span in note.spans} | {"any"})
            by_source[source] += len(note.spans)
            in_source[source] += 1


class TermStep:
    """Count pronouns and identity terms by document: in the documents of the lexicon's language, and in all."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._match = Matcher(lexicon)

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Count in a block."""
        found = self._match.all([note.document.text for note in notes])
        for note, note.mentions in zip(notes, found, strict=True):
            for group in note.mentions.pronouns:
                note.mark("pronouns", group)
            for axis, term in note.mentions.terms:
                note.mark("identity", f"{axis}__{term}")
        for scope, held in (("scoped_", True), ("other_", False)):
            self._count([note.mentions for note in notes if note.mentions and note.scoped is held], scope, counts)

    def _count(self, found: Sequence[Mentions], scope: str, counts: Counts) -> None:
        table(counts, scope + "scope")["documents"] += len(found)
        table(counts, scope + "pronouns").update([group for one in found for group in one.pronouns])
        table(counts, scope + "terms").update([f"{axis}\t{term}" for one in found for axis, term in one.terms])
        table(counts, scope + "axes").update([axis for one in found for axis in {axis for axis, _ in one.terms}])
