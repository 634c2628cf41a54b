"""Names of the side outputs that row-wise steps have beside their rows, and the counters they emit."""

from __future__ import annotations

import pyarrow as pa

COUNTS = "counts"  # (counter, rows) pairs
DEAD = "dead"  # record batches of dead_letters.DEAD_SCHEMA

IN = "in"


def rejected(reason: str) -> str:
    return f"rejected/{reason}"


def dead(reason: str) -> str:
    return f"dead/{reason}"


def tally(name: str) -> str:
    """A number that is counted exactly but says nothing of where rows went; it ends among the commit's metrics."""
    return f"tally/{name}"


HINTS = {COUNTS: tuple[str, int], DEAD: pa.RecordBatch}
