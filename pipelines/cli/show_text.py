"""What `gnome show` prints: an entry, or where all discoveries come from."""

from __future__ import annotations

from pipelines.cli.terminal import Terminal
from pipelines.reading.entries import measured_entries
from pipelines.reading.explained import explained
from pipelines.store.store import Store

MOST_POLYMORPHS = 8


def print_entry(store: Store, id_: str) -> None:
    """Print one entry's energies, what it decomposes into without it, and its ancestry."""
    entries = measured_entries(store)
    found = explained(store, entries, id_)
    row = found.row
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
    if row["p_stable"] is not None:
        console.print(
            f"chance to be on it {row['p_stable']:.0%}  (at or below MP's hull, given the evaluator's errors)"
        )
    source = row["novelty_source"]
    console.print(f"novelty            {row['novelty']}{f'  ({source})' if source else ''}")
    for step, (passed, why) in found.verdicts:
        answer = {True: "yes", False: "no", None: "not known"}[passed]
        console.print(f"{step.title:<18} {answer}{f'  ({why})' if why else ''}")
    stable = [f"{phase.atom_fraction:.3f} {phase.formula}" for phase in found.phases]
    console.print(f"stable phases here {' + '.join(stable)}  (by atoms)")
    if not row["on_hull"]:
        console.print(f"decomposes         {found.reaction}")
    elif found.reaction:
        depth = row["phase_separation_energy"]
        console.print(f"competes with      {found.reaction}  ({depth:+.4f} eV/atom)")
    for other in found.polymorphs[:MOST_POLYMORPHS]:
        higher = other["e_above_ground_state"] - row["e_above_ground_state"]
        console.print(f"polymorph          {other['id']}  {higher:+.4f} eV/atom")
    if (more := len(found.polymorphs) - MOST_POLYMORPHS) > 0:
        console.print(f"                   and {more} more")
    for step in found.chain:
        if step["round"] == 0:
            console.print(f"from {step['id']}  {step['formula']}  (snapshot)")
        else:
            console.print(f"made {step['id']}  {step['formula']}  by {found.made[step['job']]}")


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
