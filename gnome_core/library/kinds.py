"""Crystals of whatever kind a caller has, taken in at one door and given back as the kind they came as.

pymatgen, ASE and pandas are imported only where their objects are given or asked for.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import pyarrow as pa

from gnome_core.crystals import convert
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from gnome_core.crystals.readers import Rejected, SourceError, read_snapshot
from gnome_core.errors import GnomeError

if TYPE_CHECKING:
    import pandas as pd
    from ase import Atoms
    from pymatgen.core import Structure

Kind = Literal["structure", "atoms", "crystal"]
One: TypeAlias = "Structure | Atoms | Crystal"
Crystals: TypeAlias = "One | str | PathLike | pd.DataFrame | pa.Table | Iterable[One | str | PathLike]"

KINDS = "a pymatgen Structure, ASE Atoms, a Crystal, a path, a table of crystals, or a list of these"
NAMED = 5  # rows of a file that are left out and named
_LISTS = (".parquet", ".csv")  # files that hold a list, however short
_STRUCTURE_COLUMNS = ("lattice", "frac_coords", "numbers")

T = TypeVar("T")


class NotACrystal(GnomeError, TypeError):
    """What was given is of no kind that is understood."""


@dataclass(frozen=True)
class Given:
    """n checked crystals and how they came.

    one: whether it was one crystal rather than a list. ids: those of a file or table, else the places "0", "1", ...
    kinds: the kind that each is to be given back as.
    """

    one: bool
    ids: list[str]
    crystals: list[Crystal]
    kinds: list[Kind]

    def answer(self, answers: Sequence[T]) -> T | list[T]:
        """One answer for one crystal, a list for a list."""
        return answers[0] if self.one else list(answers)


def take(crystals: Crystals) -> Given:
    """The crystals of a pymatgen Structure (or an entry with one), ASE Atoms, a Crystal, a path or another source of
    `read_snapshot`, a pandas or Arrow table with the columns lattice, frac_coords and numbers, or a list of these.

    Crystals of files and tables are given back as pymatgen Structures. A file of one structure counts as one crystal;
    folders and tables as lists. Rows of a file that hold no usable crystal are left out with a warning that names them.
    Oxidation states, spins and other properties of sites are dropped.

    Raises NotACrystal for another kind, InvalidCrystal naming the place of what is disordered, not periodic or broken,
    SourceError for files that cannot be read.
    """
    single = _is_one(crystals)
    if single or _is_table(crystals) or isinstance(crystals, str | PathLike):
        items: Iterable = [crystals]
    elif isinstance(crystals, Iterable) and not isinstance(crystals, Mapping | bytes):
        items = crystals
    else:
        raise NotACrystal(f"{type(crystals).__name__} is no crystal; give {KINDS}")
    given = Given(single, [], [], [])
    for item in items:
        place = len(given.ids)
        for id_, crystal in _crystals_of(item, place):
            given.ids.append(id_)
            given.crystals.append(crystal)
            given.kinds.append(_kind_of(item))
    if isinstance(crystals, str | PathLike) and len(given.ids) == 1:
        path = Path(crystals)
        return replace(given, one=path.is_file() and path.suffix.lower() not in _LISTS)
    return given


def give(crystal: Crystal, kind: Kind) -> One:
    """The crystal as that kind, sites in the same order."""
    if kind == "crystal":
        return crystal
    return convert.to_atoms(crystal) if kind == "atoms" else convert.to_structure(crystal)


def to_structures(crystals: Crystals) -> Structure | list[Structure]:
    """pymatgen Structures of crystals of any kind (see `take`): one for one, a list for a list."""
    given = take(crystals)
    return given.answer([convert.to_structure(crystal) for crystal in given.crystals])


def to_atoms(crystals: Crystals) -> Atoms | list[Atoms]:
    """Periodic ASE Atoms of crystals of any kind (see `take`): one for one, a list for a list."""
    given = take(crystals)
    return given.answer([convert.to_atoms(crystal) for crystal in given.crystals])


def to_crystals(crystals: Crystals) -> Crystal | list[Crystal]:
    """This package's records of crystals of any kind (see `take`): one for one, a list for a list."""
    given = take(crystals)
    return given.answer(given.crystals)


def is_a(value: object, module: str, name: str) -> bool:
    """Whether the value is of a class of a module that may not be loaded: then nothing is of its classes."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _kind_of(item: object) -> Kind:
    return "crystal" if isinstance(item, Crystal) else "atoms" if is_a(item, "ase.atoms", "Atoms") else "structure"


def _is_one(item: object) -> bool:
    return (
        isinstance(item, Crystal)
        or is_a(item, "ase.atoms", "Atoms")
        or is_a(item, "pymatgen.core.structure", "IStructure")
        or is_a(item, "pymatgen.entries.computed_entries", "ComputedStructureEntry")
    )


def _is_table(item: object) -> bool:
    return isinstance(item, pa.Table) or is_a(item, "pandas", "DataFrame")


def _crystals_of(item: Any, place: int) -> Iterator[tuple[str, Crystal]]:
    """(id, checked crystal) of one item of what a caller gave, which begins at that place."""
    if isinstance(item, str | PathLike):
        yield from _of_source(str(item))
    elif _is_table(item):
        yield from _of_table(item)
    elif not _is_one(item):
        raise NotACrystal(f"crystal {place} is of type {type(item).__name__}; give {KINDS}")
    else:
        with _named(f"crystal {place}"):
            crystal = item
            if _kind_of(item) == "atoms":
                crystal = convert.from_atoms(item)
            elif _kind_of(item) == "structure":
                crystal = convert.from_structure(getattr(item, "structure", item))
            check_crystal(crystal)
        yield str(place), crystal


def _of_table(table: Any) -> Iterator[tuple[str, Crystal]]:
    if not isinstance(table, pa.Table):
        wanted = [name for name in ("id", *_STRUCTURE_COLUMNS) if name in table.columns]
        table = pa.Table.from_pandas(table[wanted], preserve_index=False)
    if missing := [name for name in _STRUCTURE_COLUMNS if name not in table.column_names]:
        raise NotACrystal(f"the table lacks {', '.join(missing)}; crystals are {', '.join(_STRUCTURE_COLUMNS)}")
    ids = table["id"].to_pylist() if "id" in table.column_names else range(len(table))
    for id_, crystal in zip(map(str, ids), crystals_from_batch(table), strict=True):
        with _named(f"row {id_}"):
            check_crystal(crystal)
        yield id_, crystal


def _of_source(source: str) -> Iterator[tuple[str, Crystal]]:
    found, left_out = 0, []
    for item in read_snapshot(source):
        if isinstance(item, Rejected):
            left_out.append(item.message)
        else:
            found += 1
            yield item.id, item.crystal
    named = "\n".join(left_out[:NAMED])
    if left_out and not found:
        raise SourceError(named)
    if left_out:
        warnings.warn(f"{source}: {len(left_out)} rows left out, such as\n{named}", stacklevel=2)


@contextmanager
def _named(place: str) -> Generator[None]:
    try:
        yield
    except InvalidCrystal as error:
        raise InvalidCrystal(error.reason, f"{place}: {error}") from None
