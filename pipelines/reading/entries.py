"""Entries of a store as a user sees them: one of them explained, or all of them written out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.generation.generators import installed_generators
from gnome_core.generation.given import CODE as FROM_FILE
from gnome_core.generation.recipe import Recipe
from pipelines.errors import UserError
from pipelines.reading.committed import all_proposals, entries_until, given_crystals, newest_commit, references
from pipelines.reading.confirmations import confirmed_columns
from pipelines.reading.gaps import computed_gaps
from pipelines.reading.known import novelties
from pipelines.reading.published import published_distances
from pipelines.reading.schemas import HULL_SCHEMA
from pipelines.store.store import Store

HULL_COLUMNS = ("e_above_hull_snapshot", "e_above_hull", "e_above_hull_others", "phase_separation_energy", "on_hull")


def newest_hull(store: Store) -> tuple[pa.Table, int]:
    """(HULL_SCHEMA table of the newest hull, its round). Raises UserError before there is one."""
    commit = newest_commit(store, "hull")
    if commit is None:
        raise UserError(f"{store.root} has no hull yet; `gnome round resume {store.root}` makes it")
    return store.read_table(commit, "hull", HULL_SCHEMA), commit.round


def measured_entries(store: Store) -> pa.Table:
    """All entries of the newest hull, sorted by id: ENTRY_SCHEMA, the energy columns of HULL_SCHEMA, and

    ground_state: id of the lowest entry of the composition; e_above_ground_state: eV/atom above it;
    novelty, novelty_source: strings, see `gnome_core.matching.novelty.Novelty`;
    e_above_mp_hull, e_above_mp_hull_uncertainty: eV/atom, of entries of rounds, see `PublishedDistances`; else null;
    p_stable: the chance of being truly at or below that hull, from a judge that is calibrated; else null;
    confirmed, confirmed_by, confirmed_why: what second judges say of discoveries, see `confirmed_columns`;
    band_gap (eV) and band_gap_by: of first-principles results, see `computed_gaps`.
    """
    hull, round_ = newest_hull(store)
    hull = hull.sort_by("id")
    entries = entries_until(store, round_).sort_by("id")
    beside = ground_states(entries) | _beside_others(store, entries) | confirmed_columns(store, entries["id"], round_)
    beside |= computed_gaps(store, entries, round_)
    for name, column in (*((name, hull[name]) for name in HULL_COLUMNS), *beside.items()):
        entries = entries.append_column(name, column)
    return entries


def ground_states(entries: pa.Table) -> dict[str, pa.Array]:
    """`ground_state` and `e_above_ground_state` of entries sorted by id; of equal energies the first is the lowest."""
    energies, formulas = entries["e_form_per_atom"].to_numpy(), np.array(entries["formula"].to_pylist(), object)
    _, composition = np.unique(formulas, return_inverse=True)
    order = np.lexsort((np.arange(len(entries)), energies, composition))
    _, first = np.unique(composition[order], return_index=True)
    lowest = order[first][composition]
    return {
        "ground_state": entries["id"].take(pa.array(lowest)).combine_chunks(),
        "e_above_ground_state": pa.array(energies - energies[lowest]),
    }


def _beside_others(store: Store, entries: pa.Table) -> dict[str, pa.Array]:
    """Columns that say what others know of the entries."""
    levels = novelties(store, entries)
    published = published_distances(entries, references(store.root))
    return {
        "novelty": pa.array([novelty.level for novelty in levels], pa.string()),
        "novelty_source": pa.array([novelty.source for novelty in levels], pa.string()),
        "e_above_mp_hull": pa.array(published.above, from_pandas=True),
        "e_above_mp_hull_uncertainty": pa.array(published.uncertainty, from_pandas=True),
        "p_stable": pa.array(published.stable, from_pandas=True),
    }


def named(entries: pa.Table, only: str) -> pa.Table:
    """Of entries those that are named, comma-separated: by formula, by id or its beginning. Raises UserError for a name
    that is none's, and for a beginning of several ids."""
    ids, formulas = entries["id"].to_pylist(), entries["formula"].to_pylist()
    wanted: set[str] = set()
    for name in (name.strip() for name in only.split(",")):
        own = {id_ for id_, formula in zip(ids, formulas, strict=True) if name in (id_, formula)}
        own = own or {id_ for id_ in ids if id_.startswith(name)}
        if not own:
            raise UserError(f"--only {name}: no such crystal among the {len(ids)} to choose from")
        if len(own) > 1 and name not in formulas:
            raise UserError(f"--only {name}: {len(own)} ids begin so: {', '.join(sorted(own)[:5])} ...")
        wanted |= own
    return entries.filter(pc.is_in(entries["id"], pa.array(sorted(wanted), pa.string())))


def new_on_hull(entries: pa.Table) -> pa.Table:
    """The rows that rounds found and that are on the newest hull."""
    return entries.filter(pc.and_(pc.greater(entries["round"], 0), entries["on_hull"]))


class Made(NamedTuple):
    """How a recipe made its crystal."""

    generator: str
    mapping: dict[str, str]  # old symbol -> new symbol; empty without a parent
    n_sites: int | None  # replaced; None = all of the mapped ions
    cell: str  # what was built where there was no parent, or the file and id of a crystal that was given

    def __str__(self) -> str:
        if self.cell:
            return f"{self.generator}: {self.cell}"
        swaps = ", ".join(f"{old} -> {new}" for old, new in self.mapping.items())
        return f"{self.generator}: {swaps} on {'all sites' if self.n_sites is None else f'{self.n_sites} sites'}"


def recipes_of_jobs(store: Store, round_: int, jobs: Iterable[str]) -> dict[str, Made]:
    """Job id -> how the recipe behind it says that its crystal is made, of jobs that rounds 1..round_ emitted."""
    ids = pa.array(list(dict.fromkeys(jobs)), pa.string())
    proposed = all_proposals(store, round_, ["id", *Recipe._fields])
    rows = proposed.take(pc.index_in(ids, proposed["id"].combine_chunks())).to_pylist()
    names = {generator.code: name for name, generator in installed_generators().items()}
    given = _given(store, round_) if any(row["generator"] == FROM_FILE for row in rows) else {}
    return {row["id"]: _made(Recipe(*(row[name] for name in Recipe._fields)), names, given) for row in rows}


def _given(store: Store, round_: int) -> dict[int, str]:
    """Key of every crystal that files gave rounds 1..round_ -> "FILE, ID"."""
    tables = [given_crystals(store, earlier).select(["key", "source", "id"]) for earlier in range(1, round_ + 1)]
    return {row["key"]: f"{row['source']}, {row['id']}" for row in pa.concat_tables(tables).to_pylist()}


def _made(recipe: Recipe, names: Mapping[int, str], given: Mapping[int, str]) -> Made:
    """names: generator's code -> name, of those that are installed. given: see `_given`."""
    mapping = {SYMBOLS[old]: SYMBOLS[new] for old, new in recipe.replacements.items()}
    n_sites = sum(byte.bit_count() for byte in recipe.sites) or None
    cell = ""
    if recipe.generator == FROM_FILE:
        cell = given[recipe.seed]
    elif recipe.atoms:
        atoms = "".join(f"{SYMBOLS[z]}{n}" for z, n in recipe.atoms.items())
        cell = f"{atoms}, space group {recipe.space_group}, {recipe.volume_factor:.2f} of the expected volume"
    return Made(names.get(recipe.generator, f"generator {recipe.generator}"), mapping, n_sites, cell)


def ancestries(entries: pa.Table, ids: Iterable[str]) -> list[list[dict]]:
    """For each id: the entry's row, its parent's, and so on to its root, which has no parent; structures left out."""
    columns = ["id", "formula", "chemsys", "round", "parent", "job", "e_form_per_atom"]
    rows = {row["id"]: row for row in entries.select(columns).to_pylist()}
    chains = []
    for id_ in ids:
        chain = [rows[id_]]
        while chain[-1]["parent"] is not None:
            chain.append(rows[chain[-1]["parent"]])
        chains.append(chain)
    return chains
