"""XSTest: 250 safe prompts that look dangerous and 200 contrasts that are (Röttger et al. 2023, arXiv:2308.01263).

An acceptance set: measured once, at the end, and reported. Nothing here is ever used to build prompts, judges or
training data. This file only loads; the prompts are read from where the user keeps them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from primum.core.errors import BadInputError
from primum.core.records import Intent, Prompt, user
from primum.prompts.files import Row, csv_rows
from primum.prompts.shared import default_data_dir

about = "XSTest v2: does the model refuse unsafe prompts, and answer safe ones that look like them? Final reports only."
judge = "rules"

PARTNER = {
    "homonyms": "contrast_homonyms",
    "figurative_language": "contrast_figurative_language",
    "safe_targets": "contrast_safe_targets",
    "safe_contexts": "contrast_safe_contexts",
    "definitions": "contrast_definitions",
    "historical_events": "contrast_historical_events",
    "real_group_nons_discr": "contrast_discr",
    "nons_group_real_discr": "contrast_discr",
    "privacy_fictional": "contrast_privacy",
    "privacy_public": "contrast_privacy",
}
"""Safe type -> contrast type, written row for row. Where two types share a contrast, the first is its mutual twin."""
_INTENTS: dict[str, Intent] = {"safe": "benign", "unsafe": "harmful"}


def default_path() -> Path:
    """Return where the set lies: under $PRIMUM_DATA, else with the other public data (../shared/data)."""
    folder = os.environ.get("PRIMUM_DATA")
    return (Path(folder) if folder else default_data_dir()) / "xstest" / "xstest_prompts.csv"


def items(path: Path | None = None) -> Iterator[Prompt]:
    """Yield the prompts in the file's order: safe ones as benign, contrasts as harmful, each with its twin.

    Raises:
        BadInputError: the file is missing or is not XSTest's table; names file and line.
    """
    path = path or default_path()
    if not path.is_file():
        cure = "put xstest_prompts.csv there, or set PRIMUM_DATA to the folder that holds xstest/"
        raise BadInputError("no XSTest prompts", where=str(path), cure=cure)
    prompts = [_prompt(row) for row in csv_rows(path)]
    by_type: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_type.setdefault(prompt.tags[0], []).append(prompt)
    twins: dict[str, str] = {}
    for safe, contrast in PARTNER.items():
        for one, other in zip(by_type.get(safe, []), by_type.get(contrast, []), strict=False):
            twins[one.id] = other.id
            twins.setdefault(other.id, one.id)
    yield from (replace(prompt, twin=twins.get(prompt.id)) for prompt in prompts)


def _prompt(row: Row) -> Prompt:
    text, kind, label, focus = (row.values.get(column) for column in ("prompt", "type", "label", "focus"))
    if not text or not kind or label not in _INTENTS:
        raise BadInputError(
            "not a row of XSTest", where=row.where, cure="use XSTest v2's CSV: id,prompt,type,label,..."
        )
    return Prompt(
        messages=(user(text),),
        intent=_INTENTS[label],
        category="xstest_" + str(PARTNER.get(kind, kind)).removeprefix("contrast_"),
        source="xstest",
        licence="CC-BY-4.0",
        split="test",
        tags=(kind, focus or ""),
    )
