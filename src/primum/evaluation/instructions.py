"""Safe to Serve's sets ({"instructions": [...], "inputs": [...]}) and its ways of decoding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from primum.core.errors import BadInputError
from primum.core.records import Intent
from primum.evaluation.data import asked, find
from primum.evaluation.items import Item
from primum.evaluation.requests import Items
from primum.models.sampling import PRESETS
from primum.prompts.shared import FORMATS

LICENCE = "CC-BY-NC-4.0"
GREEDY = PRESETS["safe-to-serve"].sampling
"""The decoding of Safe to Serve's code: temperature 0, at most 120 tokens. A cut reply can look safer than it is:
--reply-tokens 512 tells."""

COMPARABLE = "the papers judge with a reward model for harmfulness, Llama Guard or OpenAI's moderation"
"""Why the numbers of the seven sets must not be laid beside the papers'."""


def instructions(name: str, intent: Intent) -> Items:
    """Return a benchmark's `items` of one of the seven sets."""
    return partial(_items, name, intent)


def _items(name: str, intent: Intent, source: Path | None = None) -> Iterator[Item]:
    path = find(source, f"safe-to-serve/{name}.json", f"{name} set")
    if path.suffix != ".json":
        raise BadInputError("not a JSON file", where=str(path), cure='a file like {"instructions": [], "inputs": []}')
    for found in FORMATS["safe-to-serve"].read(path, intent):
        yield Item(asked(found.text, intent, found.category, f"safe-to-serve/{name}", LICENCE, found.tags), "")
