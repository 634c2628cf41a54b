"""Potentials as ASE calculators, and ASE calculators as potentials. The only file of this room that imports ASE."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from ase.calculators.calculator import Calculator, CalculatorError, all_changes

from gnome_core.crystals.convert import from_atoms, to_atoms
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.potential import CannotJudge, Evaluation, Potential

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def voigt(stress: np.ndarray) -> np.ndarray:
    """(6,) of a stress (3, 3), in ASE's order: xx, yy, zz, yz, xz, xy."""
    return np.array([stress[i, j] for i, j in _VOIGT])


class PotentialCalculator(Calculator):
    """energy (eV), forces (eV/Å) and stress (eV/Å^3, Voigt) of periodic Atoms by any potential of this package, and
    magmoms (Bohr magnetons) by those that have them.

    Raises InvalidCrystal for Atoms that are not periodic in all directions, CannotJudge for those the potential knows
    nothing of.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "magmom", "magmoms"]  # noqa: RUF012  as ASE has it

    def __init__(self, potential: Potential, **options):
        super().__init__(**options)
        self.potential = potential

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        crystal = from_atoms(self.atoms)
        self.potential.check(crystal)
        (answer,) = self.potential.evaluate([crystal])
        self.results = {
            "energy": answer.energy,
            "free_energy": answer.energy,
            "forces": answer.forces,
            "stress": voigt(answer.stress),
        }
        if answer.magmoms is not None:
            self.results |= {"magmom": float(answer.magmoms.sum()), "magmoms": answer.magmoms}


class CalculatorFailed(CannotJudge):
    """A crystal that a calculator turns away, in its own words."""

    reason = "calculator_failed"


# What calculators raise about a crystal. What they raise about the machine (memory, a device) ends the command.
_TURNED_AWAY = (NotImplementedError, KeyError, ValueError, CalculatorError)


class CalculatorPotential:
    """Any ASE calculator as a potential, one crystal after the other. scale: what to call its energies."""

    def __init__(self, calculator: Calculator, scale: str):
        self.calculator, self.scale = calculator, scale
        self._answered = lru_cache(maxsize=1024)(self._answer)  # what is checked is asked for again

    def check(self, crystal: Crystal) -> None:
        """Raise CalculatorFailed for a crystal that the calculator turns away: only it knows which those are."""
        answer = self._answered(*_bytes(crystal))
        if isinstance(answer, CalculatorFailed):
            raise answer

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """One answer a crystal. A calculator without stress gives NaN there; one that turns a crystal away, to which a
        relaxation has led, gives NaN everywhere: that relaxation ends, and no other."""
        answers = ((self._answered(*_bytes(crystal)), crystal.n_sites) for crystal in crystals)
        return [_nothing(n) if isinstance(answer, CalculatorFailed) else answer for answer, n in answers]

    def _answer(self, lattice: bytes, frac_coords: bytes, numbers: bytes) -> Evaluation | CalculatorFailed:
        crystal = Crystal(np.frombuffer(lattice), np.frombuffer(frac_coords), np.frombuffer(numbers, np.uint8))
        try:
            return self._evaluate(crystal)
        except _TURNED_AWAY as error:
            return CalculatorFailed(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def _evaluate(self, crystal: Crystal) -> Evaluation:
        atoms = to_atoms(crystal)
        atoms.calc = self.calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        stress = np.full((3, 3), np.nan)
        if "stress" in self.calculator.implemented_properties:
            stress = atoms.get_stress(voigt=False)
        return Evaluation(float(energy), np.array(forces), np.array(stress), None)


def _bytes(crystal: Crystal) -> tuple[bytes, bytes, bytes]:
    return crystal.lattice.tobytes(), crystal.frac_coords.tobytes(), crystal.numbers.tobytes()


def _nothing(n_sites: int) -> Evaluation:
    return Evaluation(np.nan, np.full((n_sites, 3), np.nan), np.full((3, 3), np.nan), None)
