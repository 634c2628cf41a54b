"""The flywheel on known data whose labels are hidden: how many stable crystals each policy finds for its evaluations.

An after-the-fact campaign in the manner of CAMD (Montoya et al., Chem. Sci. 11, 8517, 2020): a part of the data is
known, the rest are candidates; every round a model learns what is known, a policy chooses, the labels of the chosen
are revealed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from pydantic import Field

from gnome_core.analysis.result import Analysis
from gnome_core.analysis.surrogate import bond_features, composition_features, forest_predictions
from gnome_core.compositions.dense import N_COLUMNS, atom_counts
from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER, NUMBERS, SYMBOLS, formula_of_composition
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.split import is_withheld
from gnome_core.selection.cost import dft_cost
from gnome_core.selection.selection import NORMAL_IQR, select, select_random
from gnome_core.settings import Section
from gnome_core.stability.hull import ON_HULL, Hull
from gnome_core.units import PLAUSIBLE_E_FORM

Policy = Literal["ours", "random", "uncertainty", "lcb", "cheapest"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
CAMD_ALPHA, CAMD_WITHIN = 0.5, 0.2  # weight of the standard deviation; eV/atom above the hull that may be chosen
STRUCTURE = ("lattice", "frac_coords", "numbers")


class ReplayConfig(Section):
    """Settings of a replay."""

    policies: tuple[Policy, ...] = Field(POLICIES[:4], description="ours | random | uncertainty | lcb | cheapest")
    seeds: int = Field(5, ge=1, le=100_000, description="campaigns of each policy")
    initial: float = Field(0.05, gt=0, lt=1, description="share of the data that is known at the start")
    spend: float = Field(0.1, gt=0, le=1, description="share of the hidden data that is evaluated")
    rounds: int = Field(8, ge=1, le=100_000, description="rounds to spend it in")
    by_cost: bool = Field(False, description="spend that share of the estimated DFT cost instead of the number")
    kappa: float = Field(0.0, ge=0, le=1000, description="of our policy, as in round.toml")
    explore: float = Field(0.0, ge=0, lt=1, description="of our policy, as in round.toml")


@dataclass(frozen=True)
class Dataset:
    """n labelled crystals or compositions.

    label: (n,) what the model learns, eV/atom; distance: (n,) the truth, eV/atom above the hull. `learns_distance`:
    the label is that distance (the competing phases are known), else it is the formation energy and predictions are
    measured against the hull of what is known.
    """

    ids: list[str]
    formula: np.ndarray
    chemsys: np.ndarray
    atom_counts: np.ndarray
    features: np.ndarray
    label: np.ndarray
    distance: np.ndarray
    stable_below: float
    learns_distance: bool
    skipped: int  # rows without usable labels or composition, or withheld

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def stable(self) -> np.ndarray:
        return self.distance <= self.stable_below


def read_dataset(
    table: pa.Table,
    *,
    label: str = "e_form_per_atom",
    distance: str | None = None,
    stable_below: float = ON_HULL,
    holdout: bool = False,
) -> Dataset:
    """A dataset from a table: structures (lattice, frac_coords, numbers) or compositions (composition or formula).

    label: column of formation energies, eV/atom. distance: column of distances to the hull; the model then learns
    these. Without one the distances are to the hull of the table's own rows, with every element at 0.
    holdout: leave out the chemical systems of "holdout-v1".

    Raises ValueError for missing columns, or fewer than 100 usable rows.
    """
    columns = set(table.column_names)
    structures = columns.issuperset(STRUCTURE)
    text = next((name for name in ("composition", "formula") if name in columns), None)
    if not structures and text is None:
        raise ValueError(
            f"needs {', '.join(STRUCTURE)}, or a composition or formula; it has {', '.join(sorted(columns))}"
        )
    wanted = [distance] if distance else [label]
    if missing := [name for name in wanted if name not in columns]:
        raise ValueError(f"lacks the column {', '.join(missing)}; it has {', '.join(sorted(columns))}")
    values = table[wanted[0]].to_numpy(zero_copy_only=False).astype(np.float64)
    usable = np.isfinite(values) & (np.abs(values) <= PLAUSIBLE_E_FORM)
    if structures:
        sites = table["numbers"].to_pylist()
        usable &= np.array([min(row, default=0) > 0 and max(row) <= MAX_ATOMIC_NUMBER for row in sites], bool)
        counts = np.zeros((len(table), N_COLUMNS))
        counts[usable] = atom_counts([np.array(sites[row]) for row in np.flatnonzero(usable)])
    else:
        counts = np.array([_parsed(formula) for formula in table[text].to_pylist()]).reshape(-1, N_COLUMNS)
        usable &= counts.any(axis=1)
    chemsys = np.array(["-".join(sorted(SYMBOLS[z] for z in np.flatnonzero(row))) for row in counts], object)
    if holdout:
        usable &= np.array([not is_withheld(system) for system in chemsys], bool)
    rows = np.flatnonzero(usable)
    if len(rows) < 100:
        raise ValueError(f"{len(rows)} usable rows of {len(table)}; a replay needs at least 100")
    counts, chemsys, values = counts[rows], chemsys[rows], values[rows]
    features = composition_features(counts)
    if structures:
        features = np.hstack([features, bond_features(crystals_from_batch(table.select(STRUCTURE).take(rows)))])
    if distance is None:
        elements = _elements(counts)
        hull = _hull(np.vstack([elements, counts]), np.append(np.zeros(len(elements)), values))
        above = hull.entry_e_above_hull()[len(elements) :]
    else:
        above = values
    ids = table["id"].to_pylist() if "id" in columns else [f"{row:07d}" for row in range(len(table))]
    return Dataset(
        [str(ids[row]) for row in rows],
        np.array([_formula(row) for row in counts], object),
        chemsys,
        counts,
        features,
        values,
        above,
        stable_below,
        distance is not None,
        len(table) - len(rows),
    )


@dataclass(frozen=True)
class Round:
    """What one round of one campaign had spent and found, all rounds before it included."""

    policy: str
    seed: int
    round: int
    evaluations: int
    found: int
    cost: float  # estimated DFT cost of the evaluations, two silicon atoms = 1


def replay(data: Dataset, policy: Policy, seed: int, config: ReplayConfig, jobs: int = 1) -> Iterator[Round]:
    """One campaign, a Round after each round. The same seed hides the same crystals from every policy."""
    rng = np.random.default_rng(seed)
    known = np.zeros(len(data), bool)
    known[rng.permutation(len(data))[: max(1, round(config.initial * len(data)))]] = True
    cost, stable, digests = dft_cost(data.atom_counts), data.stable, np.array(data.ids, object)
    total = config.spend * cost[~known].sum() if config.by_cost else round(config.spend * int((~known).sum()))
    evaluations, found, spent = 0, 0, 0.0
    for round_ in range(1, config.rounds + 1):
        hidden = np.flatnonzero(~known)
        draw = seed * 1000 + round_
        until = total * round_ / config.rounds  # spent after this round
        batch = len(hidden) if config.by_cost else round(until) - evaluations
        affordable = until - spent if config.by_cost else np.inf
        formula, digest = data.formula[hidden], digests[hidden]
        if policy == "random":
            first = select_random(formula, digest, budget=batch, seed=draw).selected
            order = _filled(first, rng.permutation(len(hidden)))
        elif policy == "cheapest":
            order = np.lexsort((rng.random(len(hidden)), cost[hidden]))
        else:
            above, iqr = predicted(data, known, hidden, draw, jobs)
            if policy == "ours":
                # Everybody spends the same, so the threshold that would end a round early plays no part.
                choice = select(
                    formula,
                    data.chemsys[hidden],
                    digest,
                    above,
                    iqr,
                    budget=batch,
                    threshold=np.inf,
                    kappa=config.kappa,
                    explore=config.explore,
                    cost=cost[hidden],
                    cost_budget=affordable,
                    by_cost=config.by_cost,
                )
                order = (
                    choice.selected if config.by_cost else _filled(choice.selected, np.argsort(above, kind="stable"))
                )
            else:
                order = RANKED[policy](above, iqr, rng)
        chosen = hidden[order[:batch]]
        chosen = chosen[np.cumsum(cost[chosen]) <= affordable]
        known[chosen] = True
        evaluations += len(chosen)
        found += int(stable[chosen].sum())
        spent += float(cost[chosen].sum())
        yield Round(policy, seed, round_, evaluations, found, spent)


def _filled(picked: np.ndarray, order: np.ndarray) -> np.ndarray:
    """`picked`, and the rest in the given order: a choice of one crystal a composition may leave room."""
    return np.append(picked, order[~np.isin(order, picked)])


def predicted(
    data: Dataset, known: np.ndarray, hidden: np.ndarray, seed: int, jobs: int
) -> tuple[np.ndarray, np.ndarray]:
    """(distance to the hull, interquartile range) predicted for the rows `hidden`, eV/atom."""
    median, iqr = forest_predictions(
        data.features[known], data.label[known], data.features[hidden], seed=seed, jobs=jobs
    )
    if data.learns_distance:
        return median, iqr
    elements = _elements(data.atom_counts)
    counts = np.vstack([elements, data.atom_counts[known]])
    hull = _hull(counts, np.append(np.zeros(len(elements)), data.label[known]))
    return hull.e_above_hull(data.atom_counts[hidden], median), iqr


def _most_uncertain(above: np.ndarray, iqr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.argsort(-iqr, kind="stable")


def _lower_confidence_bound(above: np.ndarray, iqr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """CAMD's: by the lower bound what is predicted within 0.2 eV/atom of the hull, then the rest at random."""
    bound = above - CAMD_ALPHA * iqr / NORMAL_IQR
    return np.lexsort((rng.random(len(above)), np.where(bound <= CAMD_WITHIN, bound, CAMD_WITHIN)))


RANKED: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "uncertainty": _most_uncertain,
    "lcb": _lower_confidence_bound,
}
ROUND_SCHEMA = pa.schema(
    [
        pa.field("policy", pa.string()),
        pa.field("seed", pa.int32()),
        pa.field("round", pa.int32()),
        pa.field("evaluations", pa.int64()),
        pa.field("found", pa.int64()),
        pa.field("cost", pa.float64()),
    ]
)


def summarise(data: Dataset, config: ReplayConfig, rounds: Iterable[Round]) -> Analysis:
    """Curves of all campaigns, and what each policy found at the end beside random choices.

    ratio: stable crystals found over the mean of the random campaigns, mean and standard deviation over seeds; the
    highest possible one belongs to a policy that chooses nothing but stable crystals.
    """
    curves = pa.Table.from_pylist([vars(r) for r in rounds], ROUND_SCHEMA)
    rows = [row for row in curves.to_pylist() if row["round"] == config.rounds]
    ends = {policy: np.array([row["found"] for row in rows if row["policy"] == policy]) for policy in config.policies}
    spent = {policy: np.mean([row["evaluations"] for row in rows if row["policy"] == policy]) for policy in ends}
    share = float(data.stable.mean())
    base = ends["random"].mean() if "random" in ends else np.nan
    table = [
        {
            "policy": policy,
            "evaluations": float(spent[policy]),
            "found": float(found.mean()),
            "found_deviation": float(found.std(ddof=1)) if len(found) > 1 else None,
            "hit_rate": float(found.mean() / spent[policy]),
            "ratio": float(found.mean() / base) if base else None,
            "ratio_deviation": float(found.std(ddof=1) / base) if len(found) > 1 and base else None,
        }
        for policy, found in ends.items()
    ]
    n_hidden = len(data) - max(1, round(config.initial * len(data)))
    return Analysis(
        "replay",
        "Replay",
        {"policies": pa.Table.from_pylist(table), "curves": curves},
        {
            "crystals": len(data),
            "stable": int(data.stable.sum()),
            "rows left out": data.skipped,
            "campaigns of each policy": config.seeds,
            "known at the start": len(data) - n_hidden,
            "spent": f"{100 * config.spend:g} % of the {'estimated cost' if config.by_cost else 'hidden crystals'}",
            # With the number of evaluations fixed; cheap crystals can be many.
            "highest possible ratio to random": None if config.by_cost else round(min(1 / share, 1 / config.spend), 2),
        },
        (
            "Ratio: stable crystals found over those of random choices for the same "
            f"{'estimated cost' if config.by_cost else 'number of evaluations'}; mean and deviation over seeds.",
            "The model learns the distance to the hull of known competing phases."
            if data.learns_distance
            else "The model learns formation energies; predictions are measured against the hull of what is known.",
        ),
    )


def _elements(counts: np.ndarray) -> np.ndarray:
    """(k, 95) one atom of each element that the compositions hold."""
    return np.eye(N_COLUMNS)[np.flatnonzero(counts.any(axis=0))]


def _hull(counts: np.ndarray, e_form: np.ndarray) -> Hull:
    return Hull.from_entries([str(row) for row in range(len(counts))], counts, e_form, "replay")


def _parsed(formula: str) -> np.ndarray:
    """(95,) amounts of a flat formula ("Ba1Te1"); zeros where it holds something else."""
    amounts = np.zeros(N_COLUMNS)
    parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", formula or "")
    if "".join(symbol + number for symbol, number in parts) != (formula or "").replace(" ", ""):
        return amounts
    for symbol, number in parts:
        z = NUMBERS.get(symbol, N_COLUMNS)
        if z >= N_COLUMNS:
            return np.zeros(N_COLUMNS)
        amounts[z] += float(number or 1)
    return amounts


def _formula(counts: np.ndarray) -> str:
    """The reduced formula; of fractional amounts the formula as it is."""
    elements = np.flatnonzero(counts)
    if (counts == np.round(counts)).all():
        return formula_of_composition(tuple((int(z), int(counts[z])) for z in elements))
    return "".join(f"{SYMBOLS[z]}{counts[z]:g}" for z in elements)
