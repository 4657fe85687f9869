"""Names of data sets on the hub, as sources write them: ID, or ID@CONFIG where a set has several configurations."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from primum.core.errors import UsageError


class HubName(NamedTuple):
    """The id of a data set (or a folder that `datasets` reads), and its configuration; None is the set's own choice."""

    id: str
    config: str | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """What `datasets.load_dataset` is told by position."""
        return (self.id,) if self.config is None else (self.id, self.config)


def hub_name(text: str) -> HubName:
    """Read ID or ID@CONFIG; no id on the hub holds an "@", and a folder whose name does is taken whole.

    Raises:
        UsageError: nothing before or behind the "@".
    """
    name, at, config = text.partition("@")
    if not at or Path(text).exists():
        return HubName(text)
    if not name or not config:
        raise UsageError(
            f"cannot read '{text}'", cure="write hub:ID@CONFIG:SPLIT, like hub:allenai/ai2_arc@ARC-Easy:test"
        )
    return HubName(name, config)
