"""Finding the items that make a batched call fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Bisected(NamedTuple):
    """`good`: (rows, result of the call on them), in row order. `bad`: (row, the error it raised alone)."""

    good: list[tuple[range, object]]
    bad: list[tuple[int, Exception]]


def bisect(function: Callable[[Sequence[T]], R], items: Sequence[T], errors: tuple[type[Exception], ...]) -> Bisected:
    """Call `function` on all items; where it raises one of `errors`, halve until the offending items stand alone.

    Costs about 2 log2(n) extra calls for each bad item. Other exceptions (a full disk, a lost device) propagate,
    so that the runner retries.
    """
    good: list[tuple[range, object]] = []
    bad: list[tuple[int, Exception]] = []

    def visit(start: int, stop: int) -> None:
        if start == stop:
            return
        try:
            good.append((range(start, stop), function(items[start:stop])))
        except errors as error:
            if stop - start == 1:
                bad.append((start, error))
            else:
                middle = (start + stop) // 2
                visit(start, middle)
                visit(middle, stop)

    visit(0, len(items))
    return Bisected(good, bad)
