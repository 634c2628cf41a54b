"""Text for pages and plots: formulas with subscripts, mappings, numbers with units. What is markup says so by its type;
all else is escaped where a template writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

NOTHING = "–"


def formula_html(formula: str) -> Markup:
    """ "Li2O" -> "Li<sub>2</sub>O", everything else escaped; plotly and browsers both read it."""
    return Markup(re.sub(r"(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)", r"<sub>\1</sub>", str(escape(formula))))


def mapping_text(mapping: Mapping[str, str]) -> str:
    """{"Na": "K"} -> "Na → K"."""
    return ", ".join(f"{old} → {new}" for old, new in mapping.items())


def count(value: int) -> str:
    return f"{value:,}"


def number(value: float, digits: int = 0) -> str:
    """Fixed digits, a true minus sign; a dash for NaN."""
    return f"{value:,.{digits}f}".replace("-", "−") if value == value else NOTHING


def milli(value: float, digits: int = 0) -> str:
    """eV as meV, fixed digits; a dash for NaN."""
    return number(1000 * value, digits)


def cell(value: object) -> str:
    """Any value of a table; numbers to four significant digits, a dash for nothing."""
    if value is None or value != value:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value)


def duration(seconds: float) -> str:
    """ "0.8 s", "42 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
