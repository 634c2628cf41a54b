"""What an analysis says: tables, a few numbers that sum them up, and what a reader must know to read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

T = TypeVar("T")
# How long loops show progress: track(items, what) yields the items.
Track = Callable[[Sequence[T], str], Iterable[T]]


def untracked(items: Sequence[T], what: str) -> Iterable[T]:
    """No progress shown."""
    return items


@dataclass(frozen=True)
class Analysis:
    """The outcome of one analysis.

    name: as on the command line, "li-conductors". tables: by name; the first is what the report shows.
    summary: label -> number or text, in the order to be read. notes: definitions and limits, one sentence or two each.
    """

    name: str
    title: str
    tables: Mapping[str, pa.Table]
    summary: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
