"""A synthetic two-round campaign among halides, chalcogenides and perovskites: invented energies, real structures."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import linprog

from gnome_core.compositions.formulas import NUMBERS, atomic_fractions, chemsys, reduced_formula
from gnome_core.crystals.crystal import Crystal, crystal_digest
from gnome_core.matching.novelty import KNOWN_COMPOSITION, NEW, Novelty
from pipelines.reading.discoveries import ProvenanceStep, StableCrystal
from pipelines.reading.outcomes import JOBS
from pipelines.reading.relaxations import RelaxationPath
from pipelines.report.data import (
    HULL_ENTRIES,
    CompositionShare,
    Generated,
    LearningCurve,
    MemberError,
    ReportData,
    SearchedComposition,
    Searches,
    StageCounts,
)

FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])


def prototype(symbols: list[str], length: float) -> Crystal:
    """Rock salt AX, antifluorite A2X or perovskite ABX3, by the number of symbols given (one a site)."""
    numbers = [NUMBERS[s] for s in symbols]
    if len(symbols) == 2:
        return Crystal(FCC * length, [[0, 0, 0], [0.5, 0.5, 0.5]], numbers)
    if len(symbols) == 3:
        return Crystal(FCC * length, [[0.25] * 3, [0.75] * 3, [0, 0, 0]], numbers)
    faces = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Crystal(np.eye(3) * length * 0.75, [[0, 0, 0], [0.5] * 3, *faces], numbers)


def candidate_cells() -> list[list[str]]:
    """Site symbols of 190 or so compounds over 14 elements."""
    alkali, earth, quad = ["Li", "Na", "K", "Rb"], ["Mg", "Ca", "Sr", "Ba"], ["Ti", "Zr", "Sn"]
    halides, chalcogens = ["F", "Cl", "Br"], ["O", "S", "Se"]
    cells = [[a, x] for a, x in itertools.product(alkali, halides)]
    cells += [[a, x] for a, x in itertools.product(earth, chalcogens)]
    cells += [[a, a, x] for a, x in itertools.product(alkali, chalcogens)]
    cells += [[x, x, a] for a, x in itertools.product(earth, halides)]
    cells += [[a, b, x, x, x] for a, b, x in itertools.product(alkali, earth, halides)]
    cells += [[a, b, x, x, x] for a, b, x in itertools.product(earth, quad, chalcogens)]
    cells += [[b, a, x, x, x] for a, b, x in itertools.product(earth, quad, chalcogens)]
    return cells


def distances_to_hull(numbers: list[list[int]], e_form: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n,) eV/atom above the hull of the rows `known` and the elements, each row itself left out."""
    fractions = atomic_fractions(numbers)
    elements = np.flatnonzero(fractions.any(axis=0))
    corners, energies = np.eye(95)[elements], np.zeros(len(elements))
    distances = []
    for row, target in enumerate(fractions):
        used = known & (np.arange(len(e_form)) != row)
        used &= (fractions[:, target == 0] == 0).all(axis=1)
        basis, costs = np.vstack([corners, fractions[used]]), np.concatenate([energies, e_form[used]])
        solution = linprog(costs, A_eq=basis.T[elements], b_eq=target[elements], bounds=(0, None))
        distances.append(e_form[row] - solution.fun)
    return np.array(distances)


@pytest.fixture(scope="session")
def report_data() -> ReportData:
    rng = np.random.default_rng(7)
    cells = candidate_cells()
    rng.shuffle(cells)
    crystals = [prototype(cell, 4.6 + rng.uniform(0, 1.6)) for cell in cells]
    numbers = [c.numbers.tolist() for c in crystals]
    formulas = [reduced_formula(n) for n in numbers]
    ids = [crystal_digest(c) for c in crystals]
    mean = {2: -1.9, 3: -1.6, 5: -1.3}
    quad = np.array([bool({"Ti", "Zr", "Sn"} & set(c)) for c in cells])  # their own binaries are left out
    e_form = np.where(quad, -0.55, [mean[len(c)] for c in cells]) + rng.normal(0, 0.22, len(cells))
    # The snapshot knows most binaries and few perovskites.
    known = rng.random(len(cells)) < np.array([0.1 if len(c) == 5 else 0.8 for c in cells])
    round_ = np.where(known, 0, rng.integers(1, 3, len(cells)))

    above, job_round = np.empty(len(cells)), np.maximum(round_, 1)
    for r in (1, 2):
        against = distances_to_hull(numbers, e_form, round_ < r)
        above[round_ == r] = against[round_ == r]
    noise = np.where(round_ == 1, 0.11, 0.05)
    iqr = noise * rng.gamma(6, 0.2, len(cells))
    predicted = e_form + iqr * rng.normal(0, 0.9, len(cells))
    jobs_of = np.flatnonzero(round_ > 0)
    jobs_of = np.concatenate([jobs_of, rng.choice(jobs_of, 200 - len(jobs_of), replace=len(jobs_of) < 100)])
    by_model = above[jobs_of] + predicted[jobs_of] - e_form[jobs_of] < 0.05
    failed = rng.random(len(jobs_of)) < 0.03
    jobs = pa.table(
        {
            "round": job_round[jobs_of],
            "id": [ids[i] for i in jobs_of],
            "formula": [formulas[i] for i in jobs_of],
            "chemsys": [chemsys(numbers[i]) for i in jobs_of],
            "selected_by_model": by_model,
            "selected_by_random": ~by_model | (rng.random(len(jobs_of)) < 0.1),
            "predicted_e_form": predicted[jobs_of],
            "predicted_iqr": iqr[jobs_of],
            "e_form": pa.array(e_form[jobs_of], mask=failed),
            "e_above_hull": pa.array(above[jobs_of], mask=failed),
            "status": np.where(failed, "not_converged", "done").tolist(),
        }
    )

    self_distance = distances_to_hull(numbers, e_form, np.ones(len(cells), bool))
    entries = pa.table(
        {
            "id": ids,
            "formula": formulas,
            "chemsys": [chemsys(n) for n in numbers],
            "numbers": pa.array(numbers, pa.list_(pa.uint8())),
            "e_form_per_atom": e_form,
            "e_above_hull": np.maximum(self_distance, 0),
            "round": round_,
            "source": np.where(round_ == 0, "mp", "round").tolist(),
        }
    )
    found = [i for i in np.argsort(self_distance) if self_distance[i] < 0 and round_[i] > 0]
    stable = tuple(
        StableCrystal(
            id=ids[i],
            job=ids[i],
            formula=formulas[i],
            chemsys=chemsys(numbers[i]),
            round=int(round_[i]),
            crystal=crystals[i],
            e_form=float(e_form[i]),
            e_above_hull=float(self_distance[i]),
            novelty=Novelty(NEW, None) if i % 3 else Novelty(KNOWN_COMPOSITION, "mp, oqmd"),
            e_above_mp_hull=0.02 * (i % 5 - 2),
            e_above_mp_hull_uncertainty=0.059,
            p_stable=None if i % 5 == 4 else 0.2 * (i % 5),
            confirmed=None,
            confirmed_by=None,
            chain=chain_of(i, cells, ids, formulas, round_),
        )
        for i in found
    )
    return ReportData(
        title="Halides and perovskites <demo>",
        scale="chgnet-0.3.0",
        stages=campaign_stages(),
        jobs=jobs.select(JOBS.names),
        hull_entries=entries.select(HULL_ENTRIES.names),
        stable=stable,
        members=tuple(
            MemberError(r, m, v)
            for r, v0 in enumerate((0.092, 0.071, 0.058))
            for m, v in enumerate(v0 + rng.normal(0, 0.004, 4))
        ),
        config={"seed": 7, "generate": {"threshold": 0.001, "saps": True}, "select": {"threshold_ev": 0.05}},
        versions={"gnome-flywheel": "0.1.0", "jax": "0.10.1", "apache-beam": "2.77.0"},
        # One that rose, one of a single step, and of the others five that fall.
        relaxations={
            one.job: RelaxationPath(
                one.e_form + np.array([0.2, 0.08, 0.03, 0.004, 0.0])[-1 if k == 1 else 0 :] * (-1 if k == 2 else 1),
                one.crystal.volume / one.crystal.n_sites * np.linspace(0.95, 1, 5)[-1 if k == 1 else 0 :],
                "relax1" if k == 3 else None,
            )
            for k, one in enumerate(stable[:-1])
        },
        generated=(
            Generated(1, "saps", 3, 30_000, 28_000, 24_000, 3_000),
            Generated(1, "saps", 4, 14_000, 13_000, 11_312, 1_000),
            Generated(1, "substitution", 2, 6_000, 2_000, 1_000, 800),
            Generated(1, "substitution", 3, 9_000, 6_000, 5_000, 2_500),
            Generated(2, "random_search", 3, 4_000, 4_000, 4_000, 1_000),
            Generated(2, "saps", 3, 50_000, 47_000, 40_000, 7_000),
            Generated(2, "substitution", 3, 16_000, 15_000, 13_870, 6_000),
        ),
        compositions=(CompositionShare(2, 2, 240, 190), CompositionShare(2, 3, 3_600, 3_550)),
        unpacked=((2, "CsLi7"),),
        curves=tuple(
            LearningCurve(r, m, framework, (1, 2, 3), (0.5, 0.2, 0.1 + 0.01 * m), (None, 0.2, 0.15))
            for framework in ("structural", "compositional")
            for r in range(3)
            for m in range(2)
        ),
        searches=(
            Searches(
                round=2,
                compositions=(
                    SearchedComposition("Li15Si4", True, False, 20, 18, 12, -0.21, -0.25, -0.004),
                    SearchedComposition("CsLi7", False, True, 20, 6, 0, -0.1, None, None),
                ),
                least_converged=10,
                volume_edges=(0.4, 0.8, 1.2),
                volume_runs=(10, 14),
                volume_converged=(3, 9),
                labels=61,
                labels_searched=1,
            ),
        ),
    )


def chain_of(i: int, cells: list[list[str]], ids: list[str], formulas: list[str], round_: np.ndarray):
    """The crystal, an ancestor of each earlier round and a root in the snapshot, with the ions changed at each step."""
    line = [i]
    for r in range(round_[i] - 1, -1, -1):
        same_size = [j for j in np.flatnonzero(round_ == r) if len(cells[j]) == len(cells[i])]
        line.append(min(same_size, key=lambda j: len(set(cells[j]) ^ set(cells[line[-1]]))))
    steps = []
    for child, parent in itertools.pairwise([*line, None]):
        mapping = (
            {}
            if parent is None
            else {old: new for old, new in zip(cells[parent], cells[child], strict=True) if old != new}
        )
        steps.append(
            ProvenanceStep(ids[child], formulas[child], int(round_[child]), "substitution" if mapping else "", mapping)
        )
    return tuple(steps)


def campaign_stages() -> tuple[StageCounts, ...]:
    stages = [
        StageCounts(0, "snapshot", 64, 60, {}, {"overlapping_atoms": 3, "bad_lattice": 1}, 1.9),
        StageCounts(0, "hull", 60, 60, seconds=0.4),
        StageCounts(0, "train", 60, 60, seconds=71.0),
    ]
    for r, generated in ((1, 41_312), (2, 57_870)):
        scored, chosen = generated - 5, 100
        dead = {"not_converged": 2} if r == 1 else {"exploded": 1}
        done = chosen - sum(dead.values())
        stages += [
            StageCounts(r, "generate", generated + 8_200, generated, {"known_composition": 8_200}, {}, 12.5),
            StageCounts(r, "score", generated, scored, {}, {"overlapping_atoms": 5}, 44.1),
            StageCounts(r, "select", scored, chosen, {"above_threshold": scored - 612, "duplicate": 512}, {}, 3.2),
            StageCounts(r, "emit", chosen, chosen, seconds=0.3),
            StageCounts(r, "evaluate", chosen, done, {}, dead, 63.0),
            StageCounts(r, "ingest", done, done, seconds=0.6),
            StageCounts(r, "hull", 60 + done * r, 60 + done * r, seconds=0.5),
            StageCounts(r, "train", 60 + done * r, 60 + done * r, seconds=48.0),
        ]
    return tuple(stages)
