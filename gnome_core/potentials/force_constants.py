"""Force constants of crystals by finite displacements in a supercell; symmetry and bookkeeping by phonopy.

Togo, Chaput, Tadano and Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023), doi:10.1088/1361-648X/acd831.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import symmetry_dataset
from gnome_core.errors import GnomeError
from gnome_core.models.elements import ATOMIC_MASSES
from gnome_core.potentials.potential import Potential

if TYPE_CHECKING:
    from phonopy import Phonopy

SYMPREC = 1e-3  # Å, of crystals whose sites are where the symmetry has them
DISPLACEMENT = 0.03  # Å: CHGNet's forces are not smooth below a hundredth
ATOMS_AT_ONCE = 512  # whose forces are asked for together: more take memory and no less time


class NoPhonons(GnomeError, ValueError):
    """Phonons that cannot be had. `reason` is the short name that results are counted by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class PhonopyMissing(GnomeError, ImportError):
    """The optional package is not installed."""


def require_phonopy() -> None:
    """Raises PhonopyMissing with the remedy."""
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # of cells that it standardises for itself
    try:
        import phonopy  # noqa: F401
    except ImportError as error:
        raise PhonopyMissing("phonopy is not installed; pip install 'gnome-flywheel[phonons]'") from error


def supercell_matrix(crystal: Crystal, length: float) -> np.ndarray:
    """(3, 3) integers, rows: the smallest supercell that keeps the crystal's symmetry and whose atoms are at least
    `length` Å from their images; of equally small ones the one with images furthest apart.

    Candidates are Hermite normal forms. Raises NoPhonons where the crystal has no symmetry that is found.
    """
    found = symmetry_dataset(crystal, SYMPREC)
    if found is None:
        raise NoPhonons("no_symmetry", f"no symmetry is found to {SYMPREC} Å: atoms overlap")
    rotations = np.unique(np.swapaxes(found.operations.rotations, 1, 2), axis=0)  # of rows of lattice vectors
    size = math.ceil(length**3 / math.sqrt(2) / crystal.volume - 1e-9)  # spheres cannot be packed closer
    while True:
        best, shortest = None, length
        for matrix in _kept(_hermite_forms(max(size, 1)), rotations):
            reduced, change = _niggli(matrix @ crystal.lattice)
            if (apart := float(np.linalg.norm(reduced, axis=1).min())) >= shortest:
                best, shortest = change.T @ matrix, apart + 1e-6
        if best is not None:
            return best
        size += 1


def _hermite_forms(size: int) -> np.ndarray:
    """(m, 3, 3) one matrix for every sublattice of index `size`."""
    return np.array([m for a in _divisors(size) for b in _divisors(size // a) for m in _forms(a, b, size // a // b)])


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _forms(a: int, b: int, c: int) -> Iterator[list[list[int]]]:
    for i in range(b):
        for j in range(c):
            for k in range(c):
                yield [[a, i, j], [0, b, k], [0, 0, c]]


def _kept(matrices: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Those whose lattice all rotations map onto itself."""
    for rotation in rotations:
        turned = matrices @ rotation @ np.linalg.inv(matrices)
        matrices = matrices[(np.abs(turned - np.round(turned)) < 1e-6).all((1, 2))]
    return matrices


def _niggli(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import moyopy

    reduced, change = moyopy.niggli_reduce(lattice.tolist())
    return np.array(reduced), np.array(change)


def harmonic(crystal: Crystal, potential: Potential, length: float) -> Phonopy:
    """phonopy's object with force constants (eV/Å^2) of a primitive cell in the supercell of `supercell_matrix`.

    Displacements both ways where symmetry does not make them one; atoms that are two `length`s apart move in the same
    evaluation, and every force is the answer to the nearest of them. Forces are differences from those of the resting
    crystal, which need not vanish. Raises PhonopyMissing, NoPhonons.
    """
    require_phonopy()
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        numbers=crystal.numbers,
        cell=crystal.lattice,
        scaled_positions=crystal.frac_coords,
        masses=ATOMIC_MASSES[crystal.numbers],  # phonopy knows no polonium, radon, plutonium ...
    )
    found = Phonopy(cell, supercell_matrix(crystal, length).T, primitive_matrix="P", symprec=SYMPREC)
    found.generate_displacements(distance=DISPLACEMENT)
    supercell = Crystal(found.supercell.cell, found.supercell.scaled_positions, found.supercell.numbers)
    atoms = np.array([int(atom) for atom, *_ in found.displacements])
    moves = np.array([move for _, *move in found.displacements])
    distances = _distances(supercell, atoms)
    groups = _apart(distances[:, atoms], 2 * length)
    at_rest = potential.evaluate([crystal])[0].forces[[found.supercell.u2u_map[i] for i in found.supercell.s2u_map]]
    forces = np.zeros((len(atoms), supercell.n_sites, 3))
    for group, moved in zip(groups, _forces(supercell, atoms, moves, groups, potential), strict=True):
        nearest = group[distances[group].argmin(axis=0)]
        forces[nearest, np.arange(supercell.n_sites)] = moved - at_rest
    if not np.isfinite(forces).all():
        raise NoPhonons("not_finite", "forces on displaced atoms are not finite")
    found.forces = forces
    found.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    found.symmetrize_force_constants(show_drift=False)
    return found


def _forces(
    supercell: Crystal, atoms: np.ndarray, moves: np.ndarray, groups: Sequence[np.ndarray], potential: Potential
) -> Iterator[np.ndarray]:
    """(n, 3) eV/Å after the displacements of each group."""
    inverse = np.linalg.inv(supercell.lattice)
    displaced = []
    for group in groups:
        coords = supercell.frac_coords.copy()
        coords[atoms[group]] += moves[group] @ inverse
        displaced.append(Crystal(supercell.lattice, coords, supercell.numbers))
    at_once = max(1, ATOMS_AT_ONCE // supercell.n_sites)
    for i in range(0, len(displaced), at_once):
        yield from (answer.forces for answer in potential.evaluate(displaced[i : i + at_once]))


def _distances(crystal: Crystal, atoms: np.ndarray) -> np.ndarray:
    """(a, n) Å from each of the atoms to the nearest image of every atom, in a cell of reduced lattice vectors."""
    between = crystal.frac_coords - crystal.frac_coords[atoms][:, None]
    between -= np.round(between)
    around = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    return np.min([np.linalg.norm((between + image) @ crystal.lattice, axis=-1) for image in around], axis=0)


def _apart(distances: np.ndarray, least: float) -> list[np.ndarray]:
    """Groups of indices that are `least` from each other; distances: (a, a)."""
    groups: list[list[int]] = []
    for i, own in enumerate(distances):
        home = next((group for group in groups if (own[group] >= least).all()), None)
        if home is None:
            groups.append(home := [])
        home.append(i)
    return [np.array(group) for group in groups]
