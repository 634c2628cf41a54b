"""JSON on stdout, for scripts; docs/json.md has the schemas."""

from __future__ import annotations

import json
import math
from typing import Any

import typer


def print_json(document: dict[str, Any]) -> None:
    """One document; a number that is none (NaN, infinity) is null, for JSON has no name for it."""
    typer.echo(json.dumps(_finite(document), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
