"""Committed stages -> ReportData."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from gnome_core.analysis.credibility import NAME, analyse
from gnome_core.models.shipped import Framework
from gnome_core.stability.hull import Hull
from gnome_core.stability.reactions import equilibrium_reaction
from pipelines.analyses import Inputs, stored_analyses
from pipelines.reading.analyses import StoredAnalysis
from pipelines.reading.committed import committed
from pipelines.reading.discoveries import stable_crystals
from pipelines.reading.members import weights_of
from pipelines.reading.outcomes import all_outcomes, by_composition, jobs_of
from pipelines.reading.potentials import potential_figures
from pipelines.reading.relaxations import relaxation_paths
from pipelines.reading.schemas import MEMBER_SCHEMA, PACKING_SCHEMA
from pipelines.report.data import (
    CompositionShare,
    Generated,
    LearningCurve,
    MemberError,
    ReportData,
    SearchedComposition,
    Searches,
    StageCounts,
)
from pipelines.rounds.config import RoundConfig, load_round_config
from pipelines.rounds.gc import begun
from pipelines.rounds.plan import stages_of
from pipelines.store.records import Attempt, Commit, table_files
from pipelines.store.store import Store

VOLUME_BINS = 8  # of volume factors, by which the convergence of random structures is shown
PACKAGES = ("gnome-flywheel", "apache-beam", "jax", "flax", "numpy", "pyarrow", "pymatgen", "vesin")


def collect(store: Store) -> ReportData:
    """All that is committed, whichever stages that are. Raises UserError for a store without a hull."""
    commits = [
        commit
        for round_ in store.rounds()
        for stage in stages_of(round_)
        if (commit := store.commit(round_, stage)) is not None
    ]
    inputs, outcomes = Inputs(store), all_outcomes(store)
    entries = inputs.entries
    analyses, left_out = stored_analyses(store)
    stable = stable_crystals(store, entries)
    config = store.round_config(store.rounds()[-1])
    return ReportData(
        title=store_name(store.root),
        scale=entries["scale"][0].as_py(),
        stages=tuple(_stage_counts(commit) for commit in commits),
        jobs=jobs_of(outcomes),
        hull_entries=entries,
        stable=tuple(stable),
        made=_made(commits),
        changed=_changed(config, RoundConfig().model_dump(mode="json")),
        reactions=_reactions(entries, [one.id for one in stable]),
        generated=tuple(row for commit in commits if commit.stage == "generate" for row in _generated(commit)),
        compositions=tuple(row for commit in commits if commit.stage == "generate" for row in _compositions(commit)),
        unpacked=tuple(
            row for commit in commits if commit.stage in ("score", "emit") for row in _unpacked(store, commit)
        ),
        curves=tuple(curve for commit in commits if commit.stage == "train" for curve in _curves(store, commit)),
        potentials=tuple(
            (commit.round, figures)
            for commit in commits
            if commit.stage == "train" and (figures := potential_figures(store, commit))
        ),
        searches=tuple(filter(None, (_searches(store, *outcome) for outcome in outcomes.items()))),
        members=tuple(error for commit in commits if commit.stage == "train" for error in _members(store, commit)),
        config=config,
        versions={name: metadata.version(name) for name in PACKAGES},
        credibility=_credibility(inputs, analyses),
        analyses=tuple(kept for kept in analyses if kept.analysis.name != NAME),
        left_out=tuple(left_out),
    )


def collect_page(store: Store) -> ReportData:
    """`collect` with what the page alone shows, and what takes reading every frame of every round: how discoveries were
    relaxed."""
    data = collect(store)
    return replace(data, relaxations=relaxation_paths(store, [one.job for one in data.stable]))


def store_name(root: str) -> str:
    """The last part of a store's address."""
    return root.rstrip("/").rpartition("/")[2] or root


def _made(commits: Sequence[Commit]) -> str:
    newest = [commit for commit in commits if commit.stage == "hull"][-1]
    when = begun(Attempt(newest.round, newest.stage, newest.attempt))
    return f"The hull of round {newest.round}, made on {when.day} {when:%B %Y, %H:%M} UTC"


def _changed(config: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, of what differs from the defaults."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            found |= _changed(value, default, f"{prefix}{key}.")
        elif value != default:
            found[prefix + key] = value
    return found


def _reactions(entries: pa.Table, ids: Sequence[str]) -> dict[str, str]:
    """Id -> the phases of the newest hull that it competes with, as a reaction."""
    hull = Hull.from_table(entries)
    positions = {id_: position for position, id_ in enumerate(hull.ids.to_pylist())}
    return {id_: equilibrium_reaction(hull, positions[id_]) for id_ in ids}


def _credibility(inputs: Inputs, kept: Sequence[StoredAnalysis]) -> StoredAnalysis:
    """The one that was kept of the newest hull, with the checks that its user chose; else one with all of them."""
    newest = (one for one in kept if one.analysis.name == NAME and one.round == inputs.round)
    return next(newest, None) or StoredAnalysis(analyse(inputs.entries), inputs.round)


def _stage_counts(commit: Commit) -> StageCounts:
    counts = commit.counts
    return StageCounts(
        commit.round,
        commit.stage,
        counts.n_in,
        counts.n_out,
        counts.rejected,
        counts.dead,
        commit.seconds,
        sum(stat.bytes for stat in commit.files),
        int(commit.metrics.get("evaluations", 0)),
    )


def _searches(store: Store, round_: int, outcomes: pa.Table) -> Searches | None:
    """What a round's random structures came to, if it searched compositions."""
    config = load_round_config(store, round_)
    if not config.searches:
        return None
    packing = store.read_table(committed(store, round_, "emit"), "packing", PACKING_SCHEMA)
    begun = dict(zip(packing["formula"].to_pylist(), packing["begun"].to_pylist(), strict=True))
    found = {formula: outcomes.take(pa.array(rows)) for formula, rows in by_composition(outcomes).items()}
    compositions = [
        SearchedComposition(
            formula=formula,
            by_model=bool(rows["selected_by_model"][0].as_py()),
            by_random=bool(rows["selected_by_random"][0].as_py()),
            begun=begun[formula],
            packed=len(rows),
            converged=len(rows) - rows["e_form"].null_count,
            predicted=rows["predicted_e_form"][0].as_py(),
            e_form=rows["e_form"][0].as_py(),
            e_above_hull=rows["e_above_hull"][0].as_py(),
        )
        for formula, rows in found.items()
    ]
    edges = np.linspace(*config.generation.random_search.volume_factors, VOLUME_BINS + 1)
    own = outcomes.filter(outcomes["searched"])
    bins = np.clip(np.digitize(own["volume_factor"].to_numpy(), edges) - 1, 0, VOLUME_BINS - 1)
    converged = own["e_form"].is_valid().to_numpy()
    trained = store.commit(round_, "train")
    return Searches(
        round=round_,
        compositions=tuple(sorted(compositions, key=_depth)),
        least_converged=config.compositional.least_converged,
        volume_edges=tuple(edges.tolist()),
        volume_runs=tuple(np.bincount(bins, minlength=VOLUME_BINS).tolist()),
        volume_converged=tuple(np.bincount(bins[converged], minlength=VOLUME_BINS).tolist()),
        labels=int(trained.metrics["composition_labels"]) if trained else None,
        labels_searched=int(trained.metrics["composition_labels_searched"]) if trained else None,
    )


def _depth(composition: SearchedComposition) -> tuple[bool, float, str]:
    """The deepest first, those without an energy last."""
    above = composition.e_above_hull
    return above is None, above or 0.0, composition.formula


def _generated(commit: Commit) -> list[Generated]:
    """From metrics such as "saps/all/4", "saps/new/4", "saps/kept/4", "saps/balanced/4"."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for name, n in commit.metrics.items():
        generator, _, rest = name.partition("/")
        kind, _, n_elements = rest.partition("/")
        if kind in ("all", "new", "kept", "balanced"):
            found.setdefault((generator, int(n_elements)), {})[kind] = int(n)
    return [
        Generated(commit.round, *key, *(n.get(kind, 0) for kind in ("all", "new", "kept", "balanced")))
        for key, n in sorted(found.items())
    ]


def _compositions(commit: Commit) -> list[CompositionShare]:
    """From metrics such as "random_search/compositions_3" and "random_search/compositions_3_passed"."""
    prefix = "random_search/compositions_"
    sizes = sorted(name.removeprefix(prefix) for name in commit.metrics if name.startswith(prefix))
    return [
        CompositionShare(
            commit.round, int(k), int(commit.metrics[f"{prefix}{k}"]), int(commit.metrics[f"{prefix}{k}_passed"])
        )
        for k in sizes
        if k.isdigit()
    ]


def _unpacked(store: Store, commit: Commit) -> list[tuple[int, str]]:
    """Compositions of which no random structure could be packed."""
    packing = store.read_table(commit, "packing", PACKING_SCHEMA)
    return [(commit.round, row["formula"]) for row in packing.to_pylist() if row["failed"] == row["begun"]]


def _members(store: Store, commit: Commit) -> list[MemberError]:
    rows = store.read_table(commit, "members", MEMBER_SCHEMA).to_pylist()
    return [
        MemberError(commit.round, row["member"], row["val_mae"], row["framework"])
        for row in rows
        if row["val_mae"] is not None
    ]


def _curves(store: Store, commit: Commit) -> list[LearningCurve]:
    """From the records beside the members' weights."""
    found = []
    for framework in get_args(Framework):
        for stat in table_files(commit, weights_of(framework)):
            if not Path(stat.path).name.startswith("member-") or not stat.path.endswith(".json"):
                continue
            record = json.loads(store.read_file(stat))
            curve = record["curve"]
            found.append(
                LearningCurve(
                    commit.round,
                    record["member"],
                    framework,
                    tuple(int(row["epoch"]) for row in curve),
                    tuple(row["train_loss"] for row in curve),
                    tuple(row.get("val_mae") for row in curve),
                )
            )
    return found
