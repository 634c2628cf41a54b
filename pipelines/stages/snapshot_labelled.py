"""Snapshots with labels on the evaluator's scale: a row's crystal, names and energies are checked before it counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeGuard

import numpy as np
import pyarrow as pa

from gnome_core.compositions.formula_parser import BadFormula, composition_of
from gnome_core.compositions.formulas import chemsys, composition_key, reduced_formula
from gnome_core.crystals.arrow import ENTRY_SCHEMA, record_batch
from gnome_core.crystals.crystal import InvalidCrystal
from gnome_core.crystals.entries import MAX_PAYLOAD, Entry, Rejected, SourceError
from gnome_core.crystals.readers import elemental_entries, read_table
from gnome_core.stability.plausible import implausible_energy
from pipelines.beam.coders import RecordBatchCoder

# eV/atom by which a stated formation energy may differ from that of the total energies: stores that began with other
# snapshots measure from other polymorphs of an element, which hardly differ by more.
AGREE = 0.1
SAME = 1e-6  # eV/atom: one that agrees so well is kept to the last bit

_LABELS = [
    ENTRY_SCHEMA.field(name)
    for name in (
        "formula",
        "chemsys",
        "energy_per_atom",
        "correction_per_atom",
        "correction_version",
        "e_form_per_atom",
        "energy_kind",
        "reference_e_form_per_atom",
        "job",
    )
]


def checked_entries(table: pa.Table, source: str, scale: str) -> tuple[pa.Table, list[Entry | Rejected]]:
    """(ENTRY_SCHEMA of the usable rows, for every row its crystal or what is wrong with it) of a labelled table.

    Formation energies are against the lowest elements of the table, or the package's where it has none, which become
    the store's references. Rounds and parents are those of another store, and are left out.
    Wrong, besides what `read_snapshot` rejects: not_finite, implausible_energy, unknown_energy (not a total energy),
    formula_mismatch, energy_mismatch (formation and total energy do not agree).
    Raises SourceError for a column of the wrong type.
    """
    items, labels = list(read_table(table, source)), _labels(table, source)
    shipped = _shipped_energies(scale)

    def reject(row: int, error: InvalidCrystal) -> None:
        entry = items[row]
        assert isinstance(entry, Entry)
        payload = RecordBatchCoder().encode(table.slice(row, 1).combine_chunks().to_batches()[0])
        message = f"{source}, row {row}: {error}"
        items[row] = Rejected(entry.id, error.reason, message, payload[:MAX_PAYLOAD])

    for row, (item, label) in enumerate(zip(items, labels, strict=True)):
        if isinstance(item, Entry):
            try:
                _check_label(item, label, shipped)
            except InvalidCrystal as error:
                reject(row, error)
    # An element that is wrong is no reference: compounds are compared with what is left.
    while wrong := [pair for pair in _mismatches(items, labels, shipped) if _is_element(items[pair[0]])]:
        for pair in wrong:
            reject(*pair)
    for pair in list(_mismatches(items, labels, shipped)):
        reject(*pair)
    return _entries(items, labels, shipped, scale), items


def _labels(table: pa.Table, source: str) -> list[dict]:
    """What the rows state."""
    columns = {}
    for field in _LABELS:
        try:
            given = table[field.name] if field.name in table.column_names else pa.nulls(len(table))
            columns[field.name] = given.cast(field.type)
        except pa.ArrowException:
            kind = table[field.name].type
            raise SourceError(f"{source}: column {field.name} is of type {kind}; it must be {field.type}") from None
    return pa.table(columns).to_pylist()


def _check_label(entry: Entry, label: Mapping, shipped: Mapping[int, float]) -> None:
    """Raise InvalidCrystal for what is wrong with a row by itself."""
    for name in ("energy_per_atom", "correction_per_atom", "e_form_per_atom"):
        if label[name] is None or not math.isfinite(label[name]):
            raise InvalidCrystal("not_finite", f"{name} is {label[name]}; correct it, or leave the row out")
    if label["energy_kind"] != "total":
        raise InvalidCrystal("unknown_energy", f"energy_kind is {label['energy_kind']!r}; only 'total' is known")
    numbers = entry.crystal.numbers
    try:
        named = composition_of(label["formula"] or "")
    except BadFormula:
        named = ()
    if named != composition_key(numbers) or label["chemsys"] != chemsys(numbers):
        stated = f"{label['formula']} of {label['chemsys']}"
        raise InvalidCrystal("formula_mismatch", f"it says {stated}, its atoms are {reduced_formula(numbers)}")
    energies = [label["e_form_per_atom"]]
    if _is_element(entry) and int(numbers[0]) in shipped:
        energies.append(_total(label) - shipped[int(numbers[0])])
    for energy in energies:
        if implausible_energy(energy):
            raise InvalidCrystal("implausible_energy", f"no solid has a formation energy of {energy:.3f} eV/atom")


def _mismatches(
    items: list[Entry | Rejected], labels: list[dict], shipped: Mapping[int, float]
) -> Iterator[tuple[int, InvalidCrystal]]:
    """Rows whose formation energy is not that of their total energy, or whose total energy no solid has."""
    for row, energy in enumerate(_formation_energies(items, labels, _references(items, labels, shipped))):
        stated = labels[row]["e_form_per_atom"]
        if implausible_energy(energy) and not math.isnan(energy):
            text = f"its total energy is that of a formation energy of {energy:.3f} eV/atom, which no solid has"
            yield row, InvalidCrystal("implausible_energy", text)
        elif abs(energy - stated) > AGREE:
            text = f"its formation energy is {stated:.3f} eV/atom, by its total energy and the elements {energy:.3f}"
            yield row, InvalidCrystal("energy_mismatch", text)


def _references(items: list[Entry | Rejected], labels: list[dict], shipped: Mapping[int, float]) -> np.ndarray:
    """(256,) eV/atom by atomic number: each element's lowest row, or the package's; NaN where there is neither."""
    lowest: dict[int, float] = {}
    for item, label in zip(items, labels, strict=True):
        if _is_element(item):
            z = int(item.crystal.numbers[0])
            lowest[z] = min(_total(label), lowest.get(z, math.inf))
    energies = np.full(256, np.nan)
    for z, energy in {**shipped, **lowest}.items():
        energies[z] = energy
    return energies


def _formation_energies(items: list[Entry | Rejected], labels: list[dict], references: np.ndarray) -> list[float]:
    """eV/atom of every row; NaN for one that is rejected, and where an element has no reference."""
    return [
        _total(label) - references[item.crystal.numbers].mean() if isinstance(item, Entry) else math.nan
        for item, label in zip(items, labels, strict=True)
    ]


def _entries(items: list[Entry | Rejected], labels: list[dict], shipped: Mapping[int, float], scale: str) -> pa.Table:
    computed = _formation_energies(items, labels, _references(items, labels, shipped))
    good = [row for row in zip(items, labels, computed, strict=True) if isinstance(row[0], Entry)]
    kept, stated = [item for item in items if isinstance(item, Entry)], [label for _, label, _ in good]
    numbers = [entry.crystal.numbers for entry in kept]
    e_form = [
        energy if abs(energy - label["e_form_per_atom"]) > SAME else label["e_form_per_atom"]
        for _, label, energy in good
    ]
    same = [field.name for field in _LABELS if field.name not in ("formula", "chemsys", "e_form_per_atom")]
    batch = record_batch(
        ENTRY_SCHEMA,
        [entry.id for entry in kept],
        [entry.crystal for entry in kept],
        formula=[reduced_formula(row) for row in numbers],
        chemsys=[chemsys(row) for row in numbers],
        e_form_per_atom=pa.array(e_form, pa.float64()),
        scale=scale,
        source=[entry.source for entry in kept],
        round=0,
        **{name: [label[name] for label in stated] for name in same},
    )
    return pa.Table.from_batches([batch])


def _shipped_energies(scale: str) -> dict[int, float]:
    """eV/atom by atomic number, of the package's elements on that scale."""
    rows = elemental_entries(scale).select(["numbers", "energy_per_atom", "correction_per_atom"]).to_pylist()
    return {row["numbers"][0]: _total(row) for row in rows}


def _total(label: Mapping) -> float:
    """Corrected total energy, eV/atom."""
    return label["energy_per_atom"] + label["correction_per_atom"]


def _is_element(item: Entry | Rejected) -> TypeGuard[Entry]:
    return isinstance(item, Entry) and len(set(item.crystal.numbers.tolist())) == 1
