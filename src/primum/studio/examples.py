"""A small task to try the pages with: ordinary prompts with two answers each, written by hand for primum."""

from __future__ import annotations

import json
from importlib import resources

from primum.studio import incoming
from primum.studio.annotate import Incoming


def example_items() -> list[Incoming]:
    """Return the example's items."""
    data = resources.files("primum.studio").joinpath("examples.jsonl").read_bytes()
    return incoming.read("examples.jsonl", data)


def example_rows() -> list[dict[str, object]]:
    """Return the example's rows as they stand in the file."""
    text = resources.files("primum.studio").joinpath("examples.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
