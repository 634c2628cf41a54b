"""One analysis of every kind, with something in each of its tables."""

from __future__ import annotations

import pyarrow as pa

from gnome_core.analysis import (
    additions,
    credibility,
    discovery,
    displaced,
    growth,
    layered,
    li_conductors,
    li_mn_oxides,
    novelty,
    phase_separation,
    prototypes,
    r2scan,
    scaling,
)
from gnome_core.analysis.experimental import SCHEMA as FILES
from gnome_core.analysis.result import Analysis
from gnome_core.stability.hull import Hull
from tests.gnome_core.analysis.samples import MOS2, any_cell, entries_of, measured, rock_salt, with_band_gaps

CATHODES = ["Li", "Mn", "Ni", "O2", "LiMnNiO4", "Li2O", "MnO2"]


def every_analysis(jobs: pa.Table) -> list[Analysis]:
    """jobs: a table of JOBS."""
    rounds = [0, 0, 0, 0, 1, 0, 0]
    entries = entries_of([any_cell(f) for f in CATHODES], [0, 0, 0, 0, -2.0, -1.9, -1.5], rounds, CATHODES)
    plain = entries.drop_columns(["e_above_hull", "on_hull"])
    first = plain.filter(pa.array([r == 0 for r in rounds]))
    # An oxide of the snapshot that the new one displaces.
    worse = entries_of([any_cell("Li2MnNiO4")], [-1.5], [0], ["Li2MnNiO4"]).drop_columns(["e_above_hull", "on_hull"])
    first, plain = pa.concat_tables([first, worse]), pa.concat_tables([plain, worse])
    hulls = {0: measured(first, first, first), 1: measured(plain, plain, first)}
    structures = entries_of([MOS2, rock_salt(12, 8)], [-1.0, -1.0], [1, 1], ["MoS2", "MgO"])
    structures = structures.set_column(structures.column_names.index("on_hull"), "on_hull", pa.array([True, True]))
    results = plain.select(["id", "numbers", "e_form_per_atom"]).append_column(
        "scale", pa.array(["r2scan"] * len(plain))
    )
    members = pa.table(
        {"round": [0, 1, 2], "member": [0, 0, 0], "n_train": [100, 200, 400], "val_mae": [0.2, 0.15, 0.1]}
    )
    files = [
        {"file": "a.cif", "status": "match", "formula": "MgO", "ordered": True, "entries": 1, "id": "MgO", "rms": 0.01},
        {"file": "b.cif", "status": "unreadable"},
    ]
    found = ("files", "readable", "composition found", "structure found, tolerant", "structure found, default")
    judged = {
        "e_above_hull_others": [-0.1, -0.2],
        "novelty": ["new", "known composition"],
        "novelty_source": [None, "mp, oqmd"],
        "e_above_mp_hull": [-0.01, -0.02],
        "e_above_mp_hull_uncertainty": [0.059, 0.059],
        "confirmed": [True, False],
        "confirmed_why": ["nequix-oam-1 yes, -0.010 eV/atom", "nequix-oam-1 no, +0.020 eV/atom: MgO -> Mg + O2"],
    }
    certified = structures
    for name, values in judged.items():
        certified = certified.append_column(name, pa.array(values))
    return [
        credibility.analyse(certified),
        discovery.analyse(jobs),
        growth.analyse(hulls),
        displaced.analyse(hulls, Hull.from_table(plain)),
        phase_separation.analyse(hulls[0], hulls[1]),
        prototypes.analyse(structures),
        layered.analyse(structures),
        li_conductors.analyse(with_band_gaps(entries, {"LiMnNiO4": 2.0}), Hull.from_table(plain), new_only=False),
        li_mn_oxides.analyse(entries, hulls[0]),
        scaling.analyse(members),
        Analysis(
            "experimental",
            "Experimental matches",
            {"files": pa.Table.from_pylist(files, FILES)},
            dict(zip(found, (2, 1, 1, 1, 1), strict=True)),
        ),
        r2scan.analyse(hulls[1], results),
        novelty.analyse(structures, structures.slice(0, 1)),
        additions.analyse(entries, hulls[0], structures),
    ]
