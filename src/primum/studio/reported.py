"""Reports of finished runs as the studio serves them: the page of the run's own kind, which runs no script.

A page is made again from the run's facts. Its styles are allowed by their hash and nothing else is; styles that stand
in single elements (the width of a bar) become rules of its style sheet, for a policy cannot allow those by name.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from jinja2 import TemplateError

from primum.core.errors import BadInputError, UsageError
from primum.core.store import read_json
from primum.report.write import load_facts, page_of

CURE = "`primum report` on this folder may say more; or run it again"
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_SINGLE = re.compile(r'(<[a-zA-Z][^<>]*?) style="([\w\s.:;%#(),-]*)"')


def page(folder: Path) -> str:
    """Return a finished run's page.

    Raises:
        UsageError: the run has not ended, or its report was not written by primum.
        BadInputError: the facts are broken.
    """
    found = next((make for name, make in PAGES.items() if (folder / name).is_file()), None)
    if found is None:
        raise UsageError("this run has no report yet", where=folder.name, cure="it is written when the run has ended")
    try:
        return ruled(found(folder))
    except BadInputError as error:  # which names the file by its whole path
        problem = f"the facts of this run are broken ({error.problem})"
        raise BadInputError(problem[:300], where=folder.name, cure=CURE) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, TemplateError) as error:
        problem = f"the facts of this run are broken ({type(error).__name__}: {error})"
        raise BadInputError(problem[:300], where=folder.name, cure=CURE) from error


def _audit(folder: Path) -> str:
    from primum.report.audit_page import audit_page

    return audit_page(read_json(folder / "audit.json"))


def _results(folder: Path) -> str:
    from primum.evaluation.tables import read_tables
    from primum.report.results import results_page

    return results_page(read_json(folder / "results.json"), {table.name: table for table in read_tables(folder)})


PAGES: dict[str, Callable[[Path], str]] = {
    "report.json": lambda folder: page_of(load_facts(folder)), "results.json": _results, "audit.json": _audit,
}  # fmt: skip
"""The file that a finished run leaves -> what makes its page."""


def ruled(text: str) -> str:
    """Return a page with the styles of single elements as rules of its last style sheet."""
    rules: dict[str, int] = {}

    def named(found: re.Match[str]) -> str:
        return f'{found[1]} data-style="{rules.setdefault(found[2], len(rules))}"'

    text = _SINGLE.sub(named, text)
    # three times the attribute: it must win over the sheet's other rules, as a style of the element would
    lines = "".join(f'\n{f"""[data-style="{n}"]""" * 3}{{{rule}}}' for rule, n in rules.items())
    before, end, after = text.rpartition("</style>")
    return f"{before}{lines}{end}{after}" if end and rules else text


def policy(text: str) -> str:
    """Return the Content-Security-Policy under which a page is sent; the page's own in its head only narrows it."""
    hashes = " ".join(f"'sha256-{b64encode(sha256(s.encode()).digest()).decode()}'" for s in _STYLE.findall(text))
    return (
        f"default-src 'none'; style-src {hashes}; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
