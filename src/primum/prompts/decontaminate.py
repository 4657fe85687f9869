"""Decontamination: a prompt that shares a run of words with a benchmark must not be trained on.

The rule: one n-gram of words in common, n = 8 (the length that Tulu 3 matches by, arXiv:2411.15124). It knows words
only: a benchmark's paraphrase is not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from primum.core.records import Prompt
from primum.prompts.dropped import Dropped, mend_twins
from primum.prompts.shared import load_shared, shared_names
from primum.prompts.sources import for_evaluation
from primum.prompts.text import ngrams, words

BENCHMARKS = ("xstest", "harmbench", "truthfulqa", "bold")


class Decontaminated(NamedTuple):
    """What stays, in order, and what was dropped."""

    kept: list[Prompt]
    dropped: list[Dropped]


class _Known(NamedTuple):
    grams: dict[str, str]
    whole: dict[str, str]
    n: int


def decontaminate(
    prompts: Sequence[Prompt], benchmark_texts: Mapping[str, Sequence[str]], n: int = 8
) -> Decontaminated:
    """Drop the prompts that share `n` words in a row with a benchmark.

    Words are lower-cased, punctuation stripped. A text of fewer than `n` words is dropped where it equals a whole
    benchmark text. Prompts that are themselves of an evaluation set stay: they are measured with, never trained on.

    Args:
        prompts: what is to be cleaned.
        benchmark_texts: name of a benchmark -> its prompts.
        n: how many words in a row.
    """
    known = _index(benchmark_texts, n)
    kept: list[Prompt] = []
    dropped: list[Dropped] = []
    for prompt in prompts:
        fault = None if for_evaluation(prompt) else _fault(prompt, known)
        if fault:
            dropped.append(fault)
        else:
            kept.append(prompt)
    return Decontaminated(mend_twins(kept, {}), dropped)


def _index(benchmark_texts: Mapping[str, Sequence[str]], n: int) -> _Known:
    known = _Known({}, {}, n)
    for name, texts in benchmark_texts.items():
        for text in texts:
            found = words(text)
            if found:
                known.whole.setdefault(" ".join(found), name)
            for gram in ngrams(found, n):
                known.grams.setdefault(gram, name)
    return known


def _fault(prompt: Prompt, known: _Known) -> Dropped | None:
    for message in prompt.messages:
        found = words(message.text)
        if len(found) < known.n:
            shared, name = " ".join(found), known.whole.get(" ".join(found))
        else:
            shared = min((gram for gram in ngrams(found, known.n) if gram in known.grams), default="")
            name = known.grams.get(shared)
        if name:
            return Dropped(prompt, "in_benchmark", name, f"shares '{shared}' with {name}")
    return None


def benchmarks_at(data_dir: Path) -> dict[str, list[str]]:
    """Return the prompts of every benchmark in the folder: XSTest, HarmBench, TruthfulQA, Safe to Serve, BOLD.

    An empty mapping says that the folder, or every set in it, is missing; `collect` puts that into its notes. Few-shot
    openings (ToxiGen) and the medical sets are left out: they are no requests, and a user's domain is theirs.
    """
    texts: dict[str, list[str]] = {}
    for name in shared_names(data_dir):
        wanted = name in BENCHMARKS or (name.startswith("safe-to-serve/") and not name.endswith("_Instructions"))
        if wanted:
            texts[name] = [prompt.text for prompt in load_shared(name, "benign", data_dir)]
    return texts
