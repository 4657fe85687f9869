"""Trains the embedded judge: python -m primum.judging.fit_embedded --calibration DIR [--texts FILE] [--report].

Learned from (and nothing else):

- corpus/whole.jsonl, written.jsonl, addressed.jsonl, *.yaml: exchanges, sentences and pieces of replies written for
  this judge (corpus.py); Apache-2.0.
- corpus/sampled.jsonl: replies sampled from SmolLM2-135M-Instruct to primum's own benign prompts, kept where the judges
  `rules` and `probe` agreed on the label; nobody has read them all.
- gold/replies.jsonl: replies of the same model that a reader labelled; with --texts also the withheld ones.
- the judge-calibration sets of PyRIT (MIT): `refusal_scorer` and `objective` with human scores, from --calibration;
  corpus/sources.yaml lists the files by hash, and the rows left out because their prompt stands in HarmBench.
- primum's own pairs of look-alike prompts, for the prompt's intent.

XSTest, HarmBench, StrongREJECT, JailbreakBench and MaliciousInstruct were not used. --report prints what every set gets
from a judge that has not seen it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.core.errors import BadInputError
from primum.core.store import file_sha256
from primum.judging import addressed, corpus, reading
from primum.judging.gold import load_gold, load_texts
from primum.judging.grams import terms as terms_of
from primum.judging.judges.embedded import ELSEWHERE, REFUSES
from primum.judging.text import normalise, words
from primum.judging.weights import FILE, Weights, Words, save
from primum.prompts.files import csv_rows

SEED = 0
GRAM_SCALE = 3.0
PENALTY = 0.5
MIN_SEEN = 6
"""A term must stand in so many training replies."""
REFUSED = ("refusal", "safe_completion")
SURFACE = ("length", "sentences", "echo_ratio", "plain_end", "question")
"""Numbers that tell our sources apart (who was cut at a token limit, who writes long) and not declining: not used."""
WEIGHT = {"whole": 3.0, "written": 4.0, "made": 0.5, "sampled": 1.0, "gold": 0.7, "refusal": 2.0, "objective": 1.0}


class Row(NamedTuple):
    """One training exchange. `label` is a behaviour, or "not achieved" where only that is known."""

    prompt: str
    reply: str
    label: str
    source: str


class Data(NamedTuple):
    """The rows, what is seen of them, and their matrices."""

    rows: list[Row]
    grams: Any
    numbers: NDArray[Any]
    topic: NDArray[Any]
    terms: list[str]
    vocabulary: frozenset[str]

    def of(self, *labels: str) -> NDArray[Any]:
        """Where the label is one of these."""
        return np.array([row.label in labels for row in self.rows])

    def sources(self, *names: str) -> NDArray[Any]:
        """Where the source starts with one of these."""
        return np.array([row.source.startswith(names) for row in self.rows])

    @property
    def weight(self) -> NDArray[Any]:
        """How much each row counts."""
        return np.array([WEIGHT.get(row.source.partition("_")[0], 1.0) for row in self.rows])


def main() -> None:
    """Read the data, fit, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calibration", type=Path, required=True, help="folder of the judge-calibration sets")
    parser.add_argument("--texts", type=Path, help="JSONL with the withheld texts of the gold")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--report", action="store_true", help="leave each set out in turn, and print what it gets")
    args = parser.parse_args()
    data = see([*written(args.calibration), *gold_rows(args.texts), *calibration_rows(args.calibration)])
    print(f"{len(data.rows)} rows: {dict(Counter(row.source.partition('_')[0] for row in data.rows))}")
    if args.report:
        report(data)
    save(fit(data), args.out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")


# ------------------------------------------------------------------ rows
def written(calibration: Path) -> Iterator[Row]:
    """Yield what was written and sampled for this judge."""
    sampled = [json.loads(line) for line in (corpus.FOLDER / "sampled.jsonl").read_text("utf-8").splitlines()]
    general = [json.loads(line) for line in (corpus.SETS / "general.jsonl").read_text("utf-8").splitlines()]
    whole = list(corpus.whole())
    bodies = [(row["prompt"], row["reply"]) for row in sampled if row["label"] == "compliance"]
    bodies += [(row["prompt"], row["answer"]) for row in general if row.get("answer")]
    bodies += [(one.prompt, one.reply) for one in whole if one.label == "compliance"]
    bodies += [(row.prompt, row.reply) for row in calibration_rows(calibration) if row.label == "compliance"]
    yield from (Row(one.prompt, one.reply, one.label, "whole") for one in whole)
    yield from (Row(one.prompt, one.reply, one.label, one.source) for one, _, _ in corpus.written())
    yield from (Row(row["prompt"], row["reply"], row["label"], "sampled") for row in sampled)
    made = corpus.made(random.Random(SEED), bodies)
    yield from (Row(one.prompt, one.reply, one.label, one.source) for one in made)


def gold_rows(texts: Path | None) -> Iterator[Row]:
    """Yield the development half of the gold; what declines first and helps after is left out: two readings."""
    for row in load_gold(load_texts(texts) if texts else None).half("dev"):
        if row.full:
            label = "compliance" if row.behaviour == "harmful_compliance" else row.behaviour
            yield Row(row.prompt, row.text or "", label, "gold")


def calibration_rows(folder: Path) -> Iterator[Row]:
    """Yield the human-labelled rows; a "refusal" that shares no word with its prompt and does not decline deflects."""
    left_out = frozenset(corpus.sources()["left_out"])
    for path in calibration_files(folder):
        name = path.stem.removeprefix("pyrit_").replace("refusal_scorer_", "refusal_set_")
        for row in csv_rows(path, comments=True):
            prompt, reply = row.values["objective"], row.values["assistant_response"]
            if corpus.fingerprint(prompt) in left_out:
                continue
            yes = float(row.values["human_score"]) == 1
            if name.startswith("refusal"):
                elsewhere = len(reply) > 100 and not _shared(prompt, reply)
                yield Row(prompt, reply, ("deflection" if elsewhere else "refusal") if yes else "compliance", name)
            else:
                yield Row(prompt, reply, "compliance" if yes else "not achieved", name)


def calibration_files(folder: Path) -> list[Path]:
    """Return the files of the data list.

    Raises:
        BadInputError: one is missing or has another hash: other weights would come out.
    """
    found: list[Path] = []
    for name, sha256 in corpus.sources()["files"].items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != sha256:
            problem = "not the file of the data list" if path.is_file() else "no such file"
            raise BadInputError(problem, where=str(path), cure="see judging/corpus/sources.yaml for its origin")
        found.append(path)
    return found


def _shared(prompt: str, reply: str) -> bool:
    return reading.read(prompt, reply, ()).topic[0] > 0


# ------------------------------------------------------------------ what is seen
def vocabulary() -> frozenset[str]:
    """Return the words that are not masked: those of the pieces, and those common in the written replies."""
    seen: Counter[str] = Counter()
    for name in ("declining", "complying"):
        for part in corpus.pieces(name).values():
            for piece in part:
                seen.update(dict.fromkeys(words(normalise(re.sub(r"\{\w+\}", " ", piece))), 3))
    for one in corpus.whole():
        seen.update(set(words(normalise(one.reply))))
    for path in sorted((Path(str(resources.files("primum.pairing"))) / "completions").glob("*.yaml")):
        seen.update(set(words(normalise(path.read_text(encoding="utf-8")))))
    return frozenset(word for word, n in seen.items() if n >= 3)


def see(rows: Sequence[Row]) -> Data:
    """Read all rows and number the n-grams that are seen often enough."""
    known = vocabulary()
    found = [reading.read(row.prompt, row.reply, known) for row in rows]
    seen: Counter[str] = Counter()
    grams = [terms_of(one.masked) for one in found]
    for one in grams:
        seen.update(one)
    terms = sorted(term for term, n in seen.items() if n >= MIN_SEEN)
    numbers, topic = np.array([one.numbers for one in found]), np.array([one.topic for one in found])
    return Data(list(rows), matrix(grams, terms), numbers, topic, terms, known)


def matrix(found: Sequence[set[str]], terms: Sequence[str]) -> Any:
    """Return presence of the terms over the root of how many a row has: sparse, rows by terms."""
    sparse: Any = import_module("scipy.sparse")
    index = {term: i for i, term in enumerate(terms)}
    places = [[index[term] for term in one if term in index] for one in found]
    ends = np.cumsum([0, *map(len, places)])
    values = [1 / len(own) ** 0.5 for own in places for _ in own]
    flat = [i for own in places for i in own]
    return sparse.csr_matrix((values, flat, ends), shape=(len(found), len(terms)))


# ------------------------------------------------------------------ fitting
def logistic(penalty: float = PENALTY) -> Any:
    """Return an unfitted logistic regression."""
    linear: Any = import_module("sklearn.linear_model")
    return linear.LogisticRegression(C=penalty, max_iter=300)


class Refused(NamedTuple):
    """The fitted first part: weights of n-grams and numbers, bias."""

    grams: NDArray[Any]
    numbers: NDArray[Any]
    bias: float

    def scores(self, data: Data) -> NDArray[Any]:
        """Return the log-odds of all rows."""
        return data.grams @ self.grams + data.numbers @ self.numbers + self.bias


def fit_refused(data: Data, among: NDArray[Any]) -> Refused:
    """Fit declining against going along on the rows `among`."""
    sparse: Any = import_module("scipy.sparse")
    rows = np.where(among & data.of(*REFUSED, "compliance") & ~data.sources("objective", "shuffled"))[0]
    seen = data.numbers * ~np.isin(reading.NUMBERS, SURFACE)
    x = sparse.hstack([data.grams[rows] * GRAM_SCALE, seen[rows]]).tocsr()
    model = logistic().fit(x, data.of(*REFUSED)[rows], sample_weight=data.weight[rows])
    split = len(data.terms)
    return Refused(model.coef_[0][:split] * GRAM_SCALE, model.coef_[0][split:], float(model.intercept_[0]))


def fit_topic(data: Data, among: NDArray[Any]) -> Any:
    """Fit answers to another prompt against answers to their own."""
    rows = np.where(among & data.of("deflection", "compliance") & ~data.sources("gold", "made", "written"))[0]
    return logistic(1.0).fit(data.topic[rows], data.of("deflection")[rows])


def fit_helps(data: Data, among: NDArray[Any], refused: NDArray[Any], topic: NDArray[Any]) -> Any:
    """Fit achieved objectives against the rest, on human scores and the gold."""
    harmful = data.sources("objective") | data.sources("gold")
    rows = np.where(among & harmful & ~data.of("incoherent"))[0]
    x = np.column_stack([data.numbers, refused, topic])[rows]
    return logistic(0.05).fit(
        x, data.of("compliance")[rows], sample_weight=np.where(data.sources("gold")[rows], 0.4, 1.0)
    )


def platt(scores: NDArray[Any], truth: NDArray[Any]) -> tuple[float, float]:
    """Return slope and offset that make held-out scores probabilities (Platt 1999)."""
    model = logistic(10.0).fit(scores[:, None], truth)
    return float(model.coef_[0][0]), float(model.intercept_[0])


def fit(data: Data) -> Weights:
    """Fit all parts on all rows; Platt's scale on scores of rows that were held out."""
    everything = np.ones(len(data.rows), bool)
    refused = fit_refused(data, everything)
    slope, offset = platt(*held_out(data))
    share = 1 / (1 + np.exp(-(slope * refused.scores(data) + offset)))
    topic = fit_topic(data, everything)
    elsewhere = topic.predict_proba(data.topic)[:, 1]
    helps = fit_helps(data, everything, share, elsewhere)
    return Weights(
        data.vocabulary, Words(dict(zip(data.terms, map(float, refused.grams), strict=True)), refused.bias),
        refused.numbers.astype(np.float32), topic.coef_[0].astype(np.float32), float(topic.intercept_[0]),
        helps.coef_[0].astype(np.float32), float(helps.intercept_[0]), fit_intent(), fit_addressed(),
        np.array([slope, offset], np.float32),
    )  # fmt: skip


def held_out(
    data: Data, sources: Sequence[str] = ("whole", "written", "refusal", "gold", "sampled"), folds: int = 3
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scores and truth of the rows of these sources, each from a fit without its prompt."""
    real = data.of(*REFUSED, "compliance") & data.sources(*sources)
    prompts = sorted({row.prompt for row in data.rows})
    random.Random(SEED).shuffle(prompts)
    fold = {prompt: i % folds for i, prompt in enumerate(prompts)}
    own = np.array([fold[row.prompt] for row in data.rows])
    scores = np.zeros(len(data.rows))
    for k in range(folds):
        scores[own == k] = fit_refused(data, own != k).scores(data)[own == k]
    return scores[real], data.of(*REFUSED)[real]


def fit_addressed(*writers: str) -> Words:
    """Fit sentences meant for a judge against look-alikes and all sentences of the written replies.

    Args:
        writers: of corpus/addressed.jsonl whose rows are read; all where none is named.
    """
    own = [(text, meant) for text, meant, writer in corpus.addressed() if not writers or writer in writers]
    hard = [(one, meant) for text, meant in own for one in addressed.parts(text)]
    replies = [*(one.reply for one in corpus.whole()), *(one.reply for one, _, _ in corpus.written())]
    plain = [(one, False) for reply in replies for one in addressed.parts(reply)]
    weight = [6.0 if meant else 3.0 for _, meant in hard] + [1.0] * len(plain)
    found = [addressed.terms(one) for one, _ in hard + plain]
    return fit_words(found, [meant for _, meant in hard + plain], 2, 1.0, weight)


def fit_intent() -> Words:
    """Fit harmful against benign prompts on primum's own look-alikes and general prompts."""
    general = [json.loads(line)["prompt"] for line in (corpus.SETS / "general.jsonl").read_text("utf-8").splitlines()]
    pairs = corpus.twins()
    prompts = [one for _, harmful, benign in pairs for one in (harmful, benign)] + general
    truth = np.array([i % 2 == 0 for i in range(2 * len(pairs))] + [False] * len(general))
    return fit_words([set(reading.prompt_terms(normalise(prompt))) for prompt in prompts], truth, 3, 3.0)


def fit_words(
    found: Sequence[set[str]], truth: Sequence[bool] | NDArray[Any], least: int, penalty: float, weight: Any = None
) -> Words:
    """Fit the presence of terms that at least so many rows hold."""
    seen = Counter(term for one in found for term in one)
    terms = sorted(term for term, n in seen.items() if n >= least)
    model = logistic(penalty).fit(matrix(found, terms) * GRAM_SCALE, np.asarray(truth), sample_weight=weight)
    weights = map(float, model.coef_[0] * GRAM_SCALE)
    return Words(dict(zip(terms, weights, strict=True)), float(model.intercept_[0]))


# ------------------------------------------------------------------ leave-one-set-out
def report(data: Data) -> None:
    """Print, for each labelled set, what a judge gets that saw no prompt of it."""
    scores = np.zeros(len(data.rows))
    topics, helps = scores.copy(), scores.copy()
    sets = sorted({row.source for row in data.rows if row.source.startswith(("refusal", "objective"))})
    for name in sets:
        inside = np.array([row.source == name for row in data.rows])
        prompts = {row.prompt for row, mine in zip(data.rows, inside, strict=True) if mine}
        among = ~np.array([row.prompt in prompts for row in data.rows])
        refused = fit_refused(data, among)
        share = 1 / (1 + np.exp(-refused.scores(data)))
        topic = fit_topic(data, among).predict_proba(data.topic)[:, 1]
        model = fit_helps(data, among, share, topic)
        scores[inside], topics[inside] = share[inside], topic[inside]
        helps[inside] = model.predict_proba(np.column_stack([data.numbers, share, topic])[inside])[:, 1]
    held, truth = held_out(data, ("whole",))
    _line("written as a whole, by prompt", held > np.log(REFUSES / (1 - REFUSES)), truth)
    by_writer(data)
    meant_for_a_judge()
    declined = (scores > REFUSES) | (topics > ELSEWHERE)
    for kind, said, truth in (
        ("refusal", declined, data.of(*REFUSED, "deflection")),
        ("objective", (helps > 0.5) & (scores < REFUSES), data.of("compliance")),
    ):
        for name in [*(one for one in sets if one.startswith(kind)), kind]:
            mine = data.sources(name) if name == kind else np.array([row.source == name for row in data.rows])
            _line(name, said[mine], truth[mine])


def by_writer(data: Data) -> None:
    """Print what a judge gets on the exchanges of each writer that saw none of that writer's; deflections are left out.

    The prompts of two writers differ; their kinds are told apart where they decline.
    """
    kinds = np.array(["", *(kind for _, _, kind in corpus.written())])
    place = np.zeros(len(data.rows), int)
    place[data.sources("written")] = np.arange(1, len(kinds))
    said, truth, kind = (np.zeros(0, dtype) for dtype in (bool, bool, "U16"))
    for writer in sorted({writer for _, writer, _ in corpus.written()}):
        mine = data.sources(f"written_{writer}") & ~data.of("deflection")
        scores = fit_refused(data, ~data.sources(f"written_{writer}")).scores(data)[mine]
        found, wanted = scores > np.log(REFUSES / (1 - REFUSES)), data.of(*REFUSED)[mine]
        _line(f"written by {writer}, left out", found, wanted)
        said, truth = np.concatenate([said, found]), np.concatenate([truth, wanted])
        kind = np.concatenate([kind, kinds[place[mine]]])
    _line("written by one, learned from six", said, truth)
    for name in sorted(set(kind[truth])):
        _line(f"  {name}", said[kind == name], truth[kind == name])


def meant_for_a_judge() -> None:
    """Print how many sentences of one writer are known by weights learned from the other."""
    for learned, other in (("a", "b"), ("b", "a")):
        words = fit_addressed(learned)
        own = [(one, meant) for text, meant, by in corpus.addressed() if by == other for one in addressed.parts(text)]
        said = np.array([words.score(addressed.terms(one)) > 0 for one, _ in own])
        _line(f"meant for a judge, learned from {learned}", said, np.array([meant for _, meant in own]))


def _line(name: str, said: NDArray[Any], truth: NDArray[Any]) -> None:
    yes, no = (
        float(said[truth].mean()) if truth.any() else 1.0,
        float((~said[~truth]).mean()) if (~truth).any() else 1.0,
    )
    print(f"  {name:34} n={len(truth):4} sensitivity {yes:.3f} specificity {no:.3f} balanced {(yes + no) / 2:.3f}")


if __name__ == "__main__":
    main()
