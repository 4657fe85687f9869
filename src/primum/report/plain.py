"""Templates to self-contained pages that run no script: what the smaller pages share with the report's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from primum.report import words


def document_page(template: str, title: str, view: Mapping[str, Any]) -> str:
    """Return the page; whatever the view holds is escaped, cleaned and never marked as safe."""
    style = resources.files("primum.report").joinpath("templates/page.css").read_text(encoding="utf-8")
    return _environment().get_template(template).render({**view, "title": title, "style": Markup(style)})


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("primum.report", "templates"), autoescape=True, undefined=ChainableUndefined,
        finalize=_shown, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    names = ("percent", "number", "interval", "spread", "change", "amount", "p_value", "seconds", "figure", "words",
             "moment", "clip")  # fmt: skip
    environment.globals["points"] = words.points
    environment.filters |= {name: getattr(words, name) for name in names}
    return environment


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else words.clean("" if value is None else value)
