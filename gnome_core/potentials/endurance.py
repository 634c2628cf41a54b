"""Whether molecular dynamics with a potential keeps its energy, and lives through heat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.md import run_md
from gnome_core.potentials.md_config import MDConfig
from gnome_core.potentials.nequip_potential import TrainedPotential

# A picosecond that an exact integrator of conservative forces keeps the energy of, in steps that resolve vibrations.
CONSERVED = MDConfig(
    ensemble="nve", temperature=300, start_temperature=300, timestep=1, ramp=0, duration=1, min_length=6
)
# Far above where most crystals keep their shape: what is not finite, explodes or collapses there was never learnt.
HOT = MDConfig(temperature=2000, ramp=1, duration=4, min_length=6)


@dataclass(frozen=True)
class Endurance:
    """What two runs from one crystal say.

    n_atoms: of the supercell that was run. drift: meV/atom/ps, slope of the total energy without a thermostat.
    hot_time: ps that the hot run lasted, of hot_planned; stopped: why it ended early, or None.
    """

    n_atoms: int
    drift: float
    hot_time: float
    hot_planned: float
    stopped: str | None


def endurance(
    crystal: Crystal,
    potential: TrainedPotential,
    seed: int = 0,
    conserved: MDConfig = CONSERVED,
    hot: MDConfig = HOT,
) -> Endurance:
    """Run the crystal without a thermostat, then hot. The drift is NaN where the first run breaks off at once.

    Raises UnknownElement or IsolatedAtom.
    """
    still = run_md(crystal, potential, conserved, seed)
    per_atom = 1e3 * still.total_energies / still.crystal.n_sites
    known = np.isfinite(per_atom)
    drift = float(np.polyfit(still.times[known], per_atom[known], 1)[0]) if known.sum() > 1 else float("nan")
    heated = run_md(crystal, potential, hot, seed)
    planned = hot.n_steps * hot.timestep / 1000
    return Endurance(still.crystal.n_sites, drift, float(heated.times[-1]), planned, heated.stopped)
