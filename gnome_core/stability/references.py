"""Elemental reference energies and the formation energies measured against them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from gnome_core.compositions.dense import N_COLUMNS, MissingReference, atom_counts
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS


@dataclass(frozen=True)
class ElementalReferences:
    """Energy per atom of each element's reference phase on one scale.

    The table is fixed for a store, as in the GNoME release: an element found lower later does not move it, so
    formation energies of different rounds stay comparable.

    scale: functional + corrections + engine that computed the energies, such as "chgnet-0.3.0".
    energies: atomic number -> eV/atom.
    """

    scale: str
    energies: Mapping[int, float]

    def __post_init__(self):
        energies = {int(z): float(energy) for z, energy in sorted(self.energies.items())}
        bad = [SYMBOLS[z] for z, energy in energies.items() if not np.isfinite(energy)]
        if bad:
            raise ValueError(f"reference energies of {', '.join(bad)} are not finite; recompute them")
        object.__setattr__(self, "energies", MappingProxyType(energies))

    def __reduce__(self):
        return ElementalReferences, (self.scale, dict(self.energies))

    @classmethod
    def lowest(
        cls, numbers: Sequence[np.ndarray] | pa.Array, energy_per_atom: np.ndarray, scale: str
    ) -> ElementalReferences:
        """The lowest elemental entry of a snapshot for each element that has one.

        numbers: ragged atomic numbers of n crystals (see `atom_counts`); energy_per_atom: (n,) eV/atom on `scale`.
        Entries of two and more elements, and energies that are not finite, are passed over.
        """
        counts = atom_counts(numbers)
        energy = np.asarray(energy_per_atom, np.float64)
        elemental = ((counts > 0).sum(axis=1) == 1) & np.isfinite(energy)
        lowest = np.full(N_COLUMNS, np.inf)
        np.minimum.at(lowest, counts[elemental].argmax(axis=1), energy[elemental])
        return cls(scale, {int(z): float(lowest[z]) for z in np.flatnonzero(np.isfinite(lowest))})

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers that have a reference."""
        return frozenset(self.energies)

    def formation_energy_per_atom(
        self, numbers: Sequence[np.ndarray] | pa.Array, energy_per_atom: np.ndarray
    ) -> np.ndarray:
        """(n,) formation energies, eV/atom: energy_per_atom - sum_Z x_Z reference_Z. NaN energies stay NaN.

        numbers: ragged atomic numbers of n crystals; energy_per_atom: (n,) total energies on the references' scale.
        Raises MissingReference, naming the elements, where a crystal holds an element without reference.
        """
        counts = atom_counts(numbers)
        fractions = counts / counts.sum(axis=1, keepdims=True)
        reference = np.array([self.energies.get(z, np.nan) for z in range(N_COLUMNS)])
        present = (fractions > 0).any(axis=0)
        missing = np.flatnonzero(present & np.isnan(reference))
        if len(missing):
            row = int(np.flatnonzero(fractions[:, missing].any(axis=1))[0])
            raise MissingReference(
                missing.tolist(), f"first in row {row}, scale {self.scale}", "add the element's crystal to the snapshot"
            )
        return np.asarray(energy_per_atom, np.float64) - fractions @ np.nan_to_num(reference)

    def to_json(self) -> str:
        """The table as JSON, elements by symbol, energies in eV/atom."""
        energies = {SYMBOLS[z]: energy for z, energy in self.energies.items()}
        return json.dumps({"scale": self.scale, "unit": "eV/atom", "energies": energies}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> ElementalReferences:
        """Inverse of `to_json`. Raises ValueError naming what is wrong with the file."""
        table = json.loads(text)
        if table.get("unit") != "eV/atom" or "scale" not in table or "energies" not in table:
            raise ValueError('a reference table needs "scale", "unit": "eV/atom" and "energies"; write it with to_json')
        unknown = sorted(set(table["energies"]) - set(NUMBERS))
        if unknown:
            raise ValueError(f"unknown element symbols in the reference table: {', '.join(unknown)}")
        return cls(table["scale"], {NUMBERS[name]: energy for name, energy in table["energies"].items()})
