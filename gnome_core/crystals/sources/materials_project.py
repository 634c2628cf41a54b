"""Crystals of the Materials Project through its own client, `mp-api`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.convert import from_structure
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.crystals.entries import Entry, Rejected, SourceError, read_entry

if TYPE_CHECKING:
    from pymatgen.core import Structure

_FIELDS = ["material_id", "structure", "formation_energy_per_atom"]


def read_materials_project(system: str | None = None) -> Iterator[Entry | Rejected]:
    """All materials that are not deprecated, with MP's formation energies. Needs MP_API_KEY.

    system: as "Li-P-S-Cl": those of these elements alone. Raises SourceError without the package or the key, and for
    what is no system. Errors of the network are the client's own and pass through.
    """
    asked = {} if system is None else {"chemsys": _systems_within(system)}
    try:
        from mp_api.client import MPRester  # ty: ignore[import-not-found] (an extra)
    except ImportError as error:
        raise SourceError("mp-api is not installed; pip install 'gnome-flywheel[snapshots]'") from error
    key = os.environ.get("MP_API_KEY")
    if not key:
        raise SourceError("MP_API_KEY is not set; export the key of your account at materialsproject.org/api")
    with MPRester(key) as rester:
        documents = rester.materials.summary.search(deprecated=False, fields=_FIELDS, **asked)
    for row, document in enumerate(documents):
        yield read_entry(
            str(document.material_id or ""),
            f"Materials Project, row {row} ({document.material_id})",
            "mp",
            lambda document=document: _crystal(document.structure),
            document.formation_energy_per_atom,
            lambda document=document: _payload(document.structure),
        )


def _systems_within(system: str) -> list[str]:
    """The chemical systems of some of its elements, or all."""
    elements = sorted(set(system.split("-")))
    if unknown := [symbol for symbol in elements if symbol not in NUMBERS]:
        raise SourceError(f"mp-api:{system}: no such element {', '.join(map(repr, unknown))}; write mp-api:Li-P-S-Cl")
    sizes = range(1, len(elements) + 1)
    return ["-".join(some) for n in sizes for some in itertools.combinations(elements, n)]


def _crystal(structure: Structure | None) -> Crystal:
    if structure is None:
        raise InvalidCrystal("missing_structure", "the document has no structure; leave it out of the query")
    return from_structure(structure)


def _payload(structure: Structure | None) -> bytes:
    return structure.to_json().encode() if structure is not None else b""
