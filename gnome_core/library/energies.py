"""Energies: what an ensemble predicts of crystals, and how far they lie above a hull."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gnome_core.compositions.dense import N_COLUMNS, atom_counts
from gnome_core.compositions.formula_parser import BadFormula, composition_of
from gnome_core.compositions.formulas import NUMBERS, chemsys, reduced_formula
from gnome_core.errors import GnomeError
from gnome_core.library.kinds import Crystals, is_a, take
from gnome_core.stability.hull import Hull
from gnome_core.stability.references import ElementalReferences

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.entries import Entry

    from gnome_core.ensembles.ensemble import EnsembleModel, OverVolumes

HullLike: TypeAlias = "Hull | str | PathLike | Sequence[Entry]"
GIVEN = "given"  # the scale of energies whose scale nobody names


def predictions(
    crystals: Crystals,
    *,
    model: str | PathLike | None = None,
    hull: HullLike | None = None,
    over_volumes: OverVolumes = "median",
) -> pd.DataFrame:
    """Formation energies by an ensemble of graph networks, one row a crystal in their order, energies in eV/atom.

    Columns: id, formula, chemsys, median and iqr over the members (calibrated), best_volume_factor (volume over the
    given one at which the median is lowest), extrapolated (two of its elements are nowhere together in the training
    set; its iqr is wider), with a hull e_above_hull, and problem: "" or why a crystal has no energies (NaN then).

    model: folder that `gnome train` made; None = the structural members that come with the package. hull: as that of
    `e_above_hull`, of formation energies; NaN where it lacks an element. over_volumes: a member's energy is the
    "median" or, as GNoME took it, the "minimum" over 20 volumes from 80 % to 120 %.

    Raises GnomeError for a folder without members or a hull of total energies, and what `take` raises.
    """
    from gnome_core.ensembles.rows import Rows
    from gnome_core.ensembles.workflows import Ensemble, predict_rows

    given = take(crystals)
    measured, _ = (None, None) if hull is None else _hull(hull)
    numbers = [crystal.numbers for crystal in given.crystals]
    formulas, systems = [reduced_formula(own) for own in numbers], [chemsys(own) for own in numbers]
    places = [str(place) for place in range(len(numbers))]  # ids of several files may be the same
    rows = Rows(places, formulas, systems, given.crystals, np.full(len(numbers), np.nan), Counter())
    members = _members(None if model is None else fspath(model))
    table, failed = predict_rows(Ensemble("structural", members, measured), rows, over_volumes)
    frame = table.to_pandas().set_index("id").reindex(places).reset_index(drop=True)
    frame["formula"], frame["chemsys"] = formulas, systems
    frame.insert(0, "id", given.ids)
    return frame.assign(problem=[failed.get(place, "") for place in places])


def e_above_hull(
    items: Sequence[Entry] | Sequence[str] | str | Crystals,
    e_form: Sequence[float] | float | None = None,
    hull: HullLike | None = None,
) -> np.ndarray | float:
    """(n,) decomposition energies, eV/atom, negative below the hull; a number for one item.

    items: pymatgen entries (ComputedEntry, PDEntry), whose own total energies count; or formulas (every string is one)
    or crystals, with their formation energies e_form (n,), eV/atom. NaN energies give NaN.

    hull: None = that of the items, elements at zero where there are formation energies; "mp" = the Materials Project's
    as published (mp2020 corrections); a source of crystals with formation energies ("embedded", FILE.parquet, ...); a
    `Hull`, such as a store's; entries, where the items are entries. Both sides must be on one energy scale, which only
    the caller knows.

    Raises MissingReference naming the elements that the hull, or the entries, have no elemental entry of; GnomeError
    for energies that are missing or superfluous, and what is no formula.
    """
    entries = _entries(items)
    if entries is None:
        one, compositions = _compositions(items)
        if e_form is None:
            raise GnomeError("crystals and formulas have no energies of their own; give e_form, eV/atom")
        energies = np.atleast_1d(np.asarray(e_form, np.float64))
        if len(energies) != len(compositions):
            raise GnomeError(f"{len(energies)} energies for {len(compositions)} items; give one each")
        measured = _with_elements(compositions, energies) if hull is None else _hull(hull)[0]
    else:
        if e_form is not None:
            raise GnomeError("entries have energies of their own; leave e_form out, or give formulas with it")
        one = not isinstance(items, Sequence)
        measured, references = _hull(entries if hull is None else hull)
        if references is None:
            raise GnomeError("total energies of entries against a hull of formation energies; give entries as the hull")
        numbers, totals = _totals(entries)
        compositions, energies = atom_counts(numbers), references.formation_energy_per_atom(numbers, totals)
    above = measured.e_above_hull(compositions, energies)
    return float(above[0]) if one else above


@lru_cache(maxsize=2)
def _members(folder: str | None) -> EnsembleModel:
    from gnome_core.ensembles.ensemble import EnsembleModel
    from gnome_core.models.shipped import members_in, pretrained_members

    model = EnsembleModel.load(pretrained_members("structural") if folder is None else members_in(folder))
    if model.records[0].model != "structural":
        raise GnomeError(f"{folder} holds {model.records[0].model} members; `gnome predict` takes formulas for them")
    return model


def _hull(hull: HullLike) -> tuple[Hull, ElementalReferences | None]:
    """The hull, and the references that its formation energies were made with where they are known."""
    if isinstance(hull, Hull):
        return hull, None
    if isinstance(hull, str | PathLike):
        from gnome_core.ensembles.workflows import snapshot_hull
        from gnome_core.stability.published import published_hull

        return (published_hull() if hull == "mp" else snapshot_hull(fspath(hull))), None
    if (entries := _entries(hull)) is None:
        raise GnomeError('no hull; give "mp", a source of labelled crystals, a Hull, or pymatgen entries')
    numbers, totals = _totals(entries)
    references = ElementalReferences.lowest(numbers, totals, GIVEN)
    e_form = references.formation_energy_per_atom(numbers, totals)
    ids = [str(place) for place in range(len(entries))]
    return Hull.from_entries(ids, atom_counts(numbers), e_form, GIVEN), references


def _with_elements(compositions: np.ndarray, e_form: np.ndarray) -> Hull:
    """The hull of formation energies, every element at zero."""
    finite = np.isfinite(e_form)
    elements = np.eye(N_COLUMNS)[1:]
    ids = [str(place) for place in range(int(finite.sum()) + len(elements))]
    energies = np.append(e_form[finite], np.zeros(len(elements)))
    return Hull.from_entries(ids, np.concatenate([compositions[finite], elements]), energies, GIVEN)


def _entries(items: Any) -> list[Entry] | None:
    """The items as pymatgen entries, or None where they are none."""
    found = list(items) if isinstance(items, list | tuple) else [items]
    return found if found and all(is_a(item, "pymatgen.entries", "Entry") for item in found) else None


def _totals(entries: Sequence[Entry]) -> tuple[list[np.ndarray], np.ndarray]:
    """Atomic numbers of each entry's atoms, and total energies (n,), eV/atom, with the entries' corrections."""
    numbers = []
    for place, entry in enumerate(entries):
        amounts = {str(element): n for element, n in entry.composition.get_el_amt_dict().items()}
        if any(amount != round(amount) for amount in amounts.values()):
            raise GnomeError(f"entry {place}, {entry.composition}: give whole numbers of atoms")
        atoms = [np.full(round(amount), NUMBERS[symbol]) for symbol, amount in amounts.items()]
        numbers.append(np.concatenate(atoms))
    return numbers, np.array([entry.energy / len(own) for entry, own in zip(entries, numbers, strict=True)])


def _compositions(items: Any) -> tuple[bool, np.ndarray]:
    """(whether it is one item, (n, 95) atoms by atomic number) of formulas or crystals."""
    formulas = [items] if isinstance(items, str) else items
    if not (isinstance(formulas, Sequence) and all(isinstance(formula, str) for formula in formulas)):
        given = take(items)
        return given.one, atom_counts([crystal.numbers for crystal in given.crystals])
    compositions = np.zeros((len(formulas), N_COLUMNS))
    for row, formula in zip(compositions, formulas, strict=True):
        try:
            for z, amount in composition_of(formula):
                row[z] = amount
        except BadFormula as error:
            raise GnomeError(str(error)) from None
    return isinstance(items, str), compositions
