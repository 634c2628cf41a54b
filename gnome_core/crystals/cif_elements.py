"""The element of each site that a CIF lists, from its type symbol or, where there is none, its label."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.cif_blocks import UNKNOWN
from gnome_core.crystals.crystal import InvalidCrystal

_ISOTOPES = {"D": 1}
# Words that begin as an element does: water, vacancies, centroids, dummies.
_NO_ATOM = re.compile(r"wat|vac|voi|cent|cnt|hoh|dum", re.IGNORECASE)
# Labels of atoms that carry hydrogen: hydroxyl, water, ammonium, hydronium.
_GROUP = re.compile(r"o[hdw]|nh|ch\d|h[23]o|d2o", re.IGNORECASE)


def site_elements(types: Sequence[str], labels: Sequence[str], stated: Collection[int] | None) -> list[int]:
    """Atomic number of each site. types and labels: n strings each, "?" where there is none.

    stated: the elements of `_chemical_formula_sum`, which decide between the readings of a label such as HO1; None
    where the file has no formula. Raises InvalidCrystal: unknown_element, missing_hydrogens.
    """
    # Only where a file tells upper from lower case is the H of OH1, or the O of CO1, sure to be another word.
    mixed_case = any(re.match(r"[A-Z][a-z]", label) for label in labels)
    numbers = []
    for row, (symbol, label) in enumerate(zip(types, labels, strict=True), 1):
        word = label if symbol in UNKNOWN else symbol
        readings = _of_type(symbol) if symbol not in UNKNOWN else _of_label(label, mixed_case)
        if stated and len(readings) > 1:
            readings = [number for number in readings if number in stated] or readings
        if not readings:
            raise InvalidCrystal("unknown_element", f"site {row} is {word!r}, no known element; correct the symbol")
        if len(readings) > 1 and readings[0] != readings[1] and _is_ambiguous(word, symbol, mixed_case):
            raise InvalidCrystal(
                "unknown_element",
                f"site {row} is {word!r}, which may be one of two elements; add _atom_site_type_symbol",
            )
        numbers.append(readings[0])
    if stated is None and 1 not in numbers:
        for row, label in enumerate(labels, 1):
            if _GROUP.match(label):
                raise InvalidCrystal(
                    "missing_hydrogens",
                    f"site {row} is labelled {label!r}, but no hydrogen is listed; export it with all atoms",
                )
    return numbers


def _of_type(symbol: str) -> list[int]:
    """ "Fe3+", "FE", "O2-": one element; "CO3" may be cobalt or a carbonate."""
    match = re.fullmatch(r"([A-Za-z]{1,2})(\d*\.?\d*)([+-]?)[\d.]*", symbol)
    if not match:
        return []
    readings = _elements(match[1])
    if match[1].isupper() and match[2] and not match[3]:
        return readings
    return readings[:1] if len(match[1]) == 1 or _element(match[1]) else []


def _of_label(label: str, mixed_case: bool) -> list[int]:
    """The readings of a label, the likelier first: its first two letters, or its first."""
    letters = re.match(r"[A-Za-z]*", label)[0]  # ty: ignore[not-subscriptable] (it always matches)
    if _NO_ATOM.match(letters):
        return []
    readings = _elements(letters[:2])
    if mixed_case and letters[:2].isupper() and len(letters) > 1:
        readings.reverse()
    if len(letters) > 2 and letters[1:3].islower():  # a word, not a symbol: only its first two letters can be one
        readings = [one for one in readings if one == _element(letters[:2])]
    return readings


def _elements(letters: str) -> list[int]:
    found = [_element(letters), _element(letters[:1])] if len(letters) > 1 else [_element(letters)]
    return list(dict.fromkeys(number for number in found if number))


def _element(letters: str) -> int | None:
    word = letters.capitalize()
    return NUMBERS.get(word) or _ISOTOPES.get(word)


def _is_ambiguous(word: str, symbol: str, mixed_case: bool) -> bool:
    """Whether both of two capitals are elements that form a group: HO1, CO1, OS1, a type CO3."""
    pair = word[:2]
    both = pair.isupper() and len(pair) == 2 and all(_element(letter) for letter in pair)
    if symbol not in UNKNOWN:
        return both
    return both and not mixed_case and bool(set(pair) & {"H", "O"})
