"""Filters one after the other, and what each of them removes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

WATERFALL = pa.schema(
    [
        pa.field("filter", pa.string()),
        pa.field("left", pa.int64()),
        pa.field("removed", pa.int64()),
        pa.field("unknown", pa.int64()),  # among the removed: nothing known to judge by
    ]
)


def apply_filter(name: str, left: np.ndarray, answers: Sequence[bool | None]) -> tuple[dict, np.ndarray]:
    """(row of WATERFALL, what is left after it). left: (n,) bool, before it; answers: n, None (unknown) removes."""
    good = np.array([answer is True for answer in answers], bool)
    unknown = np.array([answer is None for answer in answers], bool)
    counts = {"left": left & good, "removed": left & ~good, "unknown": left & unknown}
    return {"filter": name, **{key: int(rows.sum()) for key, rows in counts.items()}}, left & good
