"""What a cell of a table says."""

from __future__ import annotations

# How tables write that there is nothing.
NOTHING = frozenset({"", "-", "--", "none", "null", "na", "n/a", "#n/a", "nan"})


def as_number(value: object) -> float | None:
    """The number that a cell holds, text or not; None where it says that there is none ("None", "-", blank).

    Raises ValueError for other text, such as "8.3(1)" or "-3,1".
    """
    if value is None:
        return None
    if isinstance(value, str):
        if value.strip().lower() in NOTHING:
            return None
        if "_" in value:  # which Python reads as a separator of digits
            raise ValueError(f"{value!r} is no number")
    try:
        return float(value)  # ty: ignore[invalid-argument-type] (TypeError is caught)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no number") from None
