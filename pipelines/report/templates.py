"""Templates -> HTML: whatever is put into one is escaped, unless it is markup already."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_template(name: str, **context: Any) -> Markup:
    """templates/NAME with the context; a name that the context lacks raises jinja2.UndefinedError."""
    return Markup(_environment().get_template(name).render(**context))


@cache
def asset(name: str) -> str:
    """assets/NAME: styles and scripts, which pages hold whole."""
    return files("pipelines.report").joinpath("assets", name).read_text("utf-8")
