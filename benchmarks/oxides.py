"""Formation energies of thirty oxides by potentials of two functionals, beside experiment: python benchmarks/oxides.py

    python benchmarks/oxides.py [EVALUATOR ...] [--references ELEMENT_REFERENCES.parquet] [--quick]

Of each oxide the lowest crystal of the embedded snapshot is relaxed by chgnet-distilled and chgnet (PBE(+U) with MP2020
corrections) and chgnet-r2scan, or the evaluators named; formation energies are measured from the evaluator's own
elements, as in a store. --references: a table of elements' energies (columns set, element, energy_per_atom_ev) of which
set MatPES-r2SCAN measures chgnet-r2scan a second time, from DFT's elements. Experiment: standard enthalpies of
formation at 298 K (CODATA; NIST-JANAF; kJ/mol), which differ from energies at 0 K by some 0.01 eV/atom. Ends with a
line of JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dft.evaluators.make import make_evaluator
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import embedded_entries
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.memory import keep_freed_memory
from gnome_core.stability.references import ElementalReferences
from pipelines.evaluation.relaxing import formation_energies, references_for, relaxed

EV = 96.485  # kJ/mol
# kJ/mol of formula units, and the atoms of one.
ENTHALPIES = {
    "Li2O": (-597.9, 3), "Na2O": (-414.2, 3), "K2O": (-363.2, 3), "BeO": (-609.4, 2), "MgO": (-601.6, 2),
    "CaO": (-634.9, 2), "SrO": (-592.0, 2), "BaO": (-548.0, 2), "Sc2O3": (-1908.8, 5), "Y2O3": (-1905.3, 5),
    "La2O3": (-1793.7, 5), "TiO2": (-944.0, 3), "ZrO2": (-1100.6, 3), "HfO2": (-1144.7, 3), "V2O5": (-1550.6, 7),
    "Nb2O5": (-1899.5, 7), "Cr2O3": (-1139.7, 5), "MoO3": (-745.1, 4), "WO3": (-842.9, 4), "MnO": (-385.2, 2),
    "Fe2O3": (-824.2, 5), "CoO": (-237.9, 2), "NiO": (-239.7, 2), "Cu2O": (-168.6, 3), "Ag2O": (-31.1, 3),
    "ZnO": (-350.5, 2), "CdO": (-258.4, 2), "Al2O3": (-1675.7, 5), "Ga2O3": (-1089.1, 5), "In2O3": (-925.8, 5),
    "SiO2": (-910.7, 3), "GeO2": (-580.0, 3), "SnO2": (-577.6, 3), "PbO": (-219.0, 2), "CeO2": (-1088.7, 3),
}  # fmt: skip


def oxides(quick: bool) -> dict[str, Crystal]:
    """The lowest crystal of the snapshot of each formula that it has, thirty of them (six with --quick)."""
    entries = embedded_entries().sort_by("e_form_per_atom")
    found: dict[str, Crystal] = {}
    for crystal, formula in zip(crystals_from_batch(entries), entries["formula"].to_pylist(), strict=True):
        if formula in ENTHALPIES:
            found.setdefault(formula, crystal)
    ordered = [formula for formula in ENTHALPIES if formula in found]
    return {formula: found[formula] for formula in ordered[: 6 if quick else 30]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluators", nargs="*", default=["chgnet-distilled", "chgnet", "chgnet-r2scan"])
    parser.add_argument("--references", type=Path)
    parser.add_argument("--quick", action="store_true", help="six oxides")
    arguments = parser.parse_args()
    keep_freed_memory()
    crystals = oxides(arguments.quick)
    elements = sorted({int(z) for crystal in crystals.values() for z in crystal.numbers})
    columns: dict[str, np.ndarray] = {}
    for name in arguments.evaluators:
        evaluator = make_evaluator(name, RelaxConfig())
        results = relaxed(evaluator, list(crystals.values()))
        columns[name] = formation_energies(results, references_for(evaluator, elements))
        if arguments.references and name == "chgnet-r2scan":
            table = pq.read_table(arguments.references, filters=[("set", "=", "MatPES-r2SCAN")])
            pairs = zip(table["element"].to_pylist(), table["energy_per_atom_ev"].to_pylist(), strict=True)
            given = ElementalReferences(evaluator.scale, {NUMBERS[symbol]: energy for symbol, energy in pairs})
            columns[f"{name}, elements of DFT"] = formation_energies(results, given)
    experiment = np.array([ENTHALPIES[formula][0] / ENTHALPIES[formula][1] / EV for formula in crystals])
    print("| oxide | experiment | " + " | ".join(columns) + " |\n|" + "---|" * (2 + len(columns)))
    for row, formula in enumerate(crystals):
        cells = ["did not converge" if np.isnan(found[row]) else f"{found[row]:.2f}" for found in columns.values()]
        print(f"| {formula} | {experiment[row]:.2f} | " + " | ".join(cells) + " |")
    summary = {}
    for name, found in columns.items():
        errors = (found - experiment)[~np.isnan(found)]
        summary[name] = {
            "n": len(errors),
            "mae": round(float(np.abs(errors).mean()), 3),
            "mean": round(float(errors.mean()), 3),
        }
    print(json.dumps({"benchmark": "oxides", "errors_beside_experiment": summary}))


if __name__ == "__main__":
    main()
