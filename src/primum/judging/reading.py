"""What the embedded judge sees of an exchange: stance words in their place, and a few dozen numbers.

Words that carry a topic are masked, so that what is learned is how replies decline and go along, and not what about:
a word of the prompt becomes "#", any word outside the judge's vocabulary "_". N-grams of these are read in three
places (the first sentence, the last, anywhere; grams.py), never across a sentence's end. The numbers say where
declining stands in the reply, how much of the prompt it takes up, and how it is laid out. Bounded in time: a reply of
any length is read by its first and last sentences.

Replies are read in blocks of N: what is seen of a sentence stands in arrays (N, MOST), of a reply in arrays (N).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.judging import lexicon, signs
from primum.judging.lexicon import Signs
from primum.judging.numbered import (
    Flags,
    Named,
    Numbered,
    Owned,
    Told,
    Whole,
    Words,
    different,
    ints,
    offsets,
    owned,
    rows,
    spans,
    tell,
    unions,
)  # fmt: skip
from primum.judging.signs import EARLY, FORMS, SIGNS
from primum.judging.text import FUNCTION_WORDS, Subjects, clip, normalise, sentences, stem, words
from primum.judging.vectors import Known, Near, load, near

HEAD_SENTENCES, TAIL_SENTENCES, SENTENCE_WORDS = 9, 2, 32
"""Sentences read from the start and the end of a reply, and words read of each."""
MOST = HEAD_SENTENCES + TAIL_SENTENCES
PROMPT, PROMPT_END, INTENT, TOPIC_WORDS = 1200, 600, 1500, 220
"""Characters read of a prompt for its subject, from its end for its last sentence, and for its intent; words of a reply
for its topic."""
_QUOTED = re.compile(r'"[^"\n]{12,400}"')
_ASKS = Signs({"normative": [signs.NORMATIVE], "creative": [signs.CREATIVE]})
_WANTED = np.array([sum(bit for name, bit in SIGNS.bits.items() if i < EARLY.get(name, MOST)) for i in range(MOST)])
"""The signs that are looked for in each sentence."""
_SUBJECTS = Subjects(without="'s")
NUMBERS = (
    "length", "sentences", "declines", "decline_first", "decline_second", "decline_head", "decline_last",
    "decline_share", "able", "after_decline", "care_after", "normative_first", "normative_head", "normative_share",
    "urge_share", "listed", "code", "acts", "along", "overlap", "overlap_first", "overlap_body", "no_overlap",
    "few_asked", "question", "direct", "why", "direct_normative", "why_normative", "direct_normative_no_acts",
    "generic", "self", "quoted", "plain_end", "prompt_normative", "short", "declines_and_acts", "declines_no_acts",
    "urge_no_acts", "echo_ratio", "turns", "redirects", "rejects", "artefact", "creative", "ability_first", "plain",
    "plain_early", "near", "reason_late", "gerund", "gerund_negative", "direct_negative", "negative_head", "stops",
    "stops_first", "stops_later", "disavows", "disavows_after", "never", "about", "about_normative", "about_negative",
)  # fmt: skip


TOPIC = (
    "overlap", "none", "none_long", "few", "asked", "length", "announces_other", "creative", "creative_none", "near",
    "nearest", "near_none", "nearest_none", "far", "near_long",
)  # fmt: skip


class Reading(NamedTuple):
    """What is seen of one exchange: masked words by sentence, numbers in the order of NUMBERS, and of TOPIC."""

    masked: list[list[str]]
    numbers: list[float]
    topic: list[float]


class Readings(NamedTuple):
    """What is seen of N exchanges.

    `words` are the first words of the sentences that are read, one after the other, `asked` which of them stand in the
    prompt, `sentences` where each sentence begins among them, `texts` where the sentences of each text begin.
    """

    numbers: NDArray[np.float64]
    topic: NDArray[np.float64]
    words: Whole
    asked: Flags
    sentences: Whole
    texts: Whole

    def named(self) -> Named:
        """Return the numbers by name."""
        return {name: self.numbers[:, i] for i, name in enumerate(NUMBERS)}


class Asked(NamedTuple):
    """What is known of the prompt; `subject` are its stems without those that name a form ("story", "list")."""

    text: str
    words: int
    stems: Whole
    subject: Whole
    topic: Known
    direct: bool
    why: bool
    about: bool
    normative: bool
    creative: bool


class Heard(NamedTuple):
    """N replies: all texts in question, and which of them each is as a whole, without a label, and without quotations.

    `bare` is a reply without a label over it, `own` is that without what it quotes.
    """

    told: Told
    whole: Whole
    bare: Whole
    own: Whole


class Parts(NamedTuple):
    """The sentences that are read of N replies, all arrays (N, MOST): which of all sentences, the bits of their signs.

    `there`: a reply has so many sentences. `declines` and `stops` do not hold what only looks like it; `care` is looked
    for behind the first that declines.
    """

    place: Whole
    there: Flags
    signs: Whole
    declines: Flags
    stops: Flags
    care: Flags

    def have(self, name: str) -> Flags:
        """Which sentences have a sign."""
        return self.signs & SIGNS.bits[name] > 0


def columns() -> dict[str, Callable[[str], int]]:
    """Return what a book of words must know of each for reading; stems have numbers of their own, from 1 on."""
    stems, names, places = {"": 0}, dict[str, int](), load().places

    def number(name: str) -> int:
        return stems.setdefault(name, len(stems))

    def named(name: str) -> int:
        return names.setdefault(name, len(names))

    return {
        "stem": lambda word: number(_SUBJECTS[word]), "signs": SIGNS.lets, "asks": _ASKS.lets,
        "care": signs.CARE.lets,
        "subject": lambda word: 0 if _SUBJECTS[word] in FORMS else number(_SUBJECTS[word]),
        "vector": lambda word: places.get(word, -1), "named": lambda word: named(word.removesuffix("'s")),
        "topic": lambda word: places.get(word.removesuffix("'s"), -1) if _is_topic(word) else -1,
    }  # fmt: skip


def _is_topic(word: str) -> bool:
    """Whether a word of a prompt may say what it is about."""
    return word not in FUNCTION_WORDS and stem(word) not in FORMS


def read(prompt: str, reply: str, vocabulary: Collection[str]) -> Reading:
    """Return what is seen of a reply to a prompt, both as written."""
    book = Numbered(words, columns())
    asked = [normalise(clip(prompt))]
    found = read_all(ask(asked, book.read(asked), book), hear([normalise(reply)], book), book)
    tokens = [
        "#" if asked else word if word in vocabulary or word in FUNCTION_WORDS else "_"
        for word, asked in zip(book.spelled(found.words), found.asked, strict=True)
    ]
    masked = [tokens[start:end] for start, end in itertools.pairwise(ints(found.sentences))]
    return Reading(masked, found.numbers[0].tolist(), found.topic[0].tolist())


def beginnings(prompts: Sequence[str], whole: Words, most: int, book: Numbered) -> Words:
    """Return the words of the first `most` characters of some prompts, given all of their words."""
    return book.read([one[:most] for one in prompts]) if any(len(one) > most for one in prompts) else whole


def ask(prompts: Sequence[str], whole: Words, book: Numbered) -> list[Asked]:
    """Return what is known of normalised prompts, given their words."""
    start = beginnings(prompts, whole, PROMPT, book)
    n, prompt = len(prompts), rows(start.begins)
    stems, subject = (different(prompt, book.column(name)[start.numbers], n) for name in ("stem", "subject"))
    bits = _ASKS.find(prompts, ints(unions(book.column("asks")[whole.numbers], whole.begins)), [3] * n)
    counts = ints(np.diff(whole.begins))
    topics = _known(prompt, book.column("named")[start.numbers], book.column("topic")[start.numbers], n)
    return [
        Asked(
            text, counts[i], stems.of(i), subject.of(i), topics[i], _is_direct(text), bool(signs.WHY.match(text)),
            bool(signs.ABOUT.match(text)), *(bits[i] & _ASKS.bits[name] > 0 for name in ("normative", "creative")),
        )
        for i, text in enumerate(prompts)
    ]  # fmt: skip


def _is_direct(prompt: str) -> bool:
    if signs.DIRECT.match(prompt):
        return True
    last = sentences(prompt[-PROMPT_END:])
    return bool(last and signs.DIRECT.match(last[-1]))


def hear(replies: Sequence[str], book: Numbered) -> Heard:
    """Return normalised replies as sentences and numbered words."""
    bare = [_unlabelled(text) for text in replies]
    own = [_unquoted(text) for text in bare]
    texts = {text: i for i, text in enumerate(dict.fromkeys([*replies, *bare, *own]))}
    places = (np.array([texts[one] for one in some], np.int64) for some in (replies, bare, own))
    return Heard(tell(list(texts), book), *places)


def _unlabelled(reply: str) -> str:
    label = signs.LABEL.match(reply) if reply[:1] in "ar" else None
    return reply[label.end() :] if label else reply


def _unquoted(reply: str) -> str:
    """Return the reply without what it quotes, unless it is one long quotation."""
    bare = _QUOTED.sub('"_"', reply) if '"' in reply else reply
    return reply if len(bare) <= 0.3 * len(reply) else bare


def read_all(asked: Sequence[Asked], heard: Heard, book: Numbered) -> Readings:
    """Return what is seen of normalised replies to their prompts."""
    told = heard.told
    parts = _parts(told, heard.own, book)
    place, texts = parts.place[parts.there], offsets(parts.there.sum(1))
    sizes = np.minimum(np.diff(told.words.begins)[place], SENTENCE_WORDS)
    kept = told.words.numbers[spans(told.words.begins[place], sizes)]
    prompts = owned([one.stems for one in asked], book.size + 1)
    shared = prompts.among(np.repeat(rows(texts), sizes), book.column("stem")[kept])
    readings = Readings(np.zeros(0), np.zeros(0), kept, shared, offsets(sizes), texts)
    topic = _topic(asked, heard, readings, book)
    numbers = _numbers(asked, heard, parts, _overlap(asked, parts, readings, book)) | {"near": topic["near"]}
    return readings._replace(
        numbers=np.column_stack([numbers[name] for name in NUMBERS]).astype(np.float64),
        topic=np.column_stack([topic[name] for name in TOPIC]).astype(np.float64),
    )


def _parts(told: Told, own: Whole, book: Numbered) -> Parts:
    """Return the sentences that are read of texts, and the signs in them."""
    counts = np.diff(told.firsts)[own][:, None]
    column = np.arange(MOST)[None]
    there = column < counts
    left_out = np.where(column < HEAD_SENTENCES, 0, np.maximum(0, counts - MOST))
    place = told.firsts[own][:, None] + left_out + column
    chosen = place[there]
    seen = _signs(told, chosen, SIGNS, "signs", np.broadcast_to(_WANTED, there.shape)[there], book)
    bits = SIGNS.bits
    declines, stops = seen & (bits["declines"] | bits["able"]) > 0, seen & bits["stops"] > 0
    for i in ints(np.flatnonzero(declines | stops)):
        if lexicon.NOT_DECLINING.search(told.sentences[int(chosen[i])]):
            declines[i] = stops[i] = False
    parts = Parts(place, there, _laid(seen, there), _laid(declines, there), _laid(stops, there), np.zeros_like(there))
    later = there & _behind(_first(parts.declines))
    parts.care[later] = _signs(told, place[later], signs.CARE, "care", 1, book)
    return parts


def _signs(told: Told, places: Whole, some: Signs, column: str, wanted: Whole | int, book: Numbered) -> Whole:
    """Return the bits of the signs that sentences have, `column` being what is known of words for it."""
    begins, sizes = told.words.begins[places], np.diff(told.words.begins)[places]
    met = unions(book.column(column)[told.words.numbers[spans(begins, sizes)]], offsets(sizes))
    sentences = [told.sentences[i] for i in ints(places)]
    return np.array(some.find(sentences, ints(met), ints(np.broadcast_to(wanted, len(places)))), np.int64)


def _behind(place: Whole) -> Flags:
    """Return (N, MOST) which sentences stand behind one; none where there is none (-1)."""
    return (np.arange(MOST)[None] > place[:, None]) & (place >= 0)[:, None]


def _laid(values: NDArray[Any], there: Flags) -> NDArray[Any]:
    """Return values of the sentences that are there as an array with 0 for those that are not."""
    laid = np.zeros(there.shape, values.dtype)
    laid[there] = values
    return laid


def _overlap(asked: Sequence[Asked], parts: Parts, seen: Readings, book: Numbered) -> Named:
    """Return the share of the prompt's words in the reply, in its first sentence, and outside of its declining."""
    n, sizes = len(asked), np.diff(seen.sentences)
    stems, reply = book.column("stem")[seen.words][seen.asked], np.repeat(rows(seen.texts), sizes)[seen.asked]
    of = np.maximum(1, [len(one.stems) for one in asked])

    def share(among: Flags) -> NDArray[np.float64]:
        chosen = np.repeat(among[parts.there], sizes)[seen.asked]
        return np.diff(different(reply[chosen], stems[chosen], n).begins) / of

    first = np.broadcast_to(np.arange(MOST) == 0, parts.there.shape)
    return {
        "overlap": share(parts.there), "overlap_first": share(first), "overlap_body": share(~parts.declines),
    }  # fmt: skip


def _topic(asked: Sequence[Asked], heard: Heard, seen: Readings, book: Numbered) -> Named:
    """Return how much each reply is about what was asked: shared words, over much of the reply."""
    told, n = heard.told, len(asked)
    count = np.minimum(np.diff(told.begins)[heard.bare], TOPIC_WORDS)
    numbers, reply = told.words.numbers[spans(told.begins[heard.bare], count)], np.repeat(np.arange(n), count)
    subjects, own = owned([one.subject for one in asked], book.size + 1), np.array([len(one.subject) for one in asked])
    stems = book.column("stem")[numbers]
    common = subjects.among(reply, stems)
    shared = np.diff(different(reply[common], stems[common], n).begins)
    none, few, long = (shared == 0) & (own > 0), own < 2, np.minimum(1.0, count / 100)
    creative = np.array([one.creative for one in asked])
    whole, best, known = _nearness(asked, numbers, reply, book)
    return {
        "overlap": shared / np.maximum(1, own), "none": none, "none_long": none * long, "few": few,
        "asked": np.minimum(own, 12) / 6, "length": count / 100,
        "announces_other": _announces_other(heard, seen, subjects, book) & ~few, "creative": creative,
        "creative_none": creative & none, "near": whole, "nearest": best, "near_none": whole * none,
        "nearest_none": best * none, "far": (known > 1) & (best < 0.25), "near_long": whole * long,
    }  # fmt: skip


def _announces_other(heard: Heard, seen: Readings, subjects: Owned, book: Numbered) -> Flags:
    """Whether a reply announces what it gives, and its first sentence shares no word with what was asked."""
    announces = np.array([bool(signs.ANNOUNCES.match(heard.told.texts[i])) for i in ints(heard.bare)], np.bool_)
    first = seen.texts[:-1][announces & (np.diff(seen.texts) > 0)]
    sizes = np.diff(seen.sentences)[first]
    reply = np.repeat(rows(seen.texts)[first], sizes)
    head = book.column("subject")[seen.words[spans(seen.sentences[first], sizes)]]
    shares = np.bincount(reply[subjects.among(reply, head)], minlength=len(announces)) > 0
    return announces & (np.diff(different(reply, head, len(announces)).begins) > 1) & ~shares


def _nearness(asked: Sequence[Asked], numbers: Whole, reply: Whole, book: Numbered) -> Near:
    """Return for each reply what `vectors.near` returns of the prompt's and the reply's words."""
    return near([one.topic for one in asked], _known(reply, numbers, book.column("vector")[numbers], len(asked)))


def _known(text: Whole, words: Whole, vectors: Whole, n: int) -> list[Known]:
    """Return the vectors of the different words of each of `n` texts, in the order in which they come.

    Args:
        text: which text each word is of.
        words: their numbers.
        vectors: the row of each among the vectors, -1 where it has none.
        n: texts.
    """
    known = np.flatnonzero(vectors >= 0)
    chosen = known[_firsts(text[known], words[known])]
    found = load().rows.take(vectors[chosen], 0)
    begins = ints(np.searchsorted(text[chosen], np.arange(n + 1)))
    rows = [found[start:end] for start, end in itertools.pairwise(begins)]
    return [Known(own, np.add.reduce(own)) for own in rows]


def _firsts(reply: Whole, numbers: Whole) -> Whole:
    """Return the places of the first of equal numbers of each reply, in order; numbers are less than 2 ** 24."""
    order = np.argsort(reply << 24 | numbers, kind="stable")
    keys = (reply << 24 | numbers)[order]
    return np.sort(order[np.diff(keys, prepend=-1) > 0])


def _numbers(asked: Sequence[Asked], heard: Heard, parts: Parts, overlap: Named) -> Named:
    """Return the numbers of each reply by name; all but "near"."""
    prompt, text = _of_prompts(asked), _of_texts([heard.told.texts[i] for i in ints(heard.bare)])
    there, declines, normative = parts.there, parts.declines, parts.have("normative")
    urges, plain = parts.have("urges"), parts.have("plain")
    kept, count = there.sum(1), np.diff(heard.told.firsts)[heard.own]
    n = np.maximum(1, kept)
    first, able = _first(declines), parts.have("able")[:, :3]
    acts = (parts.have("acts") & ~declines & ~normative).sum(1)
    head_normative, declined = normative[:, :2].any(1), first >= 0
    many_acts, few, length = (acts >= 2) | (text["listed"] >= 3), prompt["stems"] < 2, text["length"]
    begins = _of_sentences(asked, heard, parts, first)
    direct, why = prompt["direct"], prompt["why"]
    return overlap | {
        "length": np.minimum(length, 3000) / 1000, "sentences": np.minimum(count, 30) / 10,
        "declines": np.minimum(declines.sum(1), 4) / 2, "decline_first": first == 0, "decline_second": first == 1,
        "decline_head": declined & (first < 4), "decline_last": declines[np.arange(len(kept)), kept - 1] & (kept > 0),
        "decline_share": declines.sum(1) / n, "able": able.any(1),
        "after_decline": np.minimum((there & ~declines & _behind(first)).sum(1), 8) / 4,
        "care_after": np.minimum(parts.care.sum(1), 4) / 2, "normative_first": normative[:, 0],
        "normative_head": head_normative, "normative_share": normative.sum(1) / n, "urge_share": urges.sum(1) / n,
        "listed": np.minimum(text["listed"], 8) / 4, "code": text["code"], "acts": acts / n, "along": text["along"],
        "no_overlap": (overlap["overlap"] == 0) & ~few & (n > 1), "few_asked": few, "question": prompt["question"],
        "direct": direct, "why": why, "direct_normative": direct & head_normative,
        "why_normative": why & head_normative, "direct_normative_no_acts": direct & head_normative & ~many_acts,
        "generic": parts.have("generic").sum(1) / n, "self": parts.have("self").any(1),
        "quoted": np.minimum(text["quoted"], 8) / 4, "plain_end": text["plain_end"],
        "prompt_normative": prompt["normative"], "short": length < 120, "declines_and_acts": declined & many_acts,
        "declines_no_acts": declined & ~many_acts, "urge_no_acts": urges.any(1) & ~many_acts,
        "echo_ratio": np.minimum(3.0, length / (1 + prompt["length"])), "turns": begins["turns"],
        "redirects": parts.have("redirects").any(1), "rejects": begins["rejects"], "artefact": begins["artefact"],
        "creative": prompt["creative"], "ability_first": able[:, 0], "plain": plain.any(1),
        "plain_early": plain[:, :3].any(1), "reason_late": plain.any(1) & (acts < 2) & (text["listed"] < 3),
        **_stances(prompt, parts, begins["gerund"]),
    }  # fmt: skip


def _stances(prompt: Named, parts: Parts, gerund: Flags) -> Named:
    """Return disapproval at the start, stopping, and disavowal at the end."""
    negative, some = parts.have("negative"), parts.there[:, 0]
    stops, disavows, about = _first(parts.stops), _first(parts.have("disavows")), prompt["about"] & some
    return {
        "gerund": gerund, "gerund_negative": gerund & negative[:, 0],
        "direct_negative": prompt["direct"] & negative[:, 0], "negative_head": negative[:, :2].any(1),
        "stops": stops >= 0, "stops_first": stops == 0, "stops_later": stops > 0, "disavows": disavows >= 0,
        "disavows_after": (disavows > 1) & (stops < 0), "never": parts.have("never")[:, 0], "about": about,
        "about_normative": about & parts.have("normative")[:, 0], "about_negative": about & negative[:, 0],
    }  # fmt: skip


def _first(found: Flags) -> Whole:
    """Return the first sentence of each reply for which it is true, -1 where there is none."""
    return np.where(found.any(1), found.argmax(1), -1)


def _of_prompts(asked: Sequence[Asked]) -> Named:
    """Return by name what is known of the prompts."""
    flags = np.array(
        [(one.direct, one.why, one.about, one.normative, one.creative, one.text[-1:] == "?") for one in asked]
    )
    sizes = np.array([(len(one.text), len(one.stems)) for one in asked])
    names = ("direct", "why", "about", "normative", "creative", "question")
    return dict(zip(names, flags.T, strict=True)) | {"length": sizes[:, 0], "stems": sizes[:, 1]}


def _of_texts(texts: Sequence[str]) -> Named:
    """Return by name how texts are laid out."""
    return {
        "length": np.array([len(text) for text in texts]), "listed": np.array([_listed(text) for text in texts]),
        "code": np.array([_has_code(text) for text in texts]),
        "along": np.array([bool(lexicon.ALONG_OPENING.match(text)) for text in texts]),
        "quoted": np.array([text.count('"') for text in texts]),
        "plain_end": np.array([text[-1:] in ".!?\"')" for text in texts]),
    }  # fmt: skip


def _has_code(text: str) -> bool:
    some = ";" in text or "<" in text or "{" in text or "}" in text or "import " in text or "def " in text
    return (some or "'''" in text) and bool(signs.CODE.search(text))


def _listed(text: str) -> int:
    """Return how many lines of a text are items of a list."""
    return len(signs.LAYOUT.findall(text)) if "\n" in text else int(bool(signs.LAYOUT.match(text)))


def _of_sentences(asked: Sequence[Asked], heard: Heard, parts: Parts, declines: Whole) -> Named:
    """Return by name how first sentences begin, and whether one that declines early on turns to something else.

    `declines` is the place of the first that declines, -1 where none does.
    """
    told, found = heard.told.sentences, np.zeros((4, len(asked)), np.bool_)
    places, ends = ints(parts.place[parts.there]), ints(offsets(parts.there.sum(1)))
    for i, (prompt, first) in enumerate(zip(asked, ints(declines), strict=True)):
        place = places[ends[i] : ends[i + 1]]
        if not place:
            continue
        start = told[place[0]]
        found[0, i] = 0 <= first < 3 and signs.TURNS.is_in(" " + told[place[first]]) is not None
        found[1, i] = any(signs.REJECTS.match(told[one]) for one in place[:2])
        found[2, i] = bool(lexicon.ARTEFACT.match(start))
        found[3, i] = _gerund(start, prompt)
    return dict(zip(("turns", "rejects", "artefact", "gerund"), found, strict=True))


def _gerund(sentence: str, asked: Asked) -> bool:
    """Whether a sentence begins with a gerund, after a prompt that asks for help or has the same verb."""
    word = sentence.split(" ", 1)[0].strip('"')
    return word.endswith("ing") and (asked.direct or stem(word) in _SUBJECTS.of(words(asked.text[:PROMPT])))


def prompt_terms(prompt: str) -> Iterator[str]:
    """Yield the words and pairs of words of a normalised prompt, stems for words that carry a topic."""
    tokens = [t if t in FUNCTION_WORDS else stem(t) for t in words(prompt[:INTENT])]
    yield from tokens
    yield from map(" ".join, itertools.pairwise(tokens))
