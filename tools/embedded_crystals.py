"""Write the crystals that the files in gnome_core/data are relaxed from:

    python tools/embedded_crystals.py OUT MP_STRUCTURES.parquet [MP20.parquet ...]

The sources are Parquet files of Materials Project crystals, columns as `gnome init --snapshot` reads them; of an id
that comes twice the first is taken. OUT/snapshot.parquet gets all of them, which tools/embedded_snapshot.py relaxes.
OUT/elements.parquet gets the elemental crystal of lowest formation energy of every element, from its published
structure where the sources have none: candidates for the references that tools/element_references.py chooses, among
more polymorphs of every element, once they are relaxed.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Lattice, Structure

from gnome_core.crystals.arrow import crystals_to_arrays
from gnome_core.crystals.convert import from_structure
from gnome_core.crystals.readers import Entry, Rejected, read_snapshot
from gnome_core.units import PLAUSIBLE_E_FORM

SOURCE = "materials-project"  # of crystals whose file has no column for it

# Cell edges in Å of elements with one atom on a lattice point (Kittel, Introduction to Solid State Physics, 8th ed.,
# ch. 1, table 3); plutonium in its fcc form.
CUBIC = {
    "Kr": ("fcc", 5.64),
    "Xe": ("fcc", 6.13),
    "Rh": ("fcc", 3.80),
    "Ce": ("fcc", 5.16),
    "Th": ("fcc", 5.08),
    "Pu": ("fcc", 4.64),
    "Eu": ("bcc", 4.58),
}


def halogen(symbol: str, a: float, b: float, c: float, y: float, z: float) -> Structure:
    """Molecular crystal of X2 in space group Cmce, atoms on 8f (chlorine's type)."""
    return Structure.from_spacegroup("Cmce", Lattice.orthorhombic(a, b, c), [symbol], [[0, y, z]])


def literature() -> dict[str, Structure]:
    """The elements that the source lacks, conventional cells."""
    crystals = {}
    for symbol, (kind, a) in CUBIC.items():
        group = "Fm-3m" if kind == "fcc" else "Im-3m"
        crystals[symbol] = Structure.from_spacegroup(group, Lattice.cubic(a), [symbol], [[0, 0, 0]])
    # Powell, Heal & Torrie, Mol. Phys. 53, 929 (1984): Br2 and I2 at low temperature.
    crystals["Br"] = halogen("Br", 6.57, 4.47, 8.69, 0.148, 0.119)
    crystals["I"] = halogen("I", 7.12, 4.69, 9.78, 0.154, 0.117)
    # F2 in chlorine's type: within a few meV/atom of alpha-F2, whose molecules are tilted otherwise.
    crystals["F"] = halogen("F", 4.80, 3.28, 6.40, 0.13, 0.095)
    # H2 molecules on an hcp lattice (Silvera, Rev. Mod. Phys. 52, 393 (1980)), all along c.
    crystals["H"] = Structure(
        Lattice.hexagonal(3.76, 6.12),
        ["H"] * 4,
        [[1 / 3, 2 / 3, 0.1895], [1 / 3, 2 / 3, 0.3105], [2 / 3, 1 / 3, 0.6895], [2 / 3, 1 / 3, 0.8105]],
    )
    # Cherin & Unger, Inorg. Chem. 6, 1589 (1967).
    crystals["Se"] = Structure.from_spacegroup("P3_121", Lattice.hexagonal(4.366, 4.954), ["Se"], [[0.2254, 0, 1 / 3]])
    # Orthorhombic S8: Rettig & Trotter, Acta Cryst. C 43, 2260 (1987).
    crystals["S"] = Structure.from_spacegroup(
        "Fddd:2",
        Lattice.orthorhombic(10.4646, 12.8660, 24.4860),
        ["S"] * 4,
        [
            [0.8554, 0.9526, 0.9516],
            [0.7844, 0.0301, 0.0763],
            [0.7069, 0.9795, 0.0040],
            [0.7862, 0.9073, 0.1290],
        ],
    )
    return crystals


def read(sources: list[str]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for source in sources:
        for item in read_snapshot(source):
            if isinstance(item, Rejected):
                print(item.message)
            elif abs(item.e_form_per_atom or 0.0) > PLAUSIBLE_E_FORM:
                print(f"{source}, {item.id}: a formation energy of {item.e_form_per_atom} eV/atom; left out")
            else:
                entries.setdefault(item.id, replace(item, source=SOURCE) if item.source == "parquet" else item)
    return entries


def elemental(entries: dict[str, Entry]) -> list[Entry]:
    """The crystal of lowest formation energy of each element, by atomic number."""
    lowest: dict[int, Entry] = {}
    for entry in entries.values():
        number = int(entry.crystal.numbers[0])
        if (entry.crystal.numbers != number).any() or entry.e_form_per_atom is None:
            continue
        if number not in lowest or entry.e_form_per_atom < (lowest[number].e_form_per_atom or 0.0):
            lowest[number] = entry
    for symbol, structure in literature().items():
        crystal = from_structure(structure.get_primitive_structure())
        lowest.setdefault(int(crystal.numbers[0]), Entry(f"literature-{symbol}", crystal, 0.0, "literature"))
    return [lowest[number] for number in sorted(lowest)]


def write(path: Path, entries: list[Entry]) -> None:
    crystals = [entry.crystal for entry in entries]
    table = pa.table(
        {
            "id": [entry.id for entry in entries],
            "source": [entry.source for entry in entries],
            **crystals_to_arrays(crystals),
            "e_form_per_atom": [entry.e_form_per_atom for entry in entries],
        }
    )
    pq.write_table(table, path)
    print(f"{len(entries)} crystals written to {path}")


def main(out: str, *sources: str) -> None:
    warnings.simplefilter("ignore")
    entries = read(list(sources))
    elements = elemental(entries)
    Path(out).mkdir(parents=True, exist_ok=True)
    write(Path(out) / "elements.parquet", elements)
    write(Path(out) / "snapshot.parquet", [entries[id_] for id_ in sorted(entries)])


if __name__ == "__main__":
    main(*sys.argv[1:])
