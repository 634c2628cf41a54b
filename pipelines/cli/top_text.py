"""What `gnome top` prints: the discoveries, those that lower the hull most first."""

from __future__ import annotations

from rich.table import Table

from gnome_core.crystals.symmetry import space_group
from pipelines.cli.terminal import Terminal
from pipelines.reading.discoveries import StableCrystal, stable_crystals
from pipelines.reading.entries import measured_entries
from pipelines.report.summary import headline
from pipelines.store.store import Store

SHOWN = 20  # where nobody says how many
ID_LENGTH = 14  # characters of an id that tell it from the others, as "r0001-1a2b3c4d"


def print_top(store: Store, n: int | None) -> int:
    """Print the first n of a store's discoveries, and how many there are. Returns that number."""
    found = stable_crystals(store, measured_entries(store))
    console = Terminal(soft_wrap=True)
    console.print(str(headline(found)), style="bold")
    if not found:
        return 0
    n = n or SHOWN
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title, justify in (
        ("formula", "left"),
        ("space group", "left"),
        ("e_form\neV/atom", "right"),
        ("to the hull\nwithout it\nmeV/atom", "right"),
        ("to MP's\nhull\nmeV/atom", "right"),
        ("novelty", "left"),
        ("id", "left"),
    ):
        table.add_column(title, justify=justify, overflow="fold")
    for crystal in found[:n]:
        table.add_row(*_cells(crystal))
    console.print(table)
    if len(found) > n:
        console.print(f"and {len(found) - n} more; `gnome top {store.root} -n {len(found)}` shows all")
    return len(found)


def _cells(crystal: StableCrystal) -> list[str]:
    return [
        crystal.formula,
        str(space_group(crystal.crystal) or "-"),
        f"{crystal.e_form:.3f}",
        f"{1000 * crystal.e_above_hull:+.1f}",
        _to_mp_hull(crystal),
        crystal.novelty.level,
        crystal.id[:ID_LENGTH],
    ]


def _to_mp_hull(crystal: StableCrystal) -> str:
    if crystal.e_above_mp_hull is None:
        return "-"
    error = crystal.e_above_mp_hull_uncertainty
    return f"{1000 * crystal.e_above_mp_hull:+.0f}" + (f" ± {1000 * error:.0f}" if error is not None else "")
