"""Whether a composition can be made of ions that crystals are known to hold, and of which.

The charges are those that SMACT counts in the ICSD (version of 2024), at least `COMMON` of an element's: La2+ (0.6 %)
and S5+ (0.3 %) are none, Cr4+ (3.6 %) is one. Of the compositions with a nonmetal that experiment knows, five in six
pass; the others hold rarer charges (peroxides, clusters) or lack atoms that were not refined (docs/credibility.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise, product
from math import prod
from typing import NamedTuple

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER, NUMBERS, SYMBOLS

COMMON = 0.01
METALLOIDS = frozenset(NUMBERS[symbol] for symbol in ("B", "Si", "Ge", "As", "Sb", "Te"))


class _Ions(NamedTuple):
    """By atomic number. shares: charge -> its share of the element's ions. mixed: metals that may hold two at once."""

    shares: Mapping[int, Mapping[int, float]]
    electronegativity: Mapping[int, float]
    metals: frozenset[int]
    mixed: frozenset[int]


@cache
def _ions() -> _Ions:
    import smact
    from smact.screening import MIXED_VALENCE_ELEMENTS
    from smact.utils.oxidation import ICSD24OxStatesFilter
    from smact.utils.species import parse_spec

    counted = ICSD24OxStatesFilter().get_species_occurrences_df(include_one_oxidation_state=True)
    shares: dict[int, dict[int, float]] = {}
    for species, percent in zip(counted["species"], counted["species_proportion (%)"], strict=True):
        symbol, charge = parse_spec(species)
        if symbol in NUMBERS and percent >= 100 * COMMON:
            shares.setdefault(NUMBERS[symbol], {})[int(charge)] = percent / 100
    strength = {z: smact.Element(SYMBOLS[z]).pauling_eneg for z in range(1, MAX_ATOMIC_NUMBER + 1)}
    metals, mixed = (
        frozenset(NUMBERS[symbol] for symbol in symbols if symbol in NUMBERS)
        for symbols in (smact.metals, MIXED_VALENCE_ELEMENTS)
    )
    return _Ions(shares, {z: x for z, x in strength.items() if x is not None}, metals, mixed)


def without_nonmetals(elements: Iterable[int]) -> bool:
    """Whether charges say nothing: one element, or metals and metalloids with a metal among them."""
    elements, metals = set(elements), _ions().metals
    return len(elements) == 1 or (elements <= metals | METALLOIDS and bool(elements & metals))


def likely_charges(counts: Mapping[int, int]) -> dict[int, float] | None:
    """Atomic number -> charge of the likeliest choice of common charges that sums to zero, or None where none does.

    counts: atoms by atomic number. One charge an element, cations less electronegative than anions (SMACT's tests);
    likeliest: of the largest product of shares. Where there is none, one element that is known for mixed valence
    (SMACT's list) may hold two neighbouring charges, and its mean is given: Fe 8/3 in Fe3O4.
    """
    ions = _ions()
    if any(z not in ions.shares for z in counts):
        return None
    whole = ((charges, share) for charges, share in _choices(counts) if _total(charges, counts) == 0)
    found = [(share, charges) for charges, share in whole if _cations_give(charges)]
    found = found or [pair for z in counts if z in ions.mixed for pair in _mixed_valence(z, counts)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _choices(elements: Iterable[int]) -> Iterable[tuple[dict[int, float], float]]:
    """Every choice of one common charge an element, with the product of its shares."""
    elements, shares = list(elements), _ions().shares
    for choice in product(*(shares[z].items() for z in elements)):
        yield dict(zip(elements, (float(q) for q, _ in choice), strict=True)), prod(share for _, share in choice)


def _mixed_valence(z: int, counts: Mapping[int, int]) -> Iterable[tuple[float, dict[int, float]]]:
    """(share, charges) of choices in which z, a cation, lies between two of its charges."""
    own = _ions().shares[z]
    steps = list(pairwise(sorted(q for q in own if q > 0)))
    for others, share in _choices(other for other in counts if other != z):
        mean = -_total(others, counts) / counts[z]
        charges = {**others, z: mean}
        if _cations_give(charges):
            for low, high in steps:
                if low < mean < high:
                    yield share * min(own[low], own[high]), charges


def _total(charges: Mapping[int, float], counts: Mapping[int, int]) -> float:
    return sum(charge * counts[z] for z, charge in charges.items())


def _cations_give(charges: Mapping[int, float]) -> bool:
    """Whether there are cations and anions, and every anion is more electronegative than every cation; elements that
    Pauling's scale lacks (Eu, Yb, Pm and others, all of them metals) pass as cations."""
    strength = _ions().electronegativity
    cations = [strength.get(z, 0.0) for z, charge in charges.items() if charge > 0]
    anions = [strength.get(z, 0.0) for z, charge in charges.items() if charge < 0]
    return bool(cations and anions) and max(cations) < min(anions)
