"""Balanced reactions, as text, of a composition and the phases that it separates into or is in equilibrium with."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import lcm

import numpy as np

from gnome_core.compositions.formulas import formula_of_composition
from gnome_core.stability.hull import Hull
from gnome_core.stability.system import Decomposition

MAX_COEFFICIENT = 200  # larger whole numbers say less than decimals


def reaction(reactant: np.ndarray, products: Sequence[tuple[np.ndarray, float]]) -> str:
    """ "2 LiFeO2 -> Li2O + Fe2O3": coefficients count formula units, whole numbers where there are small ones.

    reactant: (95,) amounts of each element. products: (amounts (95,), share of the atoms) of each; shares add up to 1.
    """
    left, atoms = _formula(reactant)
    right = [_formula(amounts) for amounts, _ in products]
    # Atoms of one formula unit of the reactant go to the products by their shares.
    units = [share * atoms / size for (_, share), (_, size) in zip(products, right, strict=True)]
    fractions = [Fraction(unit).limit_denominator(MAX_COEFFICIENT) for unit in units]
    scale = lcm(*(fraction.denominator for fraction in fractions))
    exact = all(abs(fraction - unit) < 1e-6 for fraction, unit in zip(fractions, units, strict=True))
    if exact and scale <= MAX_COEFFICIENT:
        terms = [_term(int(fraction * scale), name) for fraction, (name, _) in zip(fractions, right, strict=True)]
        return f"{_term(scale, left)} -> {' + '.join(terms)}"
    terms = [f"{unit:.4g} {name}" for unit, (name, _) in zip(units, right, strict=True)]
    return f"{left} -> {' + '.join(terms)}"


def decomposition_reaction(hull: Hull, entry: int) -> str:
    """The reaction of an entry to the phases of the hull at its composition."""
    return _reaction_of(hull, entry, hull.decomposition(hull.compositions([entry])[0]))


def equilibrium_reaction(hull: Hull, entry: int) -> str:
    """The reaction of an entry to the phases that it competes with; "" for an element, which has no competitor."""
    products = hull.competing_phases(entry)
    return _reaction_of(hull, entry, products) if products else ""


def _reaction_of(hull: Hull, entry: int, products: Sequence[Decomposition]) -> str:
    reactant, *amounts = hull.compositions([entry, *(product.entry for product in products)])
    return reaction(reactant, [(a, p.atom_fraction) for a, p in zip(amounts, products, strict=True)])


def _formula(amounts: np.ndarray) -> tuple[str, int]:
    """Reduced formula and the atoms in it ("O2": 2)."""
    elements = np.flatnonzero(amounts)
    parts = [Fraction(float(a / amounts.sum())).limit_denominator(1000) for a in amounts[elements]]
    scale = lcm(*(part.denominator for part in parts))
    return _named(tuple((int(z), int(part * scale)) for z, part in zip(elements, parts, strict=True)))


@lru_cache(maxsize=100_000)
def _named(counts: tuple[tuple[int, int], ...]) -> tuple[str, int]:
    from pymatgen.core import Composition

    name = formula_of_composition(counts)
    return name, int(Composition(name).num_atoms)


def _term(coefficient: int, name: str) -> str:
    return name if coefficient == 1 else f"{coefficient} {name}"
