"""Crystals that a potential knows nothing of are refused by name, at the start of a relaxation and at its end."""

import numpy as np
import pytest

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.convert import to_atoms
from gnome_core.crystals.crystal import Crystal
from gnome_core.models import chgnet
from gnome_core.potentials.ase_calculator import PotentialCalculator
from gnome_core.potentials.committee import Committee
from gnome_core.potentials.errors import potential_errors
from gnome_core.potentials.frames import LabelledFrames
from gnome_core.potentials.potential import Evaluation, IsolatedAtom, UnknownElement
from gnome_core.potentials.relax import RelaxationFailure, relax
from tests.gnome_core.potentials.samples import COPPER, LONELY, ROCKSALT, published

UNTRAINED = ["Po", "At", "Rn", "Fr", "Ra"]


def cubic(symbol: str, a: float) -> Crystal:
    return Crystal(a * np.eye(3), [[0, 0, 0]], [NUMBERS[symbol]])


@pytest.mark.parametrize("symbol", UNTRAINED)
def test_elements_that_chgnet_never_saw_are_refused_by_name(symbol):
    salt = Crystal(ROCKSALT.lattice, ROCKSALT.frac_coords, [11, NUMBERS[symbol]])
    for crystal in (cubic(symbol, 3.4), salt):
        with pytest.raises(UnknownElement, match=rf"not trained on {symbol};"):
            published().evaluate([COPPER, crystal])
        failed, relaxed = relax([crystal, COPPER], published())
        assert (failed.reason, failed.frames) == ("unknown_element", [])
        assert relaxed.energy_per_atom < -4


def test_the_other_eighty_nine_are_known_and_the_weights_say_so():
    assert np.flatnonzero(chgnet.TRAINED["0.3.0"]).tolist() == [z for z in range(1, 95) if z not in range(84, 89)]
    length = np.linalg.norm(np.asarray(published().params.embedding), axis=1)
    # Training began with 64 numbers of unit variance and drove the embeddings of all that it saw away from there.
    assert length[83:88] == pytest.approx(8, abs=0.8)
    assert np.delete(length, range(83, 88)).min() > 10


@pytest.mark.parametrize(
    ("crystal", "named"),
    [
        (cubic("Si", 20.0), "atom 1 of 1, Si"),
        (Crystal(9.0 * (np.ones((3, 3)) / 2 - np.eye(3)), [[0, 0, 0]], [55]), "atom 1 of 1, Cs"),  # neighbours at 7.8 Å
        (Crystal(np.diag([4.0, 4.0, 24.0]), [[0, 0, 0], [0.5, 0.5, 0.08], [0.5, 0, 0.5]], [12, 8, 12]), None),
        (Crystal(np.diag([30.0, 8.0, 8.0]), [[0, 0, 0], [0.04, 0, 0], [0.5, 0, 0]], [7, 7, 36]), "atom 3 of 3, Kr"),
    ],
    ids=["vacuum", "stretched", "row", "third"],
)
def test_an_atom_out_of_sight_is_refused_by_name(crystal, named):
    if named is None:  # its own images are neighbours, 4 Å away
        published().check(crystal)
        return
    with pytest.raises(IsolatedAtom, match=rf"{named}, has no neighbour within 6 Å"):
        published().check(crystal)
    (failed,) = relax([crystal], published())
    assert isinstance(failed, RelaxationFailure)
    assert failed.reason == "isolated_atom"


def test_a_relaxation_that_ends_in_lone_atoms_has_not_converged():
    class Repelling:
        """Pushes the cell outward until atoms lose sight of each other, and then feels nothing."""

        scale = "repelling"

        def check(self, crystal):
            published().check(crystal)

        def evaluate(self, crystals):
            near = [c.lattice[0, 0] < 6.2 for c in crystals]
            return [Evaluation(float(n), np.zeros((1, 3)), -0.05 * n * np.eye(3), None) for n in near]

    failed, kept = relax([cubic("Ar", 5.0), cubic("Ar", 4.5)], Repelling())
    for outcome in (failed, kept):
        assert isinstance(outcome, RelaxationFailure)
        assert outcome.reason == "isolated_atom"
        assert len(outcome.frames) > 1
        assert outcome.frames[-1].crystal.lattice[0, 0] > 6.0


def test_all_that_asks_a_potential_hears_of_it():
    atoms = to_atoms(LONELY)
    atoms.calc = PotentialCalculator(published())
    with pytest.raises(IsolatedAtom, match="Ar"):
        atoms.get_potential_energy()
    with pytest.raises(UnknownElement, match="Fr"):
        Committee([published(), published()]).check(cubic("Fr", 5.0))
    frames = LabelledFrames(
        [cubic("Po", 3.4)], np.zeros(1), [np.zeros((1, 3))], np.zeros((1, 3, 3)), np.ones(1, bool), np.array(["a"]), "s"
    )
    with pytest.raises(UnknownElement, match="Po"):
        potential_errors(published(), frames)
