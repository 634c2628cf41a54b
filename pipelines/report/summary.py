"""The figures of merit of each round: what was evaluated against what the model said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gnome_core.analysis.confirmation import PREFIX
from gnome_core.analysis.discovery import (
    Calibration,
    discovery_metrics,
    hit_rate,
    iqr_calibration,
    regression_metrics,
)
from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.nearest import nearest_share
from gnome_core.compositions.packed import parse_formulas, unpack_compositions
from gnome_core.matching.novelty import NEW
from gnome_core.stability.hull import ON_HULL
from pipelines.reading.discoveries import StableCrystal
from pipelines.report.data import ReportData, Searches


@dataclass(frozen=True)
class Share:
    """`hits` of `n` with its 95 % Wilson interval; all NaN when n is 0."""

    hits: int
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RoundSummary:
    """One round's evaluated jobs against what the model said of them. Energies eV/atom.

    model, random: share at or below the hull among those each way of selecting chose; a failed evaluation is a miss.
    precision: share at or below the hull among those with an energy that the ensemble's median put there.
    mae, bias: mean of |median - evaluated| and of median - evaluated.
    """

    round: int
    n_failed: int
    model: Share
    random: Share
    precision: Share
    mae: float
    bias: float
    calibration: Calibration

    @property
    def gain(self) -> float:
        """See `gain`."""
        return gain(self.model, self.random)

    @property
    def inside_iqr(self) -> float:
        """Share of errors within the interquartile range centred on the median: 0.5 when calibrated."""
        return float(np.interp(0.5, self.calibration.levels, self.calibration.coverage))

    def figures(self) -> dict[str, float]:
        """The round in plain numbers, eV/atom, NaN where there is none."""
        return {
            "chosen": self.model.n,
            "hits": self.model.hits,
            "hit_rate": self.model.value,
            "chosen_by_chance": self.random.n,
            "hits_by_chance": self.random.hits,
            "hit_rate_by_chance": self.random.value,
            "precision": self.precision.value,
            "mae": self.mae,
            "bias": self.bias,
            "inside_iqr": self.inside_iqr,
            "failed": self.n_failed,
        }


@dataclass(frozen=True)
class Curse:
    """How much higher the energies of what a round chose turned out, eV/atom: what is chosen for a low prediction is
    chosen for its error too (the winner's curse; Smith and Winkler, Management Science 52, 311, 2006).

    model, random: mean of evaluated - predicted of those that each way of selecting chose, NaN of none. judges: name
    -> mean of its formation energies minus the evaluator's, of the discoveries that it was asked about.
    """

    round: int
    model: float
    random: float
    judges: dict[str, float]


@dataclass(frozen=True)
class Root:
    """A crystal without a parent, and how many discoveries descend from it."""

    id: str
    formula: str
    discoveries: int


@dataclass(frozen=True)
class Origins:
    """Where n discoveries come from.

    last: generator of the last step -> discoveries. through: generator -> discoveries that it made or whose ancestors
    since the root it made, most first. roots: most discoveries first.
    """

    n: int
    last: dict[str, int]
    through: dict[str, int]
    roots: list[Root]


@dataclass(frozen=True)
class Headline:
    """How many crystals a store's rounds found, and in what sense.

    on_hull: on the store's newest hull. new: those of a composition that no list and no entry of the snapshot has.
    on_mp_hull: those of the new ones at or below the Materials Project's hull as published; None: not comparable.
    confirmed: those of the new ones that all second judges who answered confirm; None: nobody was asked. judges: those
    asked.
    """

    on_hull: int
    new: int
    on_mp_hull: int | None
    confirmed: int | None = None
    judges: str = ""

    def __str__(self) -> str:
        text = f"{self.new} new (unknown composition), {self.on_hull} on the hull"
        if self.confirmed is not None:
            text = f"{self.confirmed} new, confirmed by {self.judges}, beside {text}"
        if self.on_mp_hull is None:
            return text
        return f"{text}; {self.on_mp_hull} of the new ones at or below the Materials Project's hull"


def headline(stable: Sequence[StableCrystal]) -> Headline:
    """What to say first of a store's discoveries."""
    new = [crystal for crystal in stable if crystal.novelty.level == NEW]
    above = [crystal.e_above_mp_hull for crystal in new if crystal.e_above_mp_hull is not None]
    on_mp_hull = sum(energy <= ON_HULL for energy in above)
    judges = {name for crystal in stable if crystal.confirmed_by for name in crystal.confirmed_by.split(", ")}
    return Headline(
        len(stable),
        len(new),
        on_mp_hull if len(above) == len(new) > 0 else None,
        sum(crystal.confirmed is True for crystal in new) if judges else None,
        ", ".join(sorted(judges)),
    )


def origins(stable: Sequence[StableCrystal]) -> Origins:
    """Trace discoveries to their roots."""
    last = Counter(crystal.chain[0].generator for crystal in stable)
    through = Counter(name for crystal in stable for name in {step.generator for step in crystal.chain} - {""})
    roots = Counter((crystal.chain[-1].id, crystal.chain[-1].formula) for crystal in stable)
    ranked = sorted(roots.items(), key=lambda item: (-item[1], item[0]))
    by_count = sorted(through.items(), key=lambda item: (-item[1], item[0]))
    return Origins(len(stable), dict(last), dict(by_count), [Root(*root, n) for root, n in ranked])


def gain(model: Share, random: Share) -> float:
    """Hit rate of the model over the random baseline's; infinite where only that is 0, NaN when unknown."""
    if not (model.n and random.n) or model.hits == random.hits == 0:
        return np.nan
    return model.value / random.value if random.hits else np.inf


def over_all(shares: Iterable[Share]) -> Share:
    """The share of several rounds taken together."""
    shares = list(shares)
    return _share(sum(share.hits for share in shares), sum(share.n for share in shares))


def hits_together(rounds: Sequence[RoundSummary]) -> tuple[Share, Share]:
    """Hits of all rounds: the model's and the random baseline's."""
    return over_all(r.model for r in rounds), over_all(r.random for r in rounds)


def summarize(jobs: pa.Table) -> list[RoundSummary]:
    """One summary for each round that evaluated anything, ascending. jobs: `pipelines.reading.outcomes.JOBS`."""
    return [_summarize_round(jobs, round_) for round_ in sorted(set(jobs["round"].to_pylist()))]


def curses(data: ReportData) -> list[Curse]:
    """One for each round that evaluated anything, ascending."""
    jobs = data.jobs
    rise = jobs["e_form"].to_numpy() - jobs["predicted_e_form"].to_numpy()
    opinions = {
        str(stored.analysis.summary["judge"]): stored.analysis.tables["crystals"]
        for stored in data.analyses
        if stored.analysis.name.startswith(PREFIX)
    }
    rounds = jobs["round"].to_numpy()
    by_model, by_random = (jobs[name].to_numpy() for name in ("selected_by_model", "selected_by_random"))
    return [
        Curse(
            int(round_),
            _mean(rise[(rounds == round_) & by_model]),
            _mean(rise[(rounds == round_) & by_random]),
            {
                judge: _mean(table["e_form_shift"].to_numpy()[table["round"].to_numpy() == round_])
                for judge, table in opinions.items()
            },
        )
        for round_ in np.unique(rounds)
    ]


@dataclass(frozen=True)
class ElementResidual:
    """Errors of predictions for the n evaluated crystals that hold an element, eV/atom; mean: predicted - evaluated."""

    element: str
    n: int
    mae: float
    mean: float


def element_residuals(data: ReportData) -> list[ElementResidual]:
    """One an element of an evaluated crystal, of all rounds together, the largest MAE first."""
    jobs = data.jobs.filter(data.jobs["e_form"].is_valid())
    errors = jobs["predicted_e_form"].to_numpy() - jobs["e_form"].to_numpy()
    of_element: dict[str, list[float]] = {}
    for system, error in zip(jobs["chemsys"].to_pylist(), errors.tolist(), strict=True):
        for element in system.split("-"):
            of_element.setdefault(element, []).append(error)
    found = [
        ElementResidual(element, len(own), float(np.mean(np.abs(own))), float(np.mean(own)))
        for element, own in of_element.items()
    ]
    return sorted(found, key=lambda residual: (-residual.mae, residual.element))


def novel_shares(data: ReportData) -> np.ndarray:
    """(jobs,) how far each composition lay from those known when its round began, see `nearest_share`; NaN of what is
    no formula."""
    known = _fractions(atom_counts(data.hull_entries["numbers"])) if len(data.hull_entries) else np.zeros((0, 95))
    since, rounds = data.hull_entries["round"].to_numpy(), data.jobs["round"].to_numpy()
    formulas, shares = np.array(data.jobs["formula"].to_pylist(), object), np.ones(len(rounds))
    for round_ in np.unique(rounds):
        rows = np.flatnonzero(rounds == round_)
        distinct, of_row = np.unique(formulas[rows].astype(str), return_inverse=True)
        fractions = np.stack([_composition(formula) for formula in distinct.tolist()])
        shares[rows] = nearest_share(fractions, known[since < round_])[of_row]
    return shares


def _composition(formula: str) -> np.ndarray:
    """(95,) atomic fractions; NaN of what is no formula."""
    try:
        return _fractions(unpack_compositions(parse_formulas([formula])))[0]
    except ValueError:
        return np.full(95, np.nan)


def _fractions(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum(axis=1, keepdims=True)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def search_hits(searches: Searches, by_random: bool) -> Share:
    """Searched compositions whose lowest structure is at or below the hull, of those chosen by the ensemble or by
    chance; one of which nothing converged is a miss."""
    chosen = [c for c in searches.compositions if (c.by_random if by_random else c.by_model)]
    return _hits(np.array([np.nan if c.e_above_hull is None else c.e_above_hull for c in chosen], float))


def _summarize_round(jobs: pa.Table, round_: int) -> RoundSummary:
    jobs = jobs.filter(jobs["round"].to_numpy() == round_)
    # A null, the energy of a failed evaluation, becomes NaN.
    columns = ("predicted_e_form", "predicted_iqr", "e_form", "e_above_hull")
    predicted, iqr, e_form, above = (jobs[column].to_numpy() for column in columns)
    by_model, by_random = (jobs[column].to_numpy() for column in ("selected_by_model", "selected_by_random"))
    error = predicted - e_form
    done = ~np.isnan(error)
    # Same composition, same hull: the two distances to the hull differ by the error alone.
    called = discovery_metrics(above, above + error, ON_HULL)
    return RoundSummary(
        round=round_,
        n_failed=int((~done).sum()),
        model=_hits(above[by_model]),
        random=_hits(above[by_random]),
        precision=_share(called.true_positives, called.true_positives + called.false_positives),
        mae=regression_metrics(e_form, predicted).mae,
        bias=float(error[done].mean()) if done.any() else np.nan,
        calibration=iqr_calibration(e_form, predicted, iqr, bins=5),
    )


def _hits(e_above_hull: np.ndarray) -> Share:
    n = len(e_above_hull)
    return _share(round(hit_rate(e_above_hull, ON_HULL) * n) if n else 0, n)


def _share(hits: int, n: int) -> Share:
    if n == 0:
        return Share(0, 0, np.nan, np.nan, np.nan)
    share, z = hits / n, 1.959964  # of 95 % of a normal distribution
    centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = np.clip((np.array([-half, half]) + centre) / (1 + z**2 / n), 0, 1)
    return Share(hits, n, share, float(low), float(high))
