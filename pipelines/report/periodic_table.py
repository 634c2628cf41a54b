"""The periodic table as pages draw it: where an element stands, and how crystals with it are drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from gnome_core.compositions.formulas import NUMBERS, SYMBOLS

NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)
LAST = 103  # lawrencium


def place(number: int) -> tuple[int, int]:
    """(row, column) from 1, of 18 columns; lanthanides and actinides stand below, in rows 8 and 9."""
    period = next(i for i, last in enumerate(NOBLE_GASES, 1) if number <= last)
    first = NOBLE_GASES[period - 2] + 1 if period > 1 else 1
    last = NOBLE_GASES[period - 1]
    if number - first < 2 and number != last:
        return period, number - first + 1
    if period > 5 and number - first < 16:  # as many as f orbitals hold, and lanthanum or actinium
        return period + 2, number - first + 1
    return period, 18 - (last - number)


def squares(found: Iterable[str]) -> list[dict[str, Any]]:
    """Every element with its place, and how many of the crystals hold it. found: their elements, one by one."""
    counts: dict[str, int] = {}
    for symbol in found:
        counts[symbol] = counts.get(symbol, 0) + 1
    places = ((SYMBOLS[z] if z < len(SYMBOLS) else "", place(z)) for z in range(1, LAST + 1))
    return [
        {"symbol": symbol, "row": row, "column": column, "crystals": counts.get(symbol, 0)}
        for symbol, (row, column) in places
        if symbol
    ]


def appearance(symbols: Iterable[str]) -> dict[str, list]:
    """symbol -> [colour (Jmol's), covalent radius in Å, Pauling's electronegativity or None]."""
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from pymatgen.core import Element

    found = {}
    for symbol in sorted(set(symbols)):
        z = NUMBERS[symbol]
        red, green, blue = (int(255 * part) for part in jmol_colors[z])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a noble gas has none
            chi = float(Element(symbol).X)
        found[symbol] = [
            f"#{red:02x}{green:02x}{blue:02x}",
            round(float(covalent_radii[z]), 2),
            chi if chi > 0 else None,
        ]
    return found
