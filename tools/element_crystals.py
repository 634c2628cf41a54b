"""Write the starting crystals of every elemental reference: python tools/element_crystals.py SOURCE.parquet OUT.parquet

SOURCE is a Parquet file of Materials Project crystals (columns as `gnome init --snapshot` reads them); its elemental
crystal with the lowest formation energy is taken for every element it has. The elements it lacks are built from their
published structures. Relax the result and export it to make `gnome_core/data/elements.parquet`:

    gnome init STORE --snapshot OUT.parquet --config tools/elements.toml
    gnome export STORE --format parquet --output gnome_core/data/elements.parquet
"""

from __future__ import annotations

import sys
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Lattice, Structure

from gnome_core.crystals.convert import from_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import Rejected, read_snapshot

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


def main(source: str, out: str) -> None:
    warnings.simplefilter("ignore")
    lowest: dict[int, tuple[float, str, Crystal]] = {}
    for entry in read_snapshot(source):
        if isinstance(entry, Rejected) or len(set(entry.crystal.numbers)) > 1:
            continue
        energy = 0.0 if entry.e_form_per_atom is None else entry.e_form_per_atom
        number = int(entry.crystal.numbers[0])
        if number not in lowest or energy < lowest[number][0]:
            lowest[number] = (energy, entry.id, entry.crystal)
    for symbol, structure in literature().items():
        crystal = from_structure(structure.get_primitive_structure())
        lowest.setdefault(int(crystal.numbers[0]), (0.0, f"literature-{symbol}", crystal))
    rows = [lowest[number] for number in sorted(lowest)]
    table = pa.table(
        {
            "id": [id_ for _, id_, _ in rows],
            "lattice": [c.lattice.ravel().tolist() for _, _, c in rows],
            "frac_coords": [c.frac_coords.ravel().tolist() for _, _, c in rows],
            "numbers": pa.array([c.numbers.tolist() for _, _, c in rows], pa.list_(pa.uint8())),
            "e_form_per_atom": [energy for energy, _, _ in rows],
        }
    )
    pq.write_table(table, out)
    print(f"{len(rows)} elements written to {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
