"""Packed compositions: (n, 12) uint8, six atomic numbers, ascending, and the atoms of each, 0 padded; reduced, so that
no two rows are the same composition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from gnome_core.compositions.formula_parser import BadFormula, composition_of, parse_formula
from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER

MAX_ELEMENTS = 6


def pack_compositions(compositions: np.ndarray) -> np.ndarray:
    """(n, 12) uint8 of compositions (n, 95), atom counts by atomic number.

    Raises ValueError for a row of no or of more than six elements, or of more than 255 atoms of one.
    """
    compositions = np.asarray(compositions)
    n_elements = (compositions > 0).sum(axis=1)
    unfit = (n_elements < 1) | (n_elements > MAX_ELEMENTS) | (compositions.max(axis=1, initial=0) > 255)
    if unfit.any():
        raise ValueError(
            f"row {int(unfit.argmax())}: a composition has 1 to {MAX_ELEMENTS} elements, at most 255 atoms of each"
        )
    # Elements present come first, ascending; the others are cut off or zeroed.
    order = np.argsort(compositions <= 0, axis=1, kind="stable")[:, :MAX_ELEMENTS]
    counts = np.take_along_axis(compositions, order, axis=1)
    return np.hstack([np.where(counts > 0, order, 0), counts]).astype(np.uint8)


def unpack_compositions(packed: np.ndarray) -> np.ndarray:
    """(n, 95) int32 atom counts by atomic number; the inverse of `pack_compositions`."""
    compositions = np.zeros((len(packed), MAX_ATOMIC_NUMBER + 1), np.int32)
    np.put_along_axis(compositions, packed[:, :MAX_ELEMENTS].astype(np.intp), packed[:, MAX_ELEMENTS:], axis=1)
    return compositions


def parse_formulas(formulas: Sequence[str]) -> np.ndarray:
    """The distinct reduced compositions (n, 12) of formulas such as "Li15Si4", in the order given.

    Raises ValueError naming the formula that is not one, or that no recipe can hold.
    """
    rows: dict[tuple[int, ...], None] = {}
    for formula in formulas:
        try:
            whole = all(amount.denominator == 1 for amount in parse_formula(formula).values())
        except BadFormula as error:
            raise ValueError(str(error)) from None
        if not whole:
            raise ValueError(f"{formula!r} is no formula; write whole numbers of atoms, as in Li15Si4")
        key = composition_of(formula)
        if len(key) > MAX_ELEMENTS or max(n for _, n in key) > 255:
            raise ValueError(f"{formula}: at most {MAX_ELEMENTS} elements up to Pu, at most 255 atoms of each")
        pad = (0,) * (MAX_ELEMENTS - len(key))
        rows[(*(z for z, _ in key), *pad, *(n for _, n in key), *pad)] = None
    return np.array(list(rows), np.uint8).reshape(-1, 2 * MAX_ELEMENTS)


@lru_cache(maxsize=4)
def given_compositions(formulas: tuple[str, ...]) -> np.ndarray:
    """`parse_formulas`, once per process and list."""
    return parse_formulas(formulas)
