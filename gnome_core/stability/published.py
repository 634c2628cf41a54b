"""The Materials Project's hull as published: formation energies of its stable compositions, with MP2020 corrections."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

import numpy as np
import pyarrow.parquet as pq

from gnome_core.stability.hull import Hull
from gnome_core.stability.references import ElementalReferences

SCALE = "mp2020"
# What scales end in whose energies compare with the hull's: of potentials that predict them, of calculations like them.
PREDICTED = ("chgnet-0.3.0", "mp2020")
COMPUTED = "mp2020/vasp"
LEARNT = re.compile("/(nequip|chgnet)-")  # before the name of a potential, after the scale of what it learnt from
# Mean absolute errors of formation energies from the published elements, eV/atom: `gnome judge NAME --single-point`.
ERRORS = {
    "chgnet-0.3.0": 0.059,
    "nequix-oam-1/mp2020": 0.017,
    "nequix-oam-1-pft/mp2020": 0.017,
    "nequix-oam-1+mp2020/chgnet-2-35c26200": 0.046,  # chgnet-distilled
}


def compatible(scale: str) -> bool:
    """Whether energies on a scale are PBE(+U) ones with MP2020 corrections: computed, predicted, learnt from such."""
    return LEARNT.split(scale, maxsplit=1)[0].endswith((*PREDICTED, COMPUTED))


@cache
def published_hull() -> Hull:
    """One entry a composition, its id the Materials Project's; an element it lacks is there at zero."""
    with resources.as_file(resources.files("gnome_core.data") / "mp_stable.parquet") as path:
        return Hull(pq.read_table(path))


@cache
def published_references() -> ElementalReferences:
    """Of 88 elements, the energy (eV/atom) of the Materials Project's lowest polymorph."""
    return ElementalReferences.from_json((resources.files("gnome_core.data") / "mp_elements.json").read_text())


def as_published(own: ElementalReferences) -> ElementalReferences:
    """References to measure formation energies from, on a `compatible` scale, as the published ones are: the Materials
    Project's elements, and `own` of the few that are not published.

    A potential errs about an element otherwise than about its compounds (CHGNet has tungsten 0.2 eV/atom too high):
    measured from its own elements, all compounds of such a one seem too stable beside the published hull. Calculations
    are measured from their own: they use newer pseudopotentials of magnesium and others, whose elements move alike.
    """
    if own.scale.endswith(COMPUTED):
        return own
    return ElementalReferences(SCALE, {**own.energies, **published_references().energies})


def energies_without(hull: Hull, compositions: np.ndarray) -> np.ndarray:
    """(n,) energy of the hull, eV/atom, at compositions (n, 95), without what it has of that very composition.

    NaN where the hull lacks an element.
    """
    energies = np.full(len(compositions), np.nan)
    known = np.flatnonzero(hull.has_references(compositions))
    energies[known] = hull.e_hull(compositions[known])
    entries = {key: row for row, key in enumerate(_keys(hull.compositions(np.arange(len(hull)))))}
    for row, key in zip(known, _keys(compositions[known]), strict=True):
        if key in entries and (phases := hull.competing_phases(entries[key])):
            energies[row] = sum(phase.atom_fraction * hull.e_form[phase.entry] for phase in phases)
    return energies


def _keys(compositions: np.ndarray) -> list[bytes]:
    """Equal for equal reduced compositions, which are whole numbers."""
    counts = compositions.astype(np.int64)
    return [row.tobytes() for row in counts // np.gcd.reduce(counts, axis=1)[:, None]]
