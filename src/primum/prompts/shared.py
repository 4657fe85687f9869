r"""Importers of public sets that lie beside the project as they were published; nothing of them is copied in.

    DATA/xstest/xstest_prompts.csv                       id,prompt,type,label,focus,note
    DATA/harmbench/harmbench_behaviors_text_all.csv      Behavior,FunctionalCategory,SemanticCategory,...
    DATA/safe-to-serve/I-*.json, Q-Harm.json             {"instructions": [...], "inputs": [...]}
    DATA/safe-to-serve/safety_only_data_Instructions.json  [{"instruction", "input", "output"}]
    DATA/truthfulqa/TruthfulQA.csv                       Type,Category,Question,Best Answer,...
    DATA/bold/*_prompt.json                              {group: {entity: [opening, ...]}}
    DATA/toxigen/{hate,neutral}_GROUP_1k.txt             one few-shot prompt a line, line ends written as \n
    DATA/medical/*.jsonl                                 question, answer, maybe options or passage
    DATA/judge-calibration/*.csv                         comment lines, then objective,assistant_response,...

XSTest and HarmBench are acceptance sets; the other sets for measuring carry the tag "benchmark". Both come with
split "test" and are refused for training (`sources.forbid_acceptance`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primum.core.errors import BadInputError, UsageError, did_you_mean
from primum.core.records import Intent, Prompt, Split, user
from primum.prompts.files import Row, csv_rows, jsonl_rows, read_utf8, text_of
from primum.prompts.rows import GENERAL, OTHER

HARMBENCH_CATEGORIES = {
    "chemical_biological": "weapons",
    "cybercrime_intrusion": "cyber",
    "misinformation_disinformation": "disinformation",
    "harassment_bullying": "harassment",
    "copyright": "intellectual_property",
}
CALIBRATION_CATEGORIES = {
    "hate_speech": "hate", "violence": "violent_crime", "sexual_content": "sexual_content", "privacy": "privacy",
    "self_harm": "self_harm", "information_integrity": "disinformation", "misinformation": "disinformation",
    "exploits": "cyber", "cyber": "cyber", "phishing": "fraud", "harassment_bullying": "harassment",
}  # fmt: skip
MIXED_SETS = {"Q-Harm": "borderline", "I-Alpaca": "benign", "I-PhysicalSafetySafe": "benign"}


@dataclass(frozen=True, slots=True)
class Found:
    """One prompt as an importer finds it; `load_shared` adds source, licence and tags."""

    text: str
    intent: Intent
    category: str = OTHER
    tags: tuple[str, ...] = ()
    answer: str | None = None


Reader = Callable[[Path, Intent], Iterator[Found]]


@dataclass(frozen=True, slots=True)
class Format:
    """How one folder's files are read."""

    pattern: str
    licence: str
    read: Reader
    tag: str | None = None


def _xstest(path: Path, intent: Intent) -> Iterator[Found]:
    for row in csv_rows(path):
        label: Intent = "benign" if _field(row, "label") == "safe" else "harmful"
        yield Found(_field(row, "prompt"), label, tags=(_field(row, "type"),))


def _harmbench(path: Path, intent: Intent) -> Iterator[Found]:
    for row in csv_rows(path):
        context, behaviour = _field(row, "ContextString"), _field(row, "Behavior")
        # HarmBench's own way to show a contextual behaviour.
        text = f"{context}\n\n---\n\n{behaviour}" if context else behaviour
        category = HARMBENCH_CATEGORIES.get(_field(row, "SemanticCategory"), OTHER)
        yield Found(text, "harmful", category, (_field(row, "FunctionalCategory"),))


def _truthfulqa(path: Path, intent: Intent) -> Iterator[Found]:
    for row in csv_rows(path):
        yield Found(_field(row, "Question"), "benign", GENERAL, (_field(row, "Category"),), _field(row, "Best Answer"))


def _safe_to_serve(path: Path, intent: Intent) -> Iterator[Found]:
    content = _json(path)
    if isinstance(content, list):  # the safety instructions with answers
        for number, values in enumerate(content, 1):
            row = Row(f"{path}:item {number}", values if isinstance(values, dict) else {})
            yield Found(_with_input(_field(row, "instruction"), row.values.get("input")), "harmful",
                        answer=_field(row, "output"))  # fmt: skip
        return
    row = Row(str(path), content if isinstance(content, dict) else {})
    texts, inputs = row.values.get("instructions"), row.values.get("inputs") or []
    if not isinstance(texts, list):
        raise BadInputError("no list 'instructions'", where=str(path), cure='like {"instructions": [], "inputs": []}')
    kind: Any = MIXED_SETS.get(path.stem, "harmful")
    category = GENERAL if path.stem == "I-Alpaca" else "hate" if path.stem == "I-CoNa" else OTHER
    for i, text in enumerate(texts):
        more = inputs[i] if i < len(inputs) else None
        yield Found(_with_input(text_of(text, f"instructions[{i}]", row), more), kind, category)


def _bold(path: Path, intent: Intent) -> Iterator[Found]:
    domain = path.stem.removesuffix("_prompt")
    for group, entities in _json(path).items():
        for openings in entities.values():
            for opening in openings:
                yield Found(opening.strip(), "benign", GENERAL, (domain, group))


def _toxigen(path: Path, intent: Intent) -> Iterator[Found]:
    kind, group = path.stem.removesuffix("_1k").split("_", 1)
    intent, category = ("harmful", "hate") if kind == "hate" else ("benign", GENERAL)
    for line in read_utf8(path).split("\n"):
        if line.strip():
            yield Found(line.replace("\\n", "\n").strip(), intent, category, (group,))


def _medical(path: Path, intent: Intent) -> Iterator[Found]:
    for row in jsonl_rows(path):
        parts = (row.values.get("passage"), _field(row, "question"), row.values.get("options"))
        text = "\n\n".join(part for part in parts if isinstance(part, str) and part)
        yield Found(text, "benign", GENERAL, ("medical",), _field(row, "answer"))


def _calibration(path: Path, intent: Intent) -> Iterator[Found]:
    for row in csv_rows(path, comments=True):
        name = str(row.values.get("harm_category", "")).lower()
        yield Found(_field(row, "objective"), intent, CALIBRATION_CATEGORIES.get(name, OTHER), (name,) if name else ())


FORMATS = {
    "xstest": Format("xstest_prompts.csv", "CC-BY-4.0", _xstest, "acceptance"),
    "harmbench": Format("harmbench_behaviors_text_all.csv", "MIT", _harmbench, "acceptance"),
    "truthfulqa": Format("TruthfulQA.csv", "Apache-2.0", _truthfulqa, "benchmark"),
    "safe-to-serve": Format("*.json", "CC-BY-NC-4.0", _safe_to_serve, "benchmark"),
    "bold": Format("*_prompt.json", "CC-BY-SA-4.0", _bold, "benchmark"),
    "toxigen": Format("*_1k.txt", "MIT", _toxigen, "benchmark"),
    "medical": Format("*.jsonl", "see the set's card", _medical, "benchmark"),
    "judge-calibration": Format("*.csv", "MIT", _calibration),
}
TRAINABLE = {"safety_only_data_Instructions", "pubmedqa_pqaa"}
"""Files for training that lie beside files for measuring."""


def default_data_dir() -> Path:
    """Return ../shared/data: from here, else from the checkout that this module lies in."""
    here = Path("../shared/data")
    return here if here.is_dir() else Path(__file__).parents[4] / "shared" / "data"


def shared_names(data_dir: Path) -> list[str]:
    """Return what `shared:` can name: each folder that is there, and each of its files."""
    names: list[str] = []
    for folder, form in FORMATS.items():
        stems = [path.stem for path in sorted((data_dir / folder).glob(form.pattern))]
        names += [folder, *(f"{folder}/{stem}" for stem in stems)] if stems else []
    return names


def load_shared(name: str, intent: Intent, data_dir: Path) -> list[Prompt]:
    """Return the prompts of a set, by folder (`xstest`), folder and file (`safe-to-serve/I-CoNa`) or file (`I-CoNa`).

    Args:
        name: what to load.
        intent: for the sets that do not say (judge-calibration).
        data_dir: the folder that holds the sets.

    Raises:
        BadInputError: the folder is missing, or a file in it is broken.
        UsageError: no such set; names the nearest.
    """
    if not data_dir.is_dir():
        raise BadInputError("no such folder", where=str(data_dir), cure="put the public sets there")
    known = shared_names(data_dir)
    by_stem = {full.rsplit("/", 1)[1]: full for full in known if "/" in full}
    full = name if name in known else by_stem.get(name)
    if full is None:
        raise UsageError(f"no shared set '{name}'", cure=did_you_mean(name, [*known, *by_stem]))
    folder, _, stem = full.partition("/")
    paths = sorted((data_dir / folder).glob(FORMATS[folder].pattern))
    return [prompt for path in paths if stem in ("", path.stem) for prompt in _prompts(path, folder, intent)]


def _prompts(path: Path, folder: str, intent: Intent) -> Iterator[Prompt]:
    form = FORMATS[folder]
    source = folder if folder in ("xstest", "harmbench", "truthfulqa") else f"{folder}/{path.stem}"
    tag = None if path.stem in TRAINABLE else form.tag
    split: Split = "test" if tag else "train"
    for found in form.read(path, intent):
        tags = (*((tag,) if tag else ()), *found.tags)
        yield Prompt((user(found.text),), found.intent, found.category, source=source, licence=form.licence,
                     split=split, tags=tags, answer=found.answer)  # fmt: skip


def _field(row: Row, name: str) -> str:
    if name not in row.values:
        there = ", ".join(row.values) or "it has none"
        raise BadInputError(f"no field '{name}'", where=row.where, cure=f"fields there: {there}")
    return text_of(row.values[name], name, row)


def _json(path: Path) -> Any:
    try:
        return json.loads(read_utf8(path))
    except ValueError as error:
        raise BadInputError(f"broken JSON ({error})", where=str(path), cure="fetch the set again") from error


def _with_input(instruction: str, more: Any) -> str:
    return f"{instruction}\n\n{more}" if isinstance(more, str) and more.strip() else instruction
