"""What a reader yields: a checked crystal with its label, or the reason why a row is not one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from gnome_core.crystals.sources.values import as_number
from gnome_core.errors import GnomeError

MAX_PAYLOAD = 1 << 20


class SourceError(GnomeError, ValueError):
    """A source that cannot be read at all: not there, not of its format, or without the package it needs."""


@dataclass(frozen=True)
class Entry:
    """A crystal that passed `check_crystal`.

    e_form_per_atom: the label, eV/atom, where the source has one. reference_e_form_per_atom: the label of the database
        that the crystal comes from; another one only in our own files, which keep it beside the evaluated energy.
    source: short name of where it comes from ("mp", "gnome", "cif", "optimade", or the file's own column).
    unused_energies: names of the energies that a source without a label has: totals, whose scale it does not say.
    """

    id: str
    crystal: Crystal
    e_form_per_atom: float | None
    source: str
    reference_e_form_per_atom: float | None = None
    unused_energies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A row that is no usable crystal; the reading goes on.

    key: id, or file and row where there is none. reason: the short name that rejections are counted by.
    message: file, row, what is wrong and what to do. payload: the row itself (CIF, JSON or
    Arrow IPC), at most 1 MiB.
    """

    key: str
    reason: str
    message: str
    payload: bytes


def read_entry(
    key: str,
    where: str,
    source: str,
    crystal: Callable[[], Crystal],
    e_form_per_atom: object,
    payload: Callable[[], bytes],
    reference: object = None,
    unused: tuple[str, ...] = (),
) -> Entry | Rejected:
    """Build and check one crystal; `InvalidCrystal` becomes a `Rejected` whose message starts with `where`.

    unused: see `Entry.unused_energies`.

    e_form_per_atom, reference: the labels, as cells of a table: numbers, text or None. Without a reference it is the
    label itself.
    """
    try:
        if not key:
            raise InvalidCrystal("missing_id", "the row has no id; give it one")
        built = crystal()
        check_crystal(built)
        label, known = _label(e_form_per_atom), _label(reference)
    except InvalidCrystal as error:
        return Rejected(key or where, error.reason, f"{where}: {error}", payload()[:MAX_PAYLOAD])
    return Entry(key, built, label, source, label if known is None else known, unused)


def _label(cell: object) -> float | None:
    try:
        label = as_number(cell) if isinstance(cell, str) else cell
        if label is None:
            return None
        value = float(label)  # ty: ignore[invalid-argument-type] (TypeError is caught)
    except (TypeError, ValueError):
        message = f"formation energy is {cell!r}; write a number or leave it empty"
        raise InvalidCrystal("not_a_number", message) from None
    if not math.isfinite(value):
        raise InvalidCrystal("not_finite", f"formation energy is {value}; correct it or leave it empty")
    return value
