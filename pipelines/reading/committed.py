"""What a worker loads once per process: parents, hulls, references. Commits never change, so neither do these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache, wraps
from threading import Lock
from typing import ParamSpec, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dft.tables import RESULT_SCHEMA
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.split import withholds
from gnome_core.generation.given import GIVEN_SCHEMA, given_by_key
from gnome_core.generation.parents import PARENT_SCHEMA, ParentTable
from gnome_core.stability.hull import Hull
from gnome_core.stability.references import ElementalReferences
from pipelines.reading.schemas import PROPOSAL_SCHEMA
from pipelines.store.records import Commit, stage_key, table_files
from pipelines.store.store import Store

GIVEN = "given"  # table of a generate stage
HULL_FILE = "hull_file"  # blob of a hull stage: `Hull.save`
VERTICES_FILE = "hull_vertices"  # the same of `Hull.vertices`

P = ParamSpec("P")
T = TypeVar("T")


def once_per_process(load: Callable[P, T]) -> Callable[P, T]:
    """Keep the last two results of `load`; threads of a worker wait for one load instead of repeating it."""
    cached, lock = lru_cache(maxsize=2)(load), Lock()

    @wraps(load)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs, "positional arguments only, so that equal calls have equal keys"
        with lock:
            return cached(*args)

    return call


def once_per_commit(made_of: Callable[..., Iterable[tuple[int, str]]]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`once_per_process` of what is loaded from a store, whose root is the first argument.

    made_of: arguments -> (round, stage) of the last commits that it is made of, which hold the digests of those before
    them: a store that was made again at the same root is loaded again.
    """

    def decorate(load: Callable[P, T]) -> Callable[P, T]:
        @once_per_process
        def cached(digests: tuple[str | None, ...], *args: P.args, **kwargs: P.kwargs) -> T:
            return load(*args, **kwargs)

        @wraps(load)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            commits = [Store(str(args[0])).commit(*key) for key in made_of(*args)]
            return cached(tuple(commit.digest if commit else None for commit in commits), *args, **kwargs)

        return call

    return decorate


def labels_of(round_: int) -> tuple[int, str]:
    """(round, stage) of the commit that added a round's labelled entries."""
    return (round_, "ingest") if round_ else (0, "snapshot")


def committed(store: Store, round_: int, stage: str) -> Commit:
    commit = store.commit(round_, stage)
    if commit is None:
        raise FileNotFoundError(f"{store.root}: {stage_key(round_, stage)} is not committed")
    return commit


def entries_until(store: Store, round_: int, columns: list[str] | None = None) -> pa.Table:
    """All labelled entries: the snapshot with its added references, and what rounds 1..round_ ingested."""
    snapshot = committed(store, 0, "snapshot")
    parts = [store.read_table(snapshot, table, ENTRY_SCHEMA, columns) for table in ("entries", "references")]
    for earlier in range(1, round_ + 1):
        parts.append(store.read_table(committed(store, earlier, "ingest"), "entries", ENTRY_SCHEMA, columns))
    return pa.concat_tables(parts).combine_chunks()


def leaves_out_withheld(store: Store, holdout: str) -> bool:
    """Whether models of the store train on nothing of the withheld systems, under a round's `holdout`."""
    snapshot = store.round_config(0)["snapshot"]
    return withholds(holdout, *([snapshot] if isinstance(snapshot, str) else snapshot))


def proposed_entries(store: Store, round_: int) -> list[pa.Table]:
    """The entries of rounds 1..round_ in the geometry they were proposed with; ids end in "-proposed"."""
    tables = []
    jobs = all_proposals(store, round_)
    for earlier in range(1, round_ + 1):
        entries = store.read_table(committed(store, earlier, "ingest"), "entries", ENTRY_SCHEMA)
        rows = pc.index_in(entries["job"].combine_chunks(), jobs["id"].combine_chunks())
        replaced = {name: jobs[name].take(rows) for name in ("lattice", "frac_coords", "numbers")}
        replaced["id"] = pa.array([f"{id_}-proposed" for id_ in entries["id"].to_pylist()], pa.string())
        columns = [replaced.get(name, entries[name]) for name in ENTRY_SCHEMA.names]
        tables.append(pa.table(columns, schema=ENTRY_SCHEMA))
    return tables


@once_per_commit(lambda root, round_: [(round_, "hull")])
def parent_table(root: str, round_: int) -> ParentTable:
    """Parents that the hull of `round_` offers to the next round."""
    store = Store(root)
    return ParentTable.from_batch(store.read_table(committed(store, round_, "hull"), "parents", PARENT_SCHEMA))


@once_per_commit(lambda root, round_: [(round_ - 1, "hull"), (round_, "generate")])
def candidate_parents(root: str, round_: int) -> ParentTable:
    """What the recipes of a round's candidates are expanded with: the last round's parents, and what files gave."""
    given = given_crystals(Store(root), round_)
    return replace(parent_table(root, round_ - 1), given=given_by_key(given))


def given_crystals(store: Store, round_: int) -> pa.Table:
    """GIVEN_SCHEMA: the candidates that files gave a round."""
    return store.read_table(committed(store, round_, "generate"), GIVEN, GIVEN_SCHEMA)


@once_per_commit(lambda root, round_: [labels_of(round_), (round_, "hull")])
def hull_until(root: str, round_: int) -> Hull:
    """The hull of all entries up to a round: mapped from the file that its stage committed, once there is one."""
    store = Store(root)
    whole = _hull_of_file(store, round_, HULL_FILE)
    if whole is None:
        whole = Hull.from_table(entries_until(store, round_, ["id", "numbers", "e_form_per_atom", "scale"]))
    return whole


@once_per_commit(lambda root, round_: [labels_of(round_), (round_, "hull")])
def hull_vertices(root: str, round_: int) -> Hull:
    """`Hull.vertices` of a round, which is all that energies of compositions ask for; of an older store all entries."""
    vertices = _hull_of_file(Store(root), round_, VERTICES_FILE)
    return hull_until(root, round_) if vertices is None else vertices


def _hull_of_file(store: Store, round_: int, table: str) -> Hull | None:
    commit = store.commit(round_, "hull")
    for stat in table_files(commit, table) if commit else ():
        return Hull.load(store.local_file(stat))  # verified; all processes share the pages of the mapped file
    return None


@once_per_commit(lambda root: [labels_of(0)])
def references(root: str) -> ElementalReferences:
    """The store's elemental references: fixed by its snapshot."""
    elements = entries_until(Store(root), 0, ["numbers", "energy_per_atom", "correction_per_atom", "scale"])
    energies = np.add(elements["energy_per_atom"].to_numpy(), elements["correction_per_atom"].to_numpy())
    return ElementalReferences.lowest(elements["numbers"], energies, elements["scale"][0].as_py())


@once_per_commit(lambda root, round_: [(round_, "emit")])
def proposals(root: str, round_: int) -> pa.Table:
    """The jobs of a round, sorted by id."""
    store = Store(root)
    return store.read_table(committed(store, round_, "emit"), "jobs", PROPOSAL_SCHEMA).sort_by("id").combine_chunks()


def emitted_jobs(store: Store, round_: int) -> frozenset[str]:
    """Ids of the jobs that rounds before `round_` emitted."""
    ids: set[str] = set()
    for earlier in range(1, round_):
        jobs = store.read_table(committed(store, earlier, "emit"), "jobs", PROPOSAL_SCHEMA, ["id"])
        ids.update(jobs["id"].to_pylist())
    return frozenset(ids)


def committed_statuses(store: Store, round_: int) -> dict[str, str]:
    """Job id -> newest status that rounds 1..round_ committed; later rounds take late results and repeats in."""
    statuses: dict[str, str] = {}
    for earlier in range(1, round_ + 1):
        results = store.read_table(committed(store, earlier, "evaluate"), "results", RESULT_SCHEMA, ["id", "status"])
        statuses |= dict(zip(results["id"].to_pylist(), results["status"].to_pylist(), strict=True))
    return statuses


def all_proposals(store: Store, round_: int, columns: list[str] | None = None) -> pa.Table:
    """The jobs of rounds 1..round_ (PROPOSAL_SCHEMA)."""
    tables = [
        store.read_table(committed(store, earlier, "emit"), "jobs", PROPOSAL_SCHEMA, columns)
        for earlier in range(1, round_ + 1)
    ]
    empty = PROPOSAL_SCHEMA.empty_table()
    return pa.concat_tables([empty if columns is None else empty.select(columns), *tables]).combine_chunks()


def newest_commit(store: Store, stage: str) -> Commit | None:
    """The last round's commit of a stage that has one."""
    commits = (store.commit(round_, stage) for round_ in reversed(store.rounds()))
    return next((commit for commit in commits if commit), None)
