"""Discoveries and their competing phases, evaluated again by another judge.

By potentials in the workers, whose finished batches are kept in the store, or as jobs of first-principles engines in
its job folders: what was evaluated once is never evaluated again, whoever asked for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dft.config import DftConfig
from dft.evaluators.evaluator import Evaluator
from dft.evaluators.make import make_evaluator
from dft.jobs.engine import OutputError, job_files
from dft.jobs.folders import Job as EngineJob
from dft.jobs.folders import State
from dft.names import is_engine
from dft.tables import job_digest, protocol_json, result_batch
from gnome_core.analysis.confirmation import Opinion, analyse
from gnome_core.analysis.credibility import analyse as certify
from gnome_core.analysis.result import Analysis
from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.config import RelaxConfig
from gnome_core.selection.cost import dft_cost
from gnome_core.stability.hull import ON_HULL, Hull
from gnome_core.stability.references import ElementalReferences
from gnome_core.stability.targeted import competitors, lowest_elements
from pipelines.beam import progress
from pipelines.beam.options import network_hints
from pipelines.beam.runners import run_pipeline
from pipelines.errors import StoreError, UserError
from pipelines.evaluation.batches import RESULTS, EvaluateBatch, batches_of, evaluate_batches, write_batches
from pipelines.evaluation.jobs import PENDING, engine_of_process, run_waiting
from pipelines.evaluation.relaxing import shipped_references, total_energies
from pipelines.reading.committed import hull_until
from pipelines.reading.confirmations import asked_before
from pipelines.reading.engine_jobs import engine_jobs
from pipelines.reading.entries import measured_entries, named, newest_hull
from pipelines.reading.finished import finished_batch, finished_batches
from pipelines.rounds.config import RoundConfig
from pipelines.store.digests import json_digest
from pipelines.store.store import Store

log = logging.getLogger(__name__)


class NothingFound(UserError):
    """No discovery to ask about."""


@dataclass(frozen=True)
class Judge:
    """Who gives the second opinion, and with what settings."""

    name: str
    relaxation: RelaxConfig
    dft: DftConfig
    batch_size: int

    @classmethod
    def of(cls, name: str, config: RoundConfig) -> Judge:
        """The judge with a round's settings."""
        return cls(name, config.evaluation.relaxation(), config.dft, config.evaluation.batch_size)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Raises UserError where there is none of that name."""
        try:
            made = make_evaluator(self.name, self.relaxation, self.dft)
            assert made.scale  # reads a potential's files
        except ValueError as error:
            raise UserError(f"--by {self.name}: {error}") from error
        return made


@dataclass(frozen=True)
class Plan:
    """What is to be evaluated.

    entries: the discoveries, their competitors, and elements where the judge's references are not shipped, as
    `measured_entries` has them; chosen: rows of the discoveries, the best first; decisive: (n,) bool, see
    `gnome_core.analysis.confirmation.analyse`; jobs: each row's job digest; round: whose hull it is.
    """

    judge: Judge
    entries: pa.Table
    chosen: np.ndarray
    decisive: np.ndarray
    jobs: list[str]
    round: int

    @property
    def crystals(self) -> Sequence[Crystal]:
        return crystals_from_batch(self.entries)


@dataclass(frozen=True)
class Price:
    """crystals, sites: still to be evaluated; units: of `dft_cost`, or None for potentials; seconds: of one core or, of
    an engine, of its jobs' wall time, where jobs of it have ended here; before: crystals evaluated before."""

    crystals: int
    sites: int
    before: int
    units: float | None
    seconds: float | None


def plan(store: Store, judge: Judge, top: int | None, within: float, window: float, only: str | None = None) -> Plan:
    """What a second opinion of the store's discoveries takes.

    top: how many of them, in the certificate's order; None: all. within: eV/atom above the newest hull up to which an
    entry of a round counts as one. only: formulas or ids of new crystals, comma-separated, wherever they lie, in place
    of these two. window: eV/atom above a hull up to which phases compete, see `_rivals`. Those that the judge was asked
    about before, on this hull, stay among them. Raises UserError for a name that is none's and where the judge is the
    store's own evaluator, NothingFound.
    """
    entries, round_ = measured_entries(store), newest_hull(store)[1]
    scale = entries["scale"][0].as_py()
    if judge.evaluator.scale == scale:
        raise UserError(f"--by {judge.name}: the store's own energies are on {scale}; a second opinion is another's")
    new = entries.filter(pc.greater(entries["round"], 0))
    if only is not None:
        ids, top = named(new, only)["id"].to_pylist(), None
    else:
        ids = _discoveries(entries, new, within)
    if not ids:
        raise NothingFound(f"{store.root}: no round has found a crystal within {within:g} eV/atom of the newest hull")
    before = set(asked_before(store, judge.name, round_))
    ids = [id_ for place, id_ in enumerate(ids) if top is None or place < top or id_ in before]
    counts = atom_counts(entries["numbers"])
    chosen = pc.index_in(pa.array(ids, pa.string()), entries["id"].combine_chunks()).to_numpy()
    near, decisive = _rivals(hull_until(store.root, round_), entries, chosen, window)
    phases = competitors(counts, near, chosen)
    rows = np.concatenate([chosen, phases, _elements(judge, entries, counts, chosen)])
    taken = entries.take(pa.array(rows))
    protocol = protocol_json(judge.evaluator.protocol)
    jobs = [job_digest(crystal, protocol) for crystal in crystals_from_batch(taken)]
    return Plan(judge, taken, np.arange(len(chosen)), decisive[rows], jobs, round_)


def _rivals(hull: Hull, entries: pa.Table, chosen: np.ndarray, window: float) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool each: entries within the window of the newest hull, or of the snapshot's, whose phases come back where
    discoveries are refuted; those on one of them. What a chosen one would separate into is among both: it may lie high
    above the hull that this one made."""
    snapshot = np.where(entries["round"].to_numpy() == 0, entries["e_above_hull_snapshot"].to_numpy(), np.inf)
    above = np.fmin(entries["e_above_hull"].to_numpy(), snapshot)
    places = pc.index_in(entries["id"].combine_chunks().take(pa.array(chosen)), hull.ids).to_pylist()
    products = {phase.entry for place in places for phase in hull.competing_phases(place)}
    displaced = np.isin(entries["id"].to_pylist(), hull.ids.take(pa.array(sorted(products), pa.int64())).to_pylist())
    return (above <= window) | displaced, (above <= ON_HULL) | displaced


def _discoveries(entries: pa.Table, new: pa.Table, within: float) -> list[str]:
    """Ids, those that pass most of the certificate's checks first, then those above the hull, the lowest first."""
    on_hull = certify(entries).tables["crystals"]["id"].to_pylist()
    near = new.filter(pc.less_equal(new["e_above_hull"], within))
    above = near.sort_by([("e_above_hull", "ascending"), ("id", "ascending")])["id"].to_pylist()
    return list(dict.fromkeys([*on_hull, *above]))


def _elements(judge: Judge, entries: pa.Table, counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Rows of the elements that the judge's references must be computed of."""
    needed = np.flatnonzero(counts[chosen].any(axis=0))
    shipped = shipped_references(judge.evaluator.scale)
    if shipped and shipped.elements.issuperset(needed.tolist()):
        return np.zeros(0, np.int64)
    return np.setdiff1d(lowest_elements(counts, entries["e_form_per_atom"].to_numpy(), needed), chosen)


def price(store: Store, asked: Plan) -> Price:
    """What is left to do, and what it costs as far as anybody knows."""
    ended = _known(store, asked).keys()
    left = [row for row, job in enumerate(asked.jobs) if job not in ended]
    counts = atom_counts(asked.entries["numbers"])
    sites = int(counts[left].sum())
    if not is_engine(asked.judge.name):
        return Price(len(left), sites, len(asked.jobs) - len(left), None, None)
    units = float(dft_cost(counts[left]).sum())
    rate = _seconds_per_unit(store, asked.judge.name)
    return Price(len(left), sites, len(asked.jobs) - len(left), units, None if rate is None else rate * units)


def _seconds_per_unit(store: Store, engine: str) -> float | None:
    """Wall time per unit of cost of the engine's jobs that converged in this store."""
    jobs = engine_jobs(store, engine)
    seconds, units = 0.0, 0.0
    for id_ in jobs.ids():
        ending = jobs.ending(id_)
        if ending and ending.state is State.CONVERGED:
            seconds += ending.seconds
            units += float(dft_cost(atom_counts([jobs.asked(id_).crystal.numbers]))[0])
    return seconds / units if units else None


def evaluate(store: Store, asked: Plan, flags: Sequence[str], run_jobs: bool = True) -> None:
    """Evaluate what was not evaluated before.

    run_jobs: whether an engine's jobs are run here and now, or emitted only. Raises UserError where the engine is not
    there.
    """
    known = _known(store, asked)
    left = {job: row for row, job in enumerate(asked.jobs) if job not in known}
    if not left:
        return
    everything = asked.crystals
    jobs, crystals = list(left), [everything[row] for row in left.values()]
    if is_engine(asked.judge.name):
        _emit(store, asked.judge, jobs, crystals)
        if run_jobs:
            numbers = [crystal.numbers for crystal in crystals]
            order = np.argsort(-dft_cost(atom_counts(numbers)), kind="stable")  # or the dearest is waited for alone
            ordered = [jobs[i] for i in order], [numbers[i] for i in order]
            run_waiting(store, asked.judge.name, asked.judge.dft, *ordered)
        return
    progress.expect(len(jobs), "crystals")
    protocol = protocol_json(asked.judge.evaluator.protocol)
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), jobs, crystals)
    folder = f"confirm/{json_digest(protocol)}"  # what a kill leaves there is written over by the next call
    batches = write_batches(store, folder, pa.Table.from_batches([batch]), asked.judge.batch_size)
    step = EvaluateBatch(store.root, asked.judge.name, asked.judge.relaxation, protocol)

    def build(pipeline: beam.Pipeline) -> None:
        evaluate_batches(pipeline, batches, step, network_hints(flags))

    run_pipeline(flags, build)
    store.storage.delete(batches.file.path)


def _emit(store: Store, judge: Judge, jobs: Sequence[str], crystals: Sequence[Crystal]) -> None:
    engine, protocol = engine_of_process(judge.name, judge.dft), protocol_json(judge.evaluator.protocol)
    made = [EngineJob(id_, crystal, judge.name, protocol) for id_, crystal in zip(jobs, crystals, strict=True)]
    engine_jobs(store, judge.name).emit({job.id: job_files(job, engine, judge.dft.emit == "flows") for job in made})


def outcome(store: Store, asked: Plan) -> Analysis:
    """The judge's opinion by what has been evaluated so far."""
    known = _known(store, asked)
    rows = [known.get(job) for job in asked.jobs]
    energies = np.array([np.nan if row is None else row["energy"] for row in rows], float)
    status = [PENDING if row is None else row["status"] for row in rows]
    message = ["" if row is None else row["message"] for row in rows]
    return analyse(
        asked.entries,
        asked.chosen,
        asked.decisive,
        Opinion(asked.judge.name, _references(asked, energies), energies, status, message),
    )


def _references(asked: Plan, energies: np.ndarray) -> ElementalReferences:
    """As shipped, else the lowest of the elements that were evaluated along."""
    scale = asked.judge.evaluator.scale
    shipped = shipped_references(scale)
    own = ElementalReferences.lowest(asked.entries["numbers"], energies, scale)
    return replace(own, energies={**own.energies, **(shipped.energies if shipped else {})})


def _known(store: Store, asked: Plan) -> Mapping[str, dict]:
    """Job digest -> energy (eV/atom, with corrections), status, message, of the jobs that have ended."""
    if is_engine(asked.judge.name):
        return _ended_jobs(store, asked)
    wanted, found = pa.array(asked.jobs, pa.string()), {}
    folder = batches_of(asked.judge.name)
    for evaluator, batch in finished_batches(store):
        if evaluator != folder:
            continue
        try:
            tables = finished_batch(store, evaluator, batch, (RESULTS,)) or {}
        except StoreError as error:  # a damaged one is as good as none
            log.warning("%s: what it held is evaluated again", error)
            continue
        for rows in tables.values():
            found |= _by_job(rows.filter(pc.is_in(rows["id"], wanted)))
    return found


def _ended_jobs(store: Store, asked: Plan) -> dict[str, dict]:
    jobs, engine = engine_jobs(store, asked.judge.name), engine_of_process(asked.judge.name, asked.judge.dft)
    found: dict[str, dict] = {}
    jobs.fetch(asked.jobs)
    for job, crystal in zip(asked.jobs, asked.crystals, strict=True):
        if jobs.ending(job) is None:
            continue
        try:
            calculation = jobs.read(job, engine)
        except OutputError as error:
            found[job] = {"energy": np.nan, "status": error.reason, "message": str(error)}
            continue
        if calculation is not None:
            batch = result_batch([job], [crystal], [calculation.outcome], engine.scale, [calculation])
            found |= _by_job(pa.Table.from_batches([batch]))
    return found


def _by_job(results: pa.Table) -> dict[str, dict]:
    columns = (results["id"].to_pylist(), total_energies(results), results["status"].to_pylist())
    rows = zip(*columns, results["message"].to_pylist(), strict=True)
    return {id_: {"energy": energy, "status": status, "message": message} for id_, energy, status, message in rows}
