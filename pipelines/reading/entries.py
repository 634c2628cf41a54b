"""Entries of a store as a user sees them: one of them explained, or all of them written out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.generation.generators import installed_generators
from gnome_core.generation.recipe import Recipe
from gnome_core.stability.reactions import decomposition_reaction, equilibrium_reaction
from pipelines.errors import UserError
from pipelines.reading.committed import all_proposals, entries_until, hull_until
from pipelines.reading.schemas import HULL_SCHEMA
from pipelines.rounds.driver import newest_commit
from pipelines.store.store import Store

HULL_COLUMNS = ("e_above_hull_snapshot", "e_above_hull", "e_above_hull_others", "phase_separation_energy", "on_hull")
EXPORT_FORMATS = ("csv", "cif", "parquet")


def newest_hull(store: Store) -> tuple[pa.Table, int]:
    """(HULL_SCHEMA table of the newest hull, its round). Raises UserError before there is one."""
    commit = newest_commit(store, "hull")
    if commit is None:
        raise UserError(f"{store.root} has no hull yet; `gnome round resume {store.root}` makes it")
    return store.read_table(commit, "hull", HULL_SCHEMA), commit.round


def measured_entries(store: Store) -> pa.Table:
    """All entries of the newest hull, sorted by id: ENTRY_SCHEMA and the energy columns of HULL_SCHEMA."""
    hull, round_ = newest_hull(store)
    hull = hull.sort_by("id")
    entries = entries_until(store, round_).sort_by("id")
    for name in HULL_COLUMNS:
        entries = entries.append_column(name, hull[name])
    return entries


def new_on_hull(entries: pa.Table) -> pa.Table:
    """The rows that rounds found and that are on the newest hull."""
    return entries.filter(pc.and_(pc.greater(entries["round"], 0), entries["on_hull"]))


def export_entries(store: Store, output: Path, *, stable_only: bool, format: str) -> int:
    """Write the entries and return how many. Raises UserError for an unknown format."""
    from gnome_core.crystals.writers import write_cif, write_csv, write_parquet

    if format not in EXPORT_FORMATS:
        raise UserError(f"--format {format}: must be one of {', '.join(EXPORT_FORMATS)}")
    entries = measured_entries(store)
    if stable_only:
        entries = new_on_hull(entries)
    corrected = pc.add(entries["energy_per_atom"], entries["correction_per_atom"])
    entries = entries.append_column("corrected_energy_per_atom", corrected)
    entries = entries.append_column("reaction", pa.array(_reactions(store, entries), pa.string()))
    output.parent.mkdir(parents=True, exist_ok=True)
    {"csv": write_csv, "cif": write_cif, "parquet": write_parquet}[format](entries, output)
    return len(entries)


def _reactions(store: Store, entries: pa.Table) -> list[str]:
    """What each entry decomposes into, or, on the hull, competes with: "2 LiFeO2 -> Fe2O3 + Li2O"."""
    hull = hull_until(store.root, newest_hull(store)[1])
    rows = pc.index_in(entries["id"].combine_chunks(), hull.ids).to_pylist()
    return [
        equilibrium_reaction(hull, row) if on_hull else decomposition_reaction(hull, row)
        for row, on_hull in zip(rows, entries["on_hull"].to_pylist(), strict=True)
    ]


class Made(NamedTuple):
    """How a recipe made its crystal."""

    generator: str
    mapping: dict[str, str]  # old symbol -> new symbol; empty without a parent
    n_sites: int | None  # replaced; None = all of the mapped ions
    cell: str  # what was built where there was no parent

    def __str__(self) -> str:
        if self.cell:
            return f"{self.generator}: {self.cell}"
        swaps = ", ".join(f"{old} -> {new}" for old, new in self.mapping.items())
        return f"{self.generator}: {swaps} on {'all sites' if self.n_sites is None else f'{self.n_sites} sites'}"


def recipe_of_job(store: Store, round_: int, job: str) -> Made:
    """How the recipe behind a job that `round_` took in says that its crystal is made."""
    jobs = all_proposals(store, round_)
    row = jobs.slice(pc.index(jobs["id"], job).as_py(), 1).to_pylist()[0]
    recipe = Recipe(*(row[name] for name in Recipe._fields))
    names = {generator.code: name for name, generator in installed_generators().items()}
    mapping = {SYMBOLS[old]: SYMBOLS[new] for old, new in recipe.replacements.items()}
    n_sites = sum(byte.bit_count() for byte in recipe.sites) or None
    cell = ""
    if recipe.atoms:
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


def print_entry(store: Store, id_: str) -> None:
    """Print one entry's energies, what it decomposes into without it, and its ancestry."""
    from rich.console import Console

    entries = measured_entries(store)
    job = pa.array([(value or "").startswith(id_) for value in entries["job"].to_pylist()])
    found = entries.filter(pc.or_(pc.starts_with(entries["id"], id_), job))
    exact = found.filter(pc.equal(found["id"], id_))
    found = exact if len(exact) else found
    if len(found) != 1:
        what = f"{len(found)} entries start with" if len(found) else "no entry starts with"
        raise UserError(f"{what} {id_!r} in {store.root}; `gnome export` lists the ids")
    row = found.to_pylist()[0]
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{row['id']}[/]  {row['formula']}  {len(row['numbers'])} sites  round {row['round']}")
    console.print(f"formation energy   {row['e_form_per_atom']:+.4f} eV/atom on {row['scale']}")
    console.print(f"above the hull     {row['e_above_hull']:+.4f} eV/atom{'  (on it)' if row['on_hull'] else ''}")
    if row["e_above_hull_others"] is not None:
        console.print(f"against all others {row['e_above_hull_others']:+.4f} eV/atom")
    _, round_ = newest_hull(store)
    hull = hull_until(store.root, round_)
    position = pc.index(hull.ids, row["id"]).as_py()
    formulas = dict(zip(entries["id"].to_pylist(), entries["formula"].to_pylist(), strict=True))
    products = hull.decomposition(hull.compositions([position])[0])
    stable = [f"{p.atom_fraction:.3f} {formulas[hull.ids[p.entry].as_py()]}" for p in products]
    console.print(f"stable phases here {' + '.join(stable)}  (by atoms)")
    if not row["on_hull"]:
        console.print(f"decomposes         {decomposition_reaction(hull, position)}")
    elif against := equilibrium_reaction(hull, position):
        depth = row["phase_separation_energy"]
        console.print(f"competes with      {against}  ({depth:+.4f} eV/atom)")
    for step in ancestries(entries, [row["id"]])[0]:
        if step["round"] == 0:
            console.print(f"from {step['id']}  {step['formula']}  (snapshot)")
        else:
            made = recipe_of_job(store, step["round"], step["job"])
            console.print(f"made {step['id']}  {step['formula']}  by {made}")


def print_origins(store: Store) -> None:
    """Print how the new crystals on the hull came about: their generators, and the parents at their roots."""
    from rich.console import Console
    from rich.table import Table

    from pipelines.report.collect import stable_crystals
    from pipelines.report.summary import origins

    found = origins(stable_crystals(store, measured_entries(store)))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{found.n} new crystals on the hull; `gnome show {store.root} ID` explains one")
    if not found.n:
        return
    table = Table("made by", "last step", "any step since the root")
    for generator, through in found.through.items():
        last = found.last.get(generator, 0)
        table.add_row(generator, f"{last} ({last / found.n:.0%})", f"{through} ({through / found.n:.0%})")
    console.print(table)
    for root in found.roots[:20]:
        console.print(f"{root.discoveries:>4} from {root.id}  {root.formula}")
