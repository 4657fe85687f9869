"""YAML files whose mistakes are told with the line: the value, and where each part of it stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from primum.core.errors import BadInputError

CURE = "check colons and indentation"
Place = tuple[str, ...]
"""The way to a part of a document: keys of mappings, numbers of lists."""


class Marked(NamedTuple):
    """What a YAML file holds, and the line of each place in it."""

    path: Path
    value: Any
    lines: Mapping[Place, int]

    def where(self, *at: str) -> str:
        """Return `file:line` of a place, or of the nearest one around it."""
        while at and at not in self.lines:
            at = at[:-1]
        return f"{self.path}:{self.lines.get(at, 1)}"


class Parsed(NamedTuple):
    """What YAML holds, and the node that knows where each part of it stands (None where it holds nothing)."""

    value: Any
    node: yaml.Node | None


def parse_yaml(text: str, where: str, cure: str = CURE) -> Parsed:
    """Parse YAML; nothing in it is evaluated.

    Args:
        text: the YAML.
        where: the file that it stands in, for the message.
        cure: what to do about text that is none.

    Raises:
        BadInputError: it is none; names file and line.
    """
    try:
        return Parsed(yaml.safe_load(text), cast(Any, yaml).compose(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:  # a day that no month has is a ValueError
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error)
        raise BadInputError(f"no valid YAML ({problem})", where=place, cure=cure) from error


def read_yaml(path: Path, what: str, cure: str = CURE) -> Parsed:
    """Read a YAML file; nothing in it is evaluated.

    Args:
        path: the file.
        what: it is, for the message.
        cure: what to do about one that is no YAML.

    Raises:
        BadInputError: no such file, not UTF-8, or no YAML; names the line.
    """
    if not path.is_file():
        raise BadInputError(f"no such {what}", where=str(path), cure="check the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError("not a UTF-8 text file", where=str(path), cure="save it as UTF-8") from error
    except OSError as error:
        raise BadInputError(f"cannot read: {error.strerror}", where=str(path), cure="check the path") from error
    return parse_yaml(text, str(path), cure)


def read_marked(path: Path, what: str) -> Marked:
    """Read a YAML file, with the line of each place in it.

    Raises:
        BadInputError: as `read_yaml`.
    """
    found = read_yaml(path, what)
    return Marked(path, found.value, _lines(found.node))


def _lines(node: Any, at: Place = ()) -> dict[Place, int]:
    """Return the line of each place of a YAML document."""
    if node is None:
        return {}
    found = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found |= _lines(value, (*at, str(key.value)))
            found[(*at, str(key.value))] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            found |= _lines(value, (*at, str(i)))
    return found
