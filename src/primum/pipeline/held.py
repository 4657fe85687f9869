"""The domain of a repair: the rows that its training stays near, and the others, which are measured."""

from __future__ import annotations

from pathlib import Path

from primum.evaluation.domain import DomainRow, parts, read_domain
from primum.pipeline.settings import RepairConfig


def held_rows(config: RepairConfig) -> list[DomainRow]:
    """Return the rows on which training stays near what the model says; none where that weighs nothing."""
    return list(parts(_rows(config)).train) if config.domain_weight else []


def measured_rows(config: RepairConfig) -> list[DomainRow]:
    """Return the rows that are measured, in their order: all that training does not see."""
    held = {row.prompt for row in held_rows(config)}
    return [row for row in _rows(config) if row.prompt not in held]


def _rows(config: RepairConfig) -> list[DomainRow]:
    return read_domain(Path(config.domain)) if config.domain else []
