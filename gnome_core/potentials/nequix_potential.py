"""Published Nequix potentials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnome_core.crystals.crystal import Crystal
from gnome_core.models.nequix import Nequix, tabulated
from gnome_core.potentials.edge_potential import EdgePotential
from gnome_core.potentials.nequix_files import read_nequix
from gnome_core.stability.corrections import Corrections, mp2020_corrections


class NequixPotential(EdgePotential):
    """A .nqx file. Its energies are raw PBE(+U) with the Materials Project's settings, to which MP2020 corrections are
    added where energies of different crystals meet."""

    @classmethod
    def load(cls, path: str | Path, name: str) -> NequixPotential:
        """name: of the scale. Raises BadPotential."""
        variables, config, shifts = read_nequix(path)
        network = Nequix(config, tables=True)
        scale = f"{name}/mp2020"
        return cls(network, tabulated(config, variables), shifts, config.cutoff, scale)

    def corrections(self, crystals: Sequence[Crystal]) -> Corrections:
        """What is to be added to the energies of relaxed crystals."""
        return mp2020_corrections(crystals)
