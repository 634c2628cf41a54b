"""Candidates for solid lithium electrolytes: a waterfall of filters in the manner of Sendek et al. (2017) and GNoME."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.analysis.superionic import SuperionicModel, crystal_features
from gnome_core.analysis.waterfall import WATERFALL, apply_filter
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.stability.hull import Hull
from gnome_core.stability.windows import chemical_potential_window
from gnome_core.units import INSULATOR_GAP

LITHIUM = NUMBERS["Li"]
MIN_OXIDATION = 4.0  # V against Li/Li+
REDUCTION = 1e-3  # V: a reduction potential up to here counts as stable against lithium metal
MIN_PROBABILITY = 0.5

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("round", pa.int32()),
        pa.field("lithium_fraction", pa.float64()),
        pa.field("transition_metals", pa.bool_()),
        pa.field("band_gap", pa.float64()),  # eV, null where unknown
        pa.field("band_gap_by", pa.string()),  # who says so: a table, the energy scale of a calculation, a model
        pa.field("reduction_potential", pa.float64()),  # V against Li/Li+
        pa.field("oxidation_potential", pa.float64()),  # V against Li/Li+
        pa.field("superionic_probability", pa.float64()),  # null without a classifier
        pa.field("passed", pa.int32()),  # filters passed in a row
        pa.field("candidate", pa.bool_()),
    ],
    metadata={"unit.band_gap": "eV", "unit.reduction_potential": "V", "unit.oxidation_potential": "V"},
)


def analyse(
    entries: pa.Table,
    hull: Hull,
    *,
    classifier: SuperionicModel | None = None,
    new_only: bool = True,
    track: Track = untracked,
) -> Analysis:
    """Stable crystals with lithium through the filters, one after the other.

    entries: ENTRY_SCHEMA, round, on_hull, band_gap (eV, null where unknown) and band_gap_by (who says so); hull: the
    newest. new_only: crystals of the rounds alone, not the snapshot's.

    A filter that nothing is known for removes a crystal as "unknown"; filters without any data at all (no gaps, no
    classifier) are skipped and said to be.
    """
    stable = entries.filter(entries["on_hull"])
    if new_only:
        stable = stable.filter(pc.greater(stable["round"], 0))
    fractions = np.array([np.mean(np.array(row) == LITHIUM) for row in stable["numbers"].to_pylist()])
    lithium = stable.filter(pa.array(fractions > 0, pa.bool_())) if len(stable) else stable
    fractions = fractions[fractions > 0]
    crystals = crystals_from_batch(lithium)
    metals = [_has_transition_metal(crystal.numbers) for crystal in crystals]
    rows = pc.index_in(lithium["id"].combine_chunks(), hull.ids).to_pylist() if len(lithium) else []
    windows = [chemical_potential_window(hull, row, LITHIUM) for row in track(rows, "lithium windows")]
    gap = lithium["band_gap"].to_pylist()
    any_gap = any(value is not None for value in gap)
    chance = [None] * len(crystals)
    if classifier is not None:
        # Lithium itself has no framework to conduct in.
        chance = [
            float(classifier.probability(crystal_features(crystal)[None])[0])
            if len(np.unique(crystal.numbers)) > 1
            else None
            for crystal in crystals
        ]
    filters = [("no transition metals", [not metal for metal in metals])]
    if any_gap:
        filters.append((f"band gap above {INSULATOR_GAP} eV", [None if g is None else g > INSULATOR_GAP for g in gap]))
    filters += [
        ("stable against lithium metal", [-window.high <= REDUCTION for window in windows]),
        (f"stable at a cathode of {MIN_OXIDATION} V", [-window.low >= MIN_OXIDATION for window in windows]),
    ]
    if classifier is not None:
        filters.append(
            (
                f"superionic with a chance of {MIN_PROBABILITY}",
                [None if p is None else p >= MIN_PROBABILITY for p in chance],
            )
        )
    left = np.ones(len(crystals), bool)
    passed = np.zeros(len(crystals), int)
    steps = [
        {"filter": "stable" if not new_only else "new and stable", "left": len(stable), "removed": 0, "unknown": 0},
        {"filter": "with lithium", "left": len(lithium), "removed": len(stable) - len(lithium), "unknown": 0},
    ]
    for name, answers in filters:
        step, left = apply_filter(name, left, answers)
        steps.append(step)
        passed[left] += 1
    table = pa.table(
        {
            **{name: lithium[name] for name in ("id", "formula", "chemsys", "round")},
            "lithium_fraction": pa.array(fractions, pa.float64()),
            "transition_metals": pa.array(metals, pa.bool_()),
            "band_gap": pa.array(gap, pa.float64()),
            "band_gap_by": lithium["band_gap_by"],
            "reduction_potential": pa.array([-window.high for window in windows], pa.float64()),
            "oxidation_potential": pa.array([-window.low for window in windows], pa.float64()),
            "superionic_probability": pa.array(chance, pa.float64()),
            "passed": pa.array(passed, pa.int32()),
            "candidate": pa.array(left, pa.bool_()),
        },
        schema=SCHEMA,
    )
    notes = [
        "Windows are those of the grand-potential hull of this store at 0 K; a crystal is taken as if it lay exactly "
        "on the hull. Against lithium metal: no lithium is taken up at the potential of the metal."
    ]
    if any_gap:
        sources = Counter(by for by in lithium["band_gap_by"].to_pylist() if by is not None)
        notes.append(f"Band gaps: {', '.join(f'{n} by {by}' for by, n in sorted(sources.items()))}.")
    else:
        notes.append("No band gap is known, so that filter was skipped.")
    if classifier is None:
        notes.append("No classifier was given (--classifier), so nothing says which of these conduct.")
    else:
        training = classifier.training
        notes.append(
            f"Superionic: above {classifier.threshold_s_per_cm:g} S/cm at room temperature by a logistic regression on "
            f"{training['conductors']} measured conductors ({training['source']}); area under its ROC curve on "
            f"families it was not fitted to {training['auc']['family']}."
        )
    return Analysis(
        "li-conductors",
        "Lithium-ion conductors",
        {
            "crystals": table.sort_by([("passed", "descending"), ("id", "ascending")]),
            "waterfall": pa.Table.from_pylist(steps, WATERFALL),
        },
        {str(step["filter"]): step["left"] for step in steps},
        tuple(notes),
    )


def _has_transition_metal(numbers: np.ndarray) -> bool:
    """Whether an element of groups 3 to 12 is among them (lanthanides and actinides are not)."""
    return bool(np.isin(numbers, TRANSITION_METALS).any())


TRANSITION_METALS = np.concatenate([np.arange(21, 31), np.arange(39, 49), [57], np.arange(72, 81), [89]])
