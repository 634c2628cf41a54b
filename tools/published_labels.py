"""Make the published labels that the package ships:

    python tools/published_labels.py MP_STABLE.parquet WBM.parquet ELEMENT_REFERENCES.parquet

MP_STABLE: formation energies of the Materials Project's stable compositions (id, formula, e_form_per_atom). WBM:
DFT-relaxed crystals (id, lattice, frac_coords, numbers, corrected_e_form_per_atom). Both energies carry the MP2020
corrections. The first becomes gnome_core/data/mp_stable.parquet, the hull that `--hull mp` measures against, in the
form of `gnome_core.stability.hull`; the second gnome_core/data/wbm.parquet, what `gnome judge` judges by.
ELEMENT_REFERENCES: polymorphs of the elements (set, element, energy_per_atom_ev); the lowest energies of set MP-PBE
become gnome_core/data/mp_elements.json, what the formation energies of that hull are measured from. None of them is
ever trained on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.compositions.formula_parser import composition_of
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS
from gnome_core.stability.hull import Hull
from gnome_core.stability.published import SCALE
from gnome_core.stability.references import ElementalReferences

DATA = Path(__file__).parents[1] / "gnome_core" / "data"


def hull_of(stable: pa.Table) -> Hull:
    """One entry a composition, its id the Materials Project's; an element the table lacks is added at zero."""
    compositions = np.zeros((len(stable), N_COLUMNS))
    for row, formula in enumerate(stable["formula"].to_pylist()):
        for z, amount in composition_of(formula):
            compositions[row, z] = amount
    held = (compositions[(compositions > 0).sum(axis=1) == 1] > 0).any(axis=0)
    lacking = [z for z in range(1, N_COLUMNS) if not held[z]]
    return Hull.from_entries(
        [*stable["id"].to_pylist(), *(f"element {SYMBOLS[z]}" for z in lacking)],
        np.concatenate([compositions, np.eye(N_COLUMNS)[lacking]]),
        np.append(stable["e_form_per_atom"].to_numpy(), np.zeros(len(lacking))),
        SCALE,
    )


def main(mp_stable: str, wbm: str, elements: str) -> None:
    stable = pq.read_table(mp_stable, columns=["id", "formula", "e_form_per_atom"]).sort_by("formula")
    pq.write_table(hull_of(stable).table, DATA / "mp_stable.parquet", compression="zstd", compression_level=19)
    crystals = pq.read_table(wbm, columns=["id", "lattice", "frac_coords", "numbers", "corrected_e_form_per_atom"])
    crystals = crystals.rename_columns(["id", "lattice", "frac_coords", "numbers", "e_form_per_atom"]).sort_by("id")
    source = pa.array(["wbm"] * len(crystals))
    pq.write_table(crystals.append_column("source", source), DATA / "wbm.parquet", compression="zstd")
    polymorphs = pq.read_table(elements, columns=["set", "element", "energy_per_atom_ev"])
    polymorphs = polymorphs.filter(pc.equal(polymorphs["set"], "MP-PBE"))
    numbers = [np.array([NUMBERS[symbol]]) for symbol in polymorphs["element"].to_pylist()]
    references = ElementalReferences.lowest(numbers, polymorphs["energy_per_atom_ev"].to_numpy(), SCALE)
    (DATA / "mp_elements.json").write_text(references.to_json() + "\n")
    n_elements = len(references.energies)
    print(f"{len(stable)} formation energies, {len(crystals)} crystals and {n_elements} elements written to {DATA}")


if __name__ == "__main__":
    main(*sys.argv[1:])
