"""Make the published labels that the package ships:

    python tools/published_labels.py MP_STABLE.parquet WBM.parquet

MP_STABLE: formation energies of the Materials Project's stable compositions (id, formula, e_form_per_atom). WBM:
DFT-relaxed crystals (id, lattice, frac_coords, numbers, corrected_e_form_per_atom). Both energies carry the MP2020
corrections. The first becomes gnome_core/data/mp_stable.parquet, the hull that `--hull mp` measures against; the
second gnome_core/data/wbm.parquet, what `gnome judge` judges by. Neither is ever trained on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).parents[1] / "gnome_core" / "data"


def main(mp_stable: str, wbm: str) -> None:
    stable = pq.read_table(mp_stable, columns=["id", "formula", "e_form_per_atom"])
    pq.write_table(stable.sort_by("formula"), DATA / "mp_stable.parquet", compression="zstd", compression_level=19)
    crystals = pq.read_table(wbm, columns=["id", "lattice", "frac_coords", "numbers", "corrected_e_form_per_atom"])
    crystals = crystals.rename_columns(["id", "lattice", "frac_coords", "numbers", "e_form_per_atom"]).sort_by("id")
    source = pa.array(["wbm"] * len(crystals))
    pq.write_table(crystals.append_column("source", source), DATA / "wbm.parquet", compression="zstd")
    print(f"{len(stable)} formation energies and {len(crystals)} crystals written to {DATA}")


if __name__ == "__main__":
    main(*sys.argv[1:])
