"""What the terminal says of the potentials that rounds train."""

from __future__ import annotations

from collections.abc import Iterator

from dft.names import NEWEST
from pipelines.reading.potentials import potential_figures, trained_potentials
from pipelines.rounds.config import RoundConfig
from pipelines.store.records import Commit
from pipelines.store.store import Store


def potential_line(store: Store, train: Commit) -> str:
    """The errors of the potential that a train stage's round is named by, and what the committee flagged; empty where
    it trained none."""
    figures = potential_figures(store, train)
    if figures is None:
        return ""
    first, n = figures.members[0], len(figures.members)
    errors = "no frame validated"
    if first["energy_mae"] is not None:
        errors = f"{1e3 * first['energy_mae']:.1f} meV/atom, {1e3 * first['force_mae']:.0f} meV/Å"
        errors = f"{errors} on {first['n_val']} frames that validated"
    begun = "from nothing" if first["start"] == "scratch" else f"from {first['start']}"
    return f"  {n} potentials {begun}, {first['n_train']} frames: {errors}; {figures.flagged} frames flagged"


def planned(store: Store, round_: int, config: RoundConfig) -> Iterator[str]:
    """What a round with these settings will do about potentials."""
    found = trained_potentials(store, round_)
    if config.evaluation.pre_relax == NEWEST:
        if found is None:
            yield f"emit leaves candidates as proposed: {NEWEST} is none yet"
        else:
            yield f"emit relaxes candidates by {NEWEST}, of round {found.round}: {found.addresses[0]}"
    if config.training.potential:
        own = config.potential
        start = f"round {found.round}'s" if found else "pretrained"
        begun = "from nothing" if own.start == "scratch" else f"from {start}, or from nothing for elements it lacks"
        yield f"train also trains {own.members} potentials {begun}, on the frames of rounds 0 to {round_}"
