"""Calibrate P(stable) of a judge and write it into gnome_core/data/judges.json:

    gnome judge EVALUATOR --single-point -o ROWS.parquet
    python tools/judge_calibration.py EVALUATOR ROWS.parquet

Distances to the published hull as `gnome judge` has them; where the embedded snapshot is on the judge's scale also to
the hull of its own energies, from its own elements, without the crystal's composition. Prints both, with the
reliability error by folds of formulas.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dft.evaluators.make import make_evaluator
from gnome_core.analysis.reliability import Reliability, reliability
from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.readers import embedded_entries
from gnome_core.files import write_file
from gnome_core.potentials.config import RelaxConfig
from gnome_core.stability.hull import Hull
from gnome_core.stability.published import as_published, compatible, energies_without
from pipelines.evaluation.judging import labelled
from pipelines.evaluation.relaxing import references_for

JUDGES = Path(__file__).parents[1] / "gnome_core" / "data" / "judges.json"


def main(name: str, path: str) -> None:
    evaluator, sample, rows = make_evaluator(name, RelaxConfig()), labelled(None, None), pq.read_table(path)
    if rows["id"].to_pylist() != sample.ids:
        raise SystemExit(f"{path} is not of the sample that comes with the package; `gnome judge {name} -o {path}`")
    formulas, stable = rows["formula"].to_pylist(), rows["e_above_hull"].to_numpy() <= 0
    found = {"published": reliability(formulas, rows["e_above_hull_predicted"].to_numpy(), stable)}
    entries = embedded_entries()
    if entries["scale"][0].as_py() == evaluator.scale:
        counts = atom_counts([crystal.numbers for crystal in sample.crystals])
        own = references_for(evaluator, [])
        measured_from = as_published(own) if compatible(evaluator.scale) else own
        zero = np.array([measured_from.energies.get(z, 0) - own.energies.get(z, 0) for z in range(counts.shape[1])])
        e_form = rows["e_form_predicted"].to_numpy() + counts / counts.sum(axis=1, keepdims=True) @ zero
        distances = e_form - energies_without(Hull.from_table(entries), counts)
        found["own"] = reliability(formulas, distances, stable)
    table = json.loads(JUDGES.read_text()) if JUDGES.is_file() else {"unit": "eV/atom", "scales": {}}
    table["scales"][evaluator.scale] = {hull: _row(one) for hull, one in found.items() if one}
    table["scales"] = dict(sorted(table["scales"].items()))
    write_file(JUDGES, (json.dumps(table, indent=2) + "\n").encode())
    for hull, one in found.items():
        print(f"{name}, {hull} hull:", "too few" if one is None else _row(one))


def _row(found: Reliability) -> dict[str, float | int]:
    return {
        "offset": round(found.calibration.offset, 5),
        "width": round(found.calibration.width, 5),
        "crystals": found.n,
        "reliability_error": round(found.error, 4),
        "log_loss": round(found.log_loss, 4),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
