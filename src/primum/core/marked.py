"""YAML files whose mistakes are told with the line: the value, and where each part of it stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from primum.core.errors import BadInputError

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


def read_marked(path: Path, what: str) -> Marked:
    """Read a YAML file; nothing in it is evaluated.

    Args:
        path: the file.
        what: it is, for the message.

    Raises:
        BadInputError: no such file, not UTF-8, or no YAML; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return Marked(path, yaml.safe_load(text), _lines(yaml.compose(text, Loader=yaml.SafeLoader)))
    except OSError as error:
        raise BadInputError(f"no such {what}", where=str(path), cure="check the path") from error
    except UnicodeDecodeError as error:
        raise BadInputError("not UTF-8", where=str(path), cure="save the file as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise BadInputError(f"no valid YAML ({getattr(error, 'problem', error)})", where=where) from error


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
