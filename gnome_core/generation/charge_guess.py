"""The most probable neutral charges of a composition: pymatgen's guess (`Composition.oxi_state_guesses`), by dynamic
programming where pymatgen tries every multiset of states, which takes it minutes for large cells.
"""

from __future__ import annotations

from functools import cache

from gnome_core.compositions.formulas import SYMBOLS, Composition


def most_probable_charges(key: Composition) -> dict[int, float] | None:
    """Average charge (atomic number -> e) of each element in a reduced composition ((Z, count), ...).

    Of all choices of a state a site that sum to zero, the one whose states occur most often in the ICSD, over all
    sites; of equal ones pymatgen's first. None where no choice is neutral.
    """
    if len(key) == 1:
        return {key[0][0]: 0.0}
    # Last elements first. By what they sum to: score, place of each one's sum among its sums, and the sums.
    ways: dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]] = {0: (0, (), ())}
    for z, count in reversed(key):
        places = {total: (place, score) for place, (total, score) in enumerate(_element_sums(z, count))}
        more = {}
        for total, (place, score) in places.items():
            for rest, (score_of_rest, places_of_rest, totals_of_rest) in ways.items():
                way = (score + score_of_rest, (-place, *places_of_rest), (total, *totals_of_rest))
                if total + rest not in more or way[:2] > more[total + rest][:2]:
                    more[total + rest] = way
        ways = more
    if 0 not in ways:
        return None
    return {z: total / count for (z, count), total in zip(key, ways[0][2], strict=True)}


@cache
def _element_sums(z: int, count: int) -> list[tuple[int, int]]:
    """(total charge, highest score) of `count` sites, in the order in which pymatgen comes by the totals."""
    # Last states first. By (sites, total): score, and the first multiset with the total, as sites a state.
    states = _states(z)
    ways: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {(0, 0): (0, ())}
    for charge, occurrence in reversed(states):
        more: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}
        for (sites, total), (score, first) in ways.items():
            for n in range(count - sites + 1):
                at = sites + n, total + n * charge
                here, multiset = score + n * occurrence, (n, *first)
                best, earliest = more.get(at, (here, multiset))
                more[at] = max(best, here), max(earliest, multiset)
        ways = more
    whole = [(multiset, total, score) for (sites, total), (score, multiset) in ways.items() if sites == count]
    return [(total, score) for _, total, score in sorted(whole, reverse=True)]


@cache
def _states(z: int) -> list[tuple[int, int]]:
    """(charge, occurrences in the ICSD) of an element's states, in pymatgen's order."""
    from pymatgen.core import Composition as PymatgenComposition
    from pymatgen.core import Element, Species

    symbol = SYMBOLS[z]
    PymatgenComposition("NaCl").oxi_state_guesses()  # its first guess reads the occurrences
    occurrences = PymatgenComposition.oxi_prob or {}
    element = Element(symbol)
    charges = element.icsd_oxidation_states or element.common_oxidation_states
    return [(int(charge), int(occurrences.get(Species(symbol, charge), 0))) for charge in charges]
