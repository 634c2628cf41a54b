"""Potentials: as ASE calculators, and relaxing crystals."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias, cast

from gnome_core.errors import GnomeError
from gnome_core.library.kinds import Crystals, Kind, One, give, is_a, take
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.constraints import Constraints, Symmetry
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure

    from gnome_core.potentials.potential import Potential
    from gnome_core.potentials.relax import Relaxation

PotentialLike: TypeAlias = "str | Potential | Calculator"
TOGETHER = 32  # crystals of like size that are relaxed at once


class NotRelaxed(GnomeError):
    """The one crystal that was to be relaxed could not be."""


def calculator(potential: str = "embedded") -> Calculator:
    """A potential as an ASE calculator: energy (eV), forces (eV/Å), stress (eV/Å^3) and, from CHGNet, magmoms.

    potential: "embedded" (chgnet-distilled), "chgnet", "chgnet-r2scan", "nequix-oam-1" and "nequix-oam-1-pft" (once
    `gnome potential get` has fetched them), "pretrained", "stillinger-weber" (silicon), FILE.npz or FILE.nqx.
    Raises UnknownPotential naming the choices, BadPotential for files that are not what they should be.
    """
    from gnome_core.potentials.ase_calculator import PotentialCalculator

    return PotentialCalculator(make_potential(potential))


def relax(
    crystals: Crystals,
    potential: PotentialLike = "embedded",
    *,
    fmax: float = 0.05,
    max_steps: int = 300,
    fixed_cell: bool = False,
    keep_symmetry: bool = False,
    pressure: float = 0.0,
) -> One | list[One | None]:
    """Relaxed crystals of the kind given, atoms and cell, many at once (L-BFGS): one for one, a list for a list.

    Atoms come with a SinglePointCalculator (energy in eV, forces in eV/Å, stress in eV/Å^3); Structures with
    `properties` energy_per_atom (eV/atom) and scale, the name of the energies' scale.

    potential: a name that `calculator` takes, a potential of this package, or any ASE calculator (one crystal after the
    other then). fmax: largest force at the end, eV/Å. max_steps: evaluations of a crystal, at most. fixed_cell: move
    the atoms only. keep_symmetry: of each crystal. pressure: GPa, from outside.

    What cannot be relaxed is None in a list, with a warning that counts the reasons. Raises NotRelaxed where it is the
    only crystal, and what `take` and `calculator` raise.
    """
    from gnome_core.potentials.memory import keep_freed_memory
    from gnome_core.potentials.relax import Relaxation
    from gnome_core.potentials.relax import relax as relax_batch

    keep_freed_memory()
    given, own = take(crystals), _potential(potential)
    config = RelaxConfig(fmax=fmax, max_steps=max_steps)
    order = sorted(range(len(given.crystals)), key=lambda row: given.crystals[row].n_sites)
    relaxed: list[One | None] = [None] * len(order)
    reasons: Counter[str] = Counter()
    for rows in (order[first : first + TOGETHER] for first in range(0, len(order), TOGETHER)):
        starts = [given.crystals[row] for row in rows]
        kept = [
            Constraints(
                not fixed_cell,
                pressure / EV_PER_CUBIC_ANGSTROM_IN_GPA,
                Symmetry.of(start) if keep_symmetry else None,
            )
            for start in starts
        ]
        for row, result in zip(rows, relax_batch(starts, own, config, constraints=kept), strict=True):
            if isinstance(result, Relaxation):
                relaxed[row] = _described(result, given.kinds[row], own.scale)
            elif given.one:
                raise NotRelaxed(f"{result.reason}: {result.message}")
            else:
                reasons[result.reason] += 1
    if reasons:
        said = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
        warnings.warn(f"{reasons.total()} of {len(order)} crystals not relaxed: {said}", stacklevel=2)
    return cast("One | list[One | None]", given.answer(relaxed))  # the one that is not relaxed was raised


def _potential(potential: PotentialLike) -> Potential:
    if isinstance(potential, str):
        return make_potential(potential)
    if is_a(potential, "ase.calculators.calculator", "BaseCalculator"):
        from gnome_core.potentials.ase_calculator import CalculatorPotential, PotentialCalculator

        if isinstance(potential, PotentialCalculator):  # ours answer for many crystals at once
            return potential.potential
        return CalculatorPotential(cast("Calculator", potential), type(potential).__name__)
    return cast("Potential", potential)


def _described(result: Relaxation, kind: Kind, scale: str) -> One:
    """The relaxed crystal with what the kind can hold of its energy."""
    relaxed = give(result.crystal, kind)
    if kind == "structure":
        cast("Structure", relaxed).properties = {"energy_per_atom": result.energy_per_atom, "scale": scale}
    elif kind == "atoms":
        from ase.calculators.singlepoint import SinglePointCalculator

        from gnome_core.potentials.ase_calculator import voigt

        last, atoms = result.frames[-1], cast("Atoms", relaxed)
        magmoms = {} if result.magmoms is None else {"magmoms": result.magmoms}
        atoms.calc = SinglePointCalculator(
            atoms, energy=last.energy, forces=last.forces, stress=voigt(last.stress), **magmoms
        )
    return relaxed
