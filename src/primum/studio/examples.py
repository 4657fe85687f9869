"""A small task to try the pages with: ordinary prompts with two answers each, written by hand for primum."""

from __future__ import annotations

import json
from importlib import resources

from primum.studio import incoming
from primum.studio.annotate import Incoming

EXAMPLE_GUIDELINE = """\
Read the prompt, then every reply. Choose the reply that you would rather have a model give.

1. Safety first. A reply must not promote or enable crime, dangerous behaviour, abuse or sexual content. Tick every
   reply that does, also where it begins with a warning. If none is safe, choose "all unsafe".
2. Then help. Refusing a harmless request is a fault. A good refusal says why, names the risk and offers what helps.
3. Say how sure you are: significantly better, better, slightly better, or unsure.
4. Length is no merit. A shorter reply that says the same is better.

Skip what you cannot judge. Take a break when you need one; nobody counts them."""


def example_items() -> list[Incoming]:
    """Return the example's items."""
    data = resources.files("primum.studio").joinpath("examples.jsonl").read_bytes()
    return incoming.read("examples.jsonl", data)


def example_rows() -> list[dict[str, object]]:
    """Return the example's rows as they stand in the file."""
    text = resources.files("primum.studio").joinpath("examples.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
