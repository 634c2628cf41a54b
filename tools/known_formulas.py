"""Make the set of known compositions that the package ships:

    python tools/known_formulas.py KNOWN_FORMULAS.parquet

KNOWN_FORMULAS: formula, in_mp, in_oqmd, in_experiment. It becomes gnome_core/data/known_formulas.parquet: of each
reduced composition its hash and who knows it (gnome_core/compositions/known.py), no formula.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from gnome_core.compositions.formula_parser import composition_of
from gnome_core.compositions.known import N_COLUMNS, KnownCompositions, composition_hashes

OUT = Path(__file__).parents[1] / "gnome_core" / "data" / "known_formulas.parquet"
SOURCES = {"mp": "in_mp", "oqmd": "in_oqmd", "experiment": "in_experiment"}


def main(path: str) -> None:
    table = pq.read_table(path)
    compositions = np.zeros((len(table), N_COLUMNS), np.int32)
    for row, formula in enumerate(table["formula"].to_pylist()):
        for z, amount in composition_of(formula):
            compositions[row, z] = amount
    hashes = composition_hashes(compositions)
    known = KnownCompositions.union(
        KnownCompositions.of_source(source, hashes[table[column].to_numpy()]) for source, column in SOURCES.items()
    )
    pq.write_table(
        known.to_table(),
        OUT,
        compression="zstd",
        compression_level=19,
        use_dictionary=["known_to"],
        column_encoding={"hash": "DELTA_BINARY_PACKED"},
    )
    print(f"{len(known)} compositions of {len(table)} formulas written to {OUT}, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
