"""Which energies potentials learn."""

import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.frames import LabelledFrames
from gnome_core.potentials.learnt import corrected
from gnome_core.stability import corrections
from gnome_core.stability.published import compatible
from tests.gnome_core.potentials.samples import COPPER, FCC

ROCKSALT_OXIDE = [[0, 0, 0], [0.5] * 3]
FEO, STRETCHED = (Crystal(a * FCC, ROCKSALT_OXIDE, [26, 8]) for a in (4.3, 4.5))


def frames(crystals, energies, groups, scale) -> LabelledFrames:
    n = len(crystals)
    forces = [np.zeros((crystal.n_sites, 3)) for crystal in crystals]
    stresses = np.full((n, 3, 3), np.nan)
    return LabelledFrames(crystals, np.array(energies), forces, stresses, np.ones(n, bool), np.array(groups), scale)


@pytest.mark.parametrize(
    ("scale", "learnt"),
    [("nequix-oam-1/mp2020", "nequix-oam-1+mp2020"), ("pbe+u/mp2020/vasp", "pbe+u+mp2020/vasp")],
    ids=str,
)
def test_corrections_are_learnt_with_the_energies(scale, learnt):
    given = frames([FEO, STRETCHED, COPPER], [-13.0, -12.5, -4.0], ["a", "a", "b"], scale)
    found = corrected(given)
    assert found.scale == learnt
    assert compatible(scale)
    assert compatible(learnt)
    # MP2020 (Wang et al. 2021): iron of oxides -2.256 eV, oxide -0.687 eV an atom; metals have none.
    np.testing.assert_allclose(found.energies - given.energies, [-2.943, -2.943, 0], atol=1e-3)
    assert corrected(found) is found
    assert found.groups.tolist() == given.groups.tolist()


def test_energies_without_corrections_stay_as_they_are():
    given = frames([FEO, COPPER], [-13.0, -4.0], ["a", "b"], "chgnet-0.3.0")
    assert corrected(given) is given


def test_frames_that_the_scheme_refuses_are_left_out(monkeypatch):
    def refuses(crystals):
        per_atom = np.array([np.nan if 26 in crystal.numbers else 0.0 for crystal in crystals])
        return corrections.Corrections(per_atom, ("no",) * len(crystals), "v")

    monkeypatch.setattr("gnome_core.potentials.learnt.mp2020_corrections", refuses)
    found = corrected(frames([FEO, COPPER], [-13.0, -4.0], ["a", "b"], "pbe+u/mp2020"))
    assert [crystal.numbers.tolist() for crystal in found.crystals] == [[29]]
    assert found.energies.tolist() == [-4.0]
