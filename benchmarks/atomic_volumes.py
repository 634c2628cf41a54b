"""Refit gnome_core/data/atomic_volumes.json from relaxed crystals, and measure it beside pymatgen's DLSVolumePredictor.

    python benchmarks/atomic_volumes.py STRUCTURES.parquet [--write]

Model: volume of a cell = sum of one volume per atom, by element and class (cation, neutral, anion), non-negative, least
squares of relative errors with a weak pull to the element's mean. Chemical systems withheld by `is_withheld` and every
tenth formula are left out of the fit. Test: pairs of isostructural crystals (same group, Wyckoff letters and anonymous
formula) that differ in one element, one of them unseen in the fit: volume of one predicted from the other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import defaultdict
from pathlib import Path

import moyopy
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.optimize import nnls

from gnome_core.compositions.formulas import SYMBOLS, chemsys, composition_key
from gnome_core.crystals.split import is_withheld
from gnome_core.generation.parents import ParentTable

TABLE = Path(__file__).parents[1] / "gnome_core" / "data" / "atomic_volumes.json"
CLASSES = {"cation": 1, "neutral": 0, "anion": -1}
RIDGE = 0.3  # weight of the pull to the element's mean; a volume of a few crystals is barely known


def unseen(parents: ParentTable, row: int) -> bool:
    digest = hashlib.md5(parents.formulas[row].encode()).digest()
    return digest[0] % 10 == 0 or is_withheld(chemsys(parents.crystals[row].numbers))


def fit(parents: ParentTable, rows: list[int]) -> np.ndarray:
    """(95, 3) Å^3 per atom by element and class index (cation, neutral, anion); NaN where no crystal has it."""
    signs = list(CLASSES.values())
    counts = np.zeros((len(rows), 95, 3))
    for i, row in enumerate(rows):
        crystal = parents.crystals[row]
        column = [signs.index(s) for s in np.sign(parents.oxidation[row]).tolist()]
        np.add.at(counts[i], (crystal.numbers, column), 1.0 / crystal.volume)
    present = counts.any(axis=0)
    elements = np.flatnonzero(present.any(axis=1))
    design = [counts[:, present]]
    mean, *_ = nnls(counts[:, elements].sum(axis=2), np.ones(len(rows)))
    prior = np.zeros(95)
    prior[elements] = mean
    pull = RIDGE / np.maximum(np.broadcast_to(prior[:, None], present.shape)[present], 5.0)
    solution, *_ = nnls(
        np.concatenate([*design, np.diag(pull)]),
        np.concatenate([np.ones(len(rows)), pull * np.broadcast_to(prior[:, None], present.shape)[present]]),
        maxiter=10_000,
    )
    volumes = np.full(present.shape, np.nan)
    volumes[present] = solution
    return volumes


def isostructural_pairs(parents: ParentTable, rows: list[int], rng: np.random.Generator) -> list[tuple[int, int]]:
    groups = defaultdict(list)
    for row in rows:
        crystal = parents.crystals[row]
        cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.numbers.tolist())
        try:
            data = moyopy.MoyoDataset(cell, symprec=0.1)
        except Exception:
            continue
        anonymous = tuple(sorted(n for _, n in composition_key(crystal.numbers)))
        groups[data.number, "".join(sorted(data.wyckoffs)), anonymous].append(row)
    pairs = []
    for members in groups.values():
        for a in members:
            for b in rng.permutation(members)[:40]:
                old, new = composition_key(parents.crystals[a].numbers), composition_key(parents.crystals[b].numbers)
                gone, come = set(old) - set(new), set(new) - set(old)
                one_differs = len(gone) == len(come) == 1 and gone.pop()[1] == come.pop()[1]
                same_cell = parents.crystals[a].n_sites == parents.crystals[b].n_sites
                if one_differs and same_cell and unseen(parents, int(b)):
                    pairs.append((a, int(b)))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("structures")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--max-atoms", type=int, default=14)
    parser.add_argument("--crystals", type=int, default=9000)
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    table = pq.read_table(arguments.structures, columns=["id", "lattice", "numbers", "frac_coords", "n_atoms"])
    table = table.filter(pc.less_equal(table.column("n_atoms"), arguments.max_atoms))
    parents = ParentTable.from_entries(table.take(rng.permutation(table.num_rows)[: arguments.crystals]))
    rows = list(range(len(parents)))
    volumes = fit(parents, [row for row in rows if not unseen(parents, row)])
    if arguments.write:
        out = {
            "unit": "angstrom^3 per atom",
            "origin": "fitted by benchmarks/atomic_volumes.py to Materials Project crystals (CC BY 4.0)",
            **{
                name: {SYMBOLS[z]: round(float(v), 3) for z, v in enumerate(volumes[:, i]) if not np.isnan(v)}
                for i, name in enumerate(CLASSES)
            },
        }
        TABLE.write_text(json.dumps(out, indent=1) + "\n")

    from pymatgen.core import Lattice, Structure
    from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor

    from gnome_core.generation import volume

    volume.atomic_volumes.cache_clear()
    pairs = isostructural_pairs(parents, rows, rng)
    pairs = [pairs[i] for i in rng.permutation(len(pairs))[:400]]
    predictor, errors, seconds = DLSVolumePredictor(), defaultdict(list), defaultdict(float)
    for a, b in pairs:
        old, new = parents.crystals[a], parents.crystals[b]
        gone = set(composition_key(old.numbers)) - set(composition_key(new.numbers))
        come = set(composition_key(new.numbers)) - set(composition_key(old.numbers))
        numbers = np.where(old.numbers == gone.pop()[0], come.pop()[0], old.numbers)
        started = time.process_time()
        guess = old.volume * volume.volume_factor(old.numbers, numbers, parents.oxidation[a])
        seconds["ours"] += time.process_time() - started
        structure = Structure(Lattice(old.lattice), numbers.tolist(), old.frac_coords)
        started = time.process_time()
        try:
            other = predictor.predict(structure)
        except Exception:
            continue
        seconds["DLSVolumePredictor"] += time.process_time() - started
        for name, value in (("unchanged", old.volume), ("ours", guess), ("DLSVolumePredictor", other)):
            errors[name].append(abs(value / new.volume - 1))
    result = {"pairs": len(errors["ours"])}
    for name, values in errors.items():
        row = {
            "median_error": round(float(np.median(values)), 4),
            "p90_error": round(float(np.quantile(values, 0.9)), 4),
        }
        if name in seconds:
            row["per_s"] = round(len(values) / seconds[name])
        print(f"{name:20s} {row}")
        result[name] = row
    print(json.dumps(result))


if __name__ == "__main__":
    main()
