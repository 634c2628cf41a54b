"""Train the shipped model of band gaps and measure it, its parameters stored as float16:

    python tools/band_gaps.py mp_structures.parquet OUT

The gap of each composition's crystal of lowest formation energy; formulas of the 85 % train (`is_train`), the others
measure; of withheld chemical systems nothing is read. It starts from the first shipped compositional member, whose
formulas are split alike. OUT keeps the training, which goes on when it was interrupted.
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow.parquet as pq

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import reduced_formula
from gnome_core.crystals.split import is_train, is_withheld
from gnome_core.ensembles import band_gaps
from gnome_core.graphs.featurize import compositional_graphs
from gnome_core.models.config import CompositionalConfig
from gnome_core.models.members import load_member, save_member
from gnome_core.models.shipped import pretrained_members
from gnome_core.training.members.config import TrainingConfig
from gnome_core.training.members.loop import train_members
from gnome_core.units import INSULATOR_GAP, PLAUSIBLE_E_FORM

TRAINING = TrainingConfig(
    epochs=30, learning_rate=2e-3, batch_size=128, volume_jitter=0.0, validate_every=10, checkpoint_every=100
)


def main(source: str, out: str) -> None:
    formulas, compositions, gaps = lowest(source)
    train = np.array([is_train(formula) for formula in formulas])
    print(f"{len(formulas)} compositions, {train.sum()} of them train")
    (result,) = train_members(
        compositional_graphs(compositions),
        gaps,
        train,
        members=[0],
        seed=0,
        out_dir=out,
        model=CompositionalConfig(),
        training=TRAINING,
        init_from=[pretrained_members("compositional")[0]],
        target="band_gap",
        progress=lambda _, row: print(row, flush=True),
    )
    variables, record = load_member(result.path)
    save_member(band_gaps.model_path(), variables, record, np.float16)
    held = ~train
    report(gaps[held], band_gaps.predict_band_gaps(compositions[held]), gaps[train])


def lowest(source: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(formulas, compositions (n, 95), band gaps (n,) eV) of the lowest crystals of a table, sorted by formula."""
    columns = ["numbers", "chemsys", "band_gap", "e_form_per_atom"]
    found: dict[str, dict] = {}
    for row in pq.read_table(source, columns=columns).to_pylist():
        if abs(row["e_form_per_atom"]) > PLAUSIBLE_E_FORM or is_withheld(row["chemsys"]):
            continue
        formula = reduced_formula(np.array(row["numbers"]))
        if formula not in found or row["e_form_per_atom"] < found[formula]["e_form_per_atom"]:
            found[formula] = row
    formulas = sorted(found)
    compositions = atom_counts([found[formula]["numbers"] for formula in formulas])
    return formulas, compositions, np.array([found[formula]["band_gap"] for formula in formulas])


def report(true: np.ndarray, predicted: np.ndarray, trained: np.ndarray) -> None:
    known = np.isfinite(predicted)
    true, predicted = true[known], predicted[known]
    error, insulators = np.abs(true - predicted), true > INSULATOR_GAP
    called = predicted > INSULATOR_GAP
    print(f"{len(true)} compositions never trained on, {(~known).sum()} more with elements never seen")
    print(f"MAE {error.mean():.3f} eV, median {np.median(error):.3f}; of gaps above 0 {error[true > 0].mean():.3f} eV")
    print(f"the training set's median instead: {np.abs(true - np.median(trained)).mean():.3f} eV")
    print(
        f"above {INSULATOR_GAP:g} eV or not: right {(called == insulators).mean():.1%}, precision "
        f"{insulators[called].mean():.1%}, recall {called[insulators].mean():.1%}; {insulators.mean():.1%} are above"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
