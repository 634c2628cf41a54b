"""Ionic species and the substitution statistics between them, read once from pymatgen's lambda table.

A species is (atomic number, charge). Hautier et al., Inorg. Chem. 50, 656 (2011), doi:10.1021/ic102031h, counted in the
ICSD how often one species replaces another: 230 species, 6,683 of their 26,565 pairs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Literal

import numpy as np

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER

SpeciesMode = Literal["table", "extended", "elements"]
Scoring = Literal["gnome", "original"]

UNSEEN_ORIGINAL = -5.0  # pymatgen's alpha: lambda of a pair that the table does not list
UNSEEN_GNOME = 0.0  # GNoME, Methods, "Substitution patterns": lambda is floored at 0, for unseen pairs too

# Ions that the table lacks and that known crystals hold; the zero-valent state of every element comes on top.
ABSENT_IONS = (
    (1, -1), (6, -4), (14, -4), (15, -3), (32, -4), (33, -3), (51, -3), (52, -2), (61, 3), (79, -1), (83, -3),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SpeciesModel:
    """Substitution statistics as one dense matrix.

    numbers, charges: (s,) int, the species.
    log_prob: (s, s) float64, log p(new | old); row = new species, column = old species.
    index: (atomic number, charge) -> row. In mode "elements" every charge is 0.
    """

    mode: SpeciesMode
    numbers: np.ndarray
    charges: np.ndarray
    log_prob: np.ndarray
    index: dict[tuple[int, int], int]

    def nearest(self, number: int, oxidation: float) -> int | None:
        """The row of the element's species whose charge is nearest to `oxidation` and of the same sign, or None.

        Ties go to the smaller charge. Averages such as Fe 8/3+ in Fe3O4 thus become Fe3+.
        """
        if self.mode == "elements":
            return self.index.get((number, 0))
        rows = self._by_sign.get((number, (oxidation > 0) - (oxidation < 0)), ())
        return min(rows, key=lambda row: (abs(self.charges[row] - oxidation), abs(self.charges[row])), default=None)

    @cached_property
    def _by_sign(self) -> dict[tuple[int, int], list[int]]:
        rows: dict[tuple[int, int], list[int]] = {}
        for (number, charge), row in self.index.items():
            rows.setdefault((number, (charge > 0) - (charge < 0)), []).append(row)
        return rows


@lru_cache(maxsize=1)
def _lambda_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers (s,), charges (s,) and lambda (s, s) of pymatgen's table; NaN where it lists no value."""
    from pymatgen.core import Species

    # pymatgen's own class counts over all pairs besides, for which each process that generates would wait a second.
    table = json.loads(files("pymatgen.core.structure_prediction").joinpath("data/lambda.json").read_bytes())
    pairs = [(old, new, value) for old, new, value in table if "D1+" not in (old, new)]  # deuterium
    named = {name: Species.from_str(name) for pair in pairs for name in pair[:2]}
    species = sorted(set(named.values()), key=lambda s: (s.Z, s.oxi_state))
    rows = {name: species.index(s) for name, s in named.items()}
    weights = np.full((len(species), len(species)), np.nan)
    for old, new, value in pairs:
        weights[rows[old], rows[new]] = weights[rows[new], rows[old]] = value
    return np.array([s.Z for s in species]), np.array([_charge_of(s) for s in species]), weights


def _charge_of(species) -> int:
    if species.oxi_state is None:
        raise ValueError(
            f"pymatgen's substitution table lists {species} without an oxidation state; "
            "install the version of pymatgen that constraints.txt names"
        )
    return int(species.oxi_state)


@lru_cache(maxsize=8)
def species_model(mode: SpeciesMode = "extended", scoring: Scoring = "gnome") -> SpeciesModel:
    """The matrix log p(new | old) = lambda(new, old) - log sum_t exp(lambda(t, old)), t over the table's species.

    mode: "table" = the 230 species as they are; "extended" adds species that the table lacks (`ABSENT_IONS`, and the
    zero-valent state of every element up to Pu) with unseen pairs only, leaving the table's own probabilities as
    they were, so that tellurides, pnictides and intermetallics are searched; "elements" forgets charges: lambda of
    two elements is the largest over their species.
    scoring: "original" = Hautier's, with alpha = -5; "gnome" = lambda floored at 0 and an unchanged ion contributing
    a factor 1, since GNoME computes probabilities only "when two compositions differ" (Nature 624, 80, 2023, Methods).
    """
    numbers, charges, weights = _lambda_table()
    if mode == "elements":
        elements = np.unique(numbers)
        members = [np.flatnonzero(numbers == z) for z in elements]
        known = np.where(np.isnan(weights), -np.inf, weights)
        weights = np.array([[known[np.ix_(a, b)].max() for b in members] for a in members])
        weights[np.isneginf(weights)] = np.nan
        numbers, charges = elements, np.zeros_like(elements)
    n_table = len(numbers)
    if mode != "table":
        present = set(zip(numbers.tolist(), charges.tolist(), strict=True))
        added = [(z, 0) for z in range(1, MAX_ATOMIC_NUMBER + 1)] + (list(ABSENT_IONS) if mode == "extended" else [])
        added = sorted(set(added) - present)
        numbers = np.concatenate([numbers, [z for z, _ in added]]).astype(int)
        charges = np.concatenate([charges, [q for _, q in added]]).astype(int)
        weights = np.pad(weights, (0, len(added)), constant_values=np.nan)
    unseen = UNSEEN_GNOME if scoring == "gnome" else UNSEEN_ORIGINAL
    weights = np.where(np.isnan(weights), unseen, weights)
    if scoring == "gnome":
        weights = np.maximum(weights, UNSEEN_GNOME)
    log_prob = weights - np.log(np.exp(weights[:n_table]).sum(axis=0))
    if scoring == "gnome":
        np.fill_diagonal(log_prob, 0.0)
    index = {(int(z), int(q)): row for row, (z, q) in enumerate(zip(numbers, charges, strict=True))}
    return SpeciesModel(mode, numbers, charges, log_prob, index)
