"""Raw energies of the Materials Project -> entries on the scale of our VASP jobs: known crystals need none."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dft.protocol import VASP_SCALES
from gnome_core.compositions.formulas import NUMBERS, chemsys, reduced_formula
from gnome_core.crystals.arrow import ENTRY_SCHEMA, record_batch
from gnome_core.crystals.entries import Rejected
from gnome_core.crystals.sources.mp_entries import KIND, RawEntry, read_mp_entries
from gnome_core.stability.corrections import Corrections, mp2020_corrections, mp_hubbards, potential_shifts
from gnome_core.stability.references import ElementalReferences

SCALE = VASP_SCALES["pbe"]


def raw_energies_of(source: str, scale: str) -> Path | None:
    """The file of an mp-entries source, where its energies can be brought to `scale`."""
    kind, _, file = source.partition(":")
    return Path(file) if kind == KIND and scale == SCALE else None


class RawSource(NamedTuple):
    """entries: ENTRY_SCHEMA. rejected: what is no entry, and why. outside: how many crystals of other elements there
    are. corrections: their version."""

    entries: pa.Table
    rejected: list[Rejected]
    outside: int
    corrections: str


def raw_entries(path: Path, elements: Collection[str] | None) -> RawSource:
    """What a file holds; crystals of `elements` alone, if given.

    Corrections: MP2020 by the U that each entry was computed with, and the shifts to the newer potentials of Li, Na,
    Mg, Ga and Ge. Formation energies are against the lowest elements of the file. Rejected, besides what cannot be
    read: no_correction (another functional, or other U values), missing_reference.
    """
    items = list(read_mp_entries(path))
    rejected = [item for item in items if isinstance(item, Rejected)]
    allowed = None if elements is None else {NUMBERS[symbol] for symbol in elements}
    every = [item for item in items if isinstance(item, RawEntry)]
    raw = [one for one in every if allowed is None or allowed.issuperset(one.entry.crystal.numbers.tolist())]
    found = corrections_of(raw)
    good = [row for row, problem in enumerate(found.problems) if problem is None]
    rejected += [
        _rejected(one, path, "no_correction", f"MP2020 corrections refuse it ({one.run_type}): {problem}")
        for one, problem in zip(raw, found.problems, strict=True)
        if problem is not None
    ]
    kept, per_atom = [raw[row] for row in good], found.per_atom[good]
    numbers = [one.entry.crystal.numbers for one in kept]
    energies = np.array([one.energy_per_atom for one in kept])
    references = ElementalReferences.lowest(numbers, energies + per_atom, SCALE)
    known = [references.elements.issuperset(row.tolist()) for row in numbers]
    rejected += [
        _rejected(one, path, "missing_reference", "the file has no crystal of one of its elements alone; add one")
        for one, is_known in zip(kept, known, strict=True)
        if not is_known
    ]
    rows = np.flatnonzero(known)
    kept, numbers = [kept[row] for row in rows], [numbers[row] for row in rows]
    batch = record_batch(
        ENTRY_SCHEMA,
        [one.entry.id for one in kept],
        [one.entry.crystal for one in kept],
        formula=[reduced_formula(row) for row in numbers],
        chemsys=[chemsys(row) for row in numbers],
        energy_per_atom=energies[rows],
        correction_per_atom=per_atom[rows],
        correction_version=found.version,
        e_form_per_atom=references.formation_energy_per_atom(numbers, (energies + per_atom)[rows]),
        energy_kind="total",
        scale=SCALE,
        source="mp",
        round=0,
    )
    return RawSource(pa.Table.from_batches([batch]), rejected, len(every) - len(raw), found.version)


def corrections_of(raw: list[RawEntry]) -> Corrections:
    """What brings n raw energies to `SCALE`, eV/atom: MP2020's corrections and the potentials' shifts."""
    crystals = [one.entry.crystal for one in raw]
    hubbards = [mp_hubbards(one.entry.crystal.numbers) if one.hubbards is None else one.hubbards for one in raw]
    corrected = mp2020_corrections(crystals, hubbards, [one.run_type for one in raw])
    shifts = potential_shifts([crystal.numbers for crystal in crystals])
    version = f"{corrected.version}+{shifts.version}"
    return Corrections(corrected.per_atom + shifts.per_atom, corrected.problems, version)


def _rejected(raw: RawEntry, path: Path, reason: str, message: str) -> Rejected:
    return Rejected(raw.entry.id, reason, f"{path}, {raw.entry.id}: {message}", b"")
