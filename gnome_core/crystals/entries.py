"""What a reader yields: a checked crystal with its label, or the reason why a row is not one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from gnome_core.errors import GnomeError

MAX_PAYLOAD = 1 << 20


class SourceError(GnomeError, ValueError):
    """A source that cannot be read at all: not there, not of its format, or without the package it needs."""


@dataclass(frozen=True)
class Entry:
    """A crystal that passed `check_crystal`.

    e_form_per_atom: the source's own label, eV/atom, where it has one.
    source: short name of where it comes from ("mp", "gnome", "cif", "optimade", or the file's own column).
    """

    id: str
    crystal: Crystal
    e_form_per_atom: float | None
    source: str


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
    e_form_per_atom: float | None,
    payload: Callable[[], bytes],
) -> Entry | Rejected:
    """Build and check one crystal; `InvalidCrystal` becomes a `Rejected` whose message starts with `where`."""
    try:
        if not key:
            raise InvalidCrystal("missing_id", "the row has no id; give it one")
        built = crystal()
        check_crystal(built)
        if e_form_per_atom is not None and not math.isfinite(e_form_per_atom):
            raise InvalidCrystal("not_finite", f"formation energy is {e_form_per_atom}; correct it or leave it empty")
    except InvalidCrystal as error:
        return Rejected(key or where, error.reason, f"{where}: {error}", payload()[:MAX_PAYLOAD])
    return Entry(key, built, e_form_per_atom, source)
