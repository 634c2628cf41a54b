"""Oxidation-state rules: which compositions can be neutral.

Charges are SMACT's list of 2014 (the common states of GNoME's time). From narrowest to widest:

strict: one common charge an element, electronegative elements the negative ones, sum zero (`smact_filter`'s tests).
ordered: as relaxed, but the most electronegative element is an anion if it can be.
relaxed: metals may also be neutral, and up to two elements may sit between two adjacent charges. Elements then reach
    every total between their extremes in steps of one, so that a composition passes if its lowest total is at most zero
    and its highest at least zero; all-metal compositions pass as intermetallics.
literal: as relaxed with zero among the charges of every element, which turns away nothing but elements without charges.

GNoME (Nature 624, 80, 2023, Methods) gives the relaxed rule in words whose literal reading passes everything; "relaxed"
is the reading that this package takes for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np

from gnome_core.compositions.formulas import SYMBOLS

N_COLUMNS = 95  # compositions are (n, 95) atom counts by atomic number

OxidationRule = Literal["strict", "ordered", "relaxed", "literal"]


@cache
def _elements() -> tuple[tuple[tuple[int, ...], ...], np.ndarray, np.ndarray]:
    """By atomic number: common charges ascending, Pauling electronegativity (95,; NaN where unknown), metals (95,)."""
    import smact

    elements = [smact.Element(SYMBOLS[z]) for z in range(1, N_COLUMNS)]
    charges = tuple(tuple(sorted(element.oxidation_states_smact14 or ())) for element in elements)
    electronegativity = np.array([np.nan, *(element.pauling_eneg or np.nan for element in elements)])
    metals = np.isin(SYMBOLS[:N_COLUMNS], smact.metals)
    return ((), *charges), electronegativity, metals


@cache
def _charge_limits(rule: OxidationRule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(95,) each: lowest charge, highest, highest as the most electronegative element; NaN where there is none."""
    charges, _, metals = _elements()
    limits = np.full((3, N_COLUMNS), np.nan)
    for z, states in enumerate(charges):
        zero = (0,) if metals[z] or (rule == "literal" and states) else ()
        if states := states + zero:
            highest = max(states)
            anionic = max((q for q in states if q < 0), default=highest)
            limits[:, z] = min(states), highest, anionic if rule == "ordered" else highest
    return limits[0], limits[1], limits[2]


def systems_pass(systems: np.ndarray, counts: np.ndarray, rule: OxidationRule = "relaxed") -> np.ndarray:
    """(s, m) bool: whether each of the s chemical systems passes with each of the m stoichiometries.

    systems: (s, k) atomic numbers, distinct within a row. counts: (m, k) atoms of each element.
    """
    if rule == "strict":
        return np.stack([_passes_strictly(tuple(system), counts) for system in systems.tolist()])
    low, high = _system_limits(systems, rule)
    stoichiometries = counts.T.astype(np.float64)
    # An element without charges makes NaN of a sum, which compares false.
    return (low @ stoichiometries <= 0) & (high @ stoichiometries >= 0)


def can_be_neutral(compositions: np.ndarray, rule: OxidationRule = "relaxed") -> np.ndarray:
    """(n,) bool: whether compositions (n, 95), atom counts by atomic number, pass the rule."""
    compositions = np.asarray(compositions)
    passed = np.zeros(len(compositions), bool)
    n_elements = (compositions > 0).sum(axis=1)
    for k in np.unique(n_elements[n_elements > 0]).tolist():
        rows = np.flatnonzero(n_elements == k)
        systems = np.nonzero(compositions[rows])[1].reshape(-1, k)
        counts = np.take_along_axis(compositions[rows], systems, axis=1)
        if rule == "strict":
            passed[rows] = [_passes_alone(*row) for row in zip(systems.tolist(), counts.tolist(), strict=True)]
        else:
            low, high = _system_limits(systems, rule)
            passed[rows] = ((low * counts).sum(axis=1) <= 0) & ((high * counts).sum(axis=1) >= 0)
    return passed


def _system_limits(systems: np.ndarray, rule: OxidationRule) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest charge of each element of each system, (s, k)."""
    low, high, highest_anionic = _charge_limits(rule)
    electronegativity = np.nan_to_num(_elements()[1][systems], nan=-np.inf)
    strongest = electronegativity.argmax(axis=1)[:, None]
    limits = high[systems]
    np.put_along_axis(limits, strongest, np.take_along_axis(highest_anionic[systems], strongest, axis=1), axis=1)
    return low[systems], limits


def _passes_strictly(system: tuple[int, ...], counts: np.ndarray) -> np.ndarray:
    """(m,) bool: whether some choice of one charge an element is ordered by electronegativity and neutral."""
    charges = _ordered_charges(system)
    # Products of small integers are exact in float32.
    totals = counts.astype(np.float32) @ charges.T
    return (totals == 0).any(axis=1)


def _passes_alone(system: Sequence[int], counts: Sequence[int]) -> bool:
    """`_passes_strictly` of one composition.

    In order of electronegativity the cations come first. Bit q of a set: the cations so far, or the anions, can have
    the total charge q, or -q; they balance where sets on both sides of a place in that order share a bit.
    """
    states, electronegativity, _ = _elements()
    strength = electronegativity[system].tolist()
    if len(system) > 1 and any(map(math.isnan, strength)):
        return False
    order = sorted(range(len(system)), key=strength.__getitem__)
    cations, anions = [1], [1]  # of nothing: the charge 0
    for place, sign, sets in (*((i, 1, cations) for i in order), *((i, -1, anions) for i in order[::-1])):
        totals = 0
        for charge in states[system[place]]:
            if sign * charge >= 0:
                totals |= sets[-1] << sign * charge * counts[place]
        sets.append(totals)
    return any(
        cations[n] & anions[len(order) - n]
        for n in range(len(order) + 1)
        if not 0 < n < len(order) or strength[order[n - 1]] < strength[order[n]]
    )


def _ordered_charges(system: tuple[int, ...]) -> np.ndarray:
    """(c, k) float32: choices of one common charge an element in which no cation is as electronegative as an anion."""
    states, electronegativity, _ = _elements()
    strength = electronegativity[list(system)]
    if len(system) > 1 and np.isnan(strength).any():  # the order cannot be told
        return np.empty((0, len(system)), np.float32)
    choices = np.array(list(itertools.product(*(states[z] for z in system))), np.float32).reshape(-1, len(system))
    anions = np.where(choices < 0, strength, np.inf).min(axis=1, initial=np.inf)
    cations = np.where(choices > 0, strength, -np.inf).max(axis=1, initial=-np.inf)
    return choices[cations < anions]
