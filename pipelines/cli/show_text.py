"""What `gnome show` prints: an entry, or where all discoveries come from."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.credibility import certificate
from gnome_core.stability.reactions import decomposition_reaction, equilibrium_reaction
from pipelines.cli.terminal import Terminal
from pipelines.errors import UserError
from pipelines.reading.committed import hull_until
from pipelines.reading.entries import ancestries, measured_entries, newest_hull, recipes_of_jobs
from pipelines.store.store import Store


def print_entry(store: Store, id_: str) -> None:
    """Print one entry's energies, what it decomposes into without it, and its ancestry."""
    entries = measured_entries(store)
    job = pa.array([(value or "").startswith(id_) for value in entries["job"].to_pylist()])
    found = entries.filter(pc.or_(pc.starts_with(entries["id"], id_), job))
    exact = found.filter(pc.equal(found["id"], id_))
    found = exact if len(exact) else found
    if len(found) != 1:
        what = f"{len(found)} entries start with" if len(found) else "no entry starts with"
        raise UserError(f"{what} {id_!r} in {store.root}; `gnome export` lists the ids")
    row = found.to_pylist()[0]
    console = Terminal(soft_wrap=True)
    console.print(row["id"], style="bold", end="")
    console.print(f"  {row['formula']}  {len(row['numbers'])} sites  round {row['round']}")
    console.print(f"formation energy   {row['e_form_per_atom']:+.4f} eV/atom on {row['scale']}")
    console.print(f"above the hull     {row['e_above_hull']:+.4f} eV/atom{'  (on it)' if row['on_hull'] else ''}")
    if row["e_above_hull_others"] is not None:
        console.print(f"against all others {row['e_above_hull_others']:+.4f} eV/atom")
    if row["e_above_mp_hull"] is not None:
        error = row["e_above_mp_hull_uncertainty"]
        within = "" if error is None else f" ± {error:.3f}"
        console.print(f"above MP's hull    {row['e_above_mp_hull']:+.4f}{within} eV/atom  (as published)")
    source = row["novelty_source"]
    console.print(f"novelty            {row['novelty']}{f'  ({source})' if source else ''}")
    if row["round"] > 0 and row["on_hull"]:
        for step, (passed, why) in certificate(entries, row["id"]):
            answer = {True: "yes", False: "no", None: "not known"}[passed]
            console.print(f"{step.title:<18} {answer}{f'  ({why})' if why else ''}")
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
    chain = ancestries(entries, [row["id"]])[0]
    made = recipes_of_jobs(store, round_, (step["job"] for step in chain if step["round"] > 0))
    for step in chain:
        if step["round"] == 0:
            console.print(f"from {step['id']}  {step['formula']}  (snapshot)")
        else:
            console.print(f"made {step['id']}  {step['formula']}  by {made[step['job']]}")


def print_origins(store: Store) -> None:
    """Print how the new crystals on the hull came about: their generators, and the parents at their roots."""
    from rich.table import Table

    from pipelines.reading.discoveries import stable_crystals
    from pipelines.report.summary import headline, origins

    stable = stable_crystals(store, measured_entries(store))
    found = origins(stable)
    console = Terminal(soft_wrap=True)
    console.print(str(headline(stable)), style="bold", highlight=False)
    console.print(f"`gnome show {store.root} ID` explains one")
    if not found.n:
        return
    table = Table("made by", "last step", "any step since the root")
    for generator, through in found.through.items():
        last = found.last.get(generator, 0)
        table.add_row(generator, f"{last} ({last / found.n:.0%})", f"{through} ({through / found.n:.0%})")
    console.print(table)
    for root in found.roots[:20]:
        console.print(f"{root.discoveries:>4} from {root.id}  {root.formula}")
