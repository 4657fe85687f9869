"""Puts the site together: every page's routes, behind the guard."""

from __future__ import annotations

import importlib
import pkgutil

from starlette.routing import BaseRoute

from primum.studio import pages
from primum.studio.security import Guard
from primum.studio.web import Studio, site


def routes() -> list[BaseRoute]:
    """Return the routes of all pages (a page is a module of the folder `pages`)."""
    names = sorted(found.name for found in pkgutil.iter_modules(pages.__path__))
    return [one for name in names for one in importlib.import_module(f"{pages.__name__}.{name}").routes]


def build(studio: Studio, hosts: tuple[str, ...]) -> Guard:
    """Return the whole site for these host names."""
    return Guard(site(studio, routes()), hosts, https=studio.secure)
