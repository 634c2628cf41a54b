"""The potentials that come with the package: their size, what they were made of, how near their teachers they are."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import elemental_entries, embedded_entries
from gnome_core.crystals.split import holds_withheld
from gnome_core.potentials.by_name import make_potential, shipped_path
from gnome_core.potentials.errors import potential_errors
from gnome_core.potentials.frames import frames_without_stress
from gnome_core.potentials.md import run_md
from gnome_core.potentials.md_config import MDConfig
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.potentials.sampling import distorted
from gnome_core.stability.published import ERRORS, compatible, published_references
from pipelines.evaluation.judging import labelled
from tests.gnome_core.potentials.samples import published


@pytest.fixture(scope="module")
def pretrained() -> TrainedPotential:
    return make_potential("pretrained")


def test_it_is_small_and_its_record_says_what_it_is(pretrained):
    path = Path(shipped_path("pretrained"))
    assert path.stat().st_size + path.with_suffix(".json").stat().st_size < 8e6
    assert pretrained.record.scale.startswith("chgnet-0.3.0")
    assert len(pretrained.record.config.elements) == 25


def test_it_is_near_its_teacher_on_crystals_distorted_as_never_before(pretrained):
    rng = np.random.default_rng(7)
    entries = embedded_entries({SYMBOLS[z] for z in pretrained.record.config.elements})
    # Crystals as it was trained on: small ones of systems that are not withheld.
    familiar = [
        crystal
        for system, crystal in zip(entries["chemsys"].to_pylist(), crystals_from_batch(entries), strict=True)
        if crystal.n_sites <= 16 and not holds_withheld(system)
    ]
    crystals = [distorted(familiar[i], rng, 0.2, 0.04) for i in rng.choice(len(familiar), 24, replace=False)]
    answers = published().evaluate(crystals)
    frames = frames_without_stress(
        crystals, np.array([a.energy for a in answers]), [a.forces for a in answers], published().scale
    )
    frames = frames.take(np.array([np.abs(f).max() < 20 for f in frames.forces]))
    errors = potential_errors(pretrained, frames)
    spread = np.concatenate([f.ravel() for f in frames.forces]).std()
    assert errors["force_rmse"] / 1000 < 0.5 * spread
    assert errors["energy_mae"] < 100


def test_its_dynamics_conserve_energy(pretrained):
    nve = MDConfig(ensemble="nve", start_temperature=600, timestep=1.0, ramp=0, duration=1.0, min_length=7.0)
    trajectory = run_md(crystal("MgS"), pretrained, nve, seed=0)
    assert trajectory.stopped is None
    drift = np.polyfit(trajectory.times, trajectory.total_energies, 1)[0] / trajectory.crystal.n_sites
    assert abs(drift) < 1e-3  # eV/atom/ps
    assert np.ptp(trajectory.energies) > 20 * np.ptp(trajectory.total_energies)


def crystal(formula: str) -> Crystal:
    """The stablest of a formula in the snapshot."""
    entries = embedded_entries(set(re.findall("[A-Z][a-z]?", formula)))
    entries = entries.filter(pc.equal(entries["formula"], formula)).sort_by("energy_per_atom")
    return crystals_from_batch(entries.slice(0, 1))[0]


def test_distilled_is_small_and_what_is_measured_of_it_is_of_this_file():
    path = Path(shipped_path("chgnet-distilled"))
    assert path.stat().st_size + path.with_suffix(".json").stat().st_size < 8e6
    scale = make_potential("chgnet-distilled").scale
    assert compatible(scale)
    assert scale in ERRORS
    assert scale in json.loads((path.parent / "judges.json").read_text())["scales"]
    assert len(elemental_entries(scale)) == 89


def test_distilled_sees_no_step_where_oxygen_comes_to_a_metal_with_a_hubbard_u():
    """One that had learnt raw energies had these half an eV/atom too low."""
    entries = embedded_entries(["La", "Nd", "Sm", "Mn", "Sb", "Mo", "Br", "W", "I", "O"])
    few = entries.filter(pc.is_in(entries["formula"], pa.array(["LaMnSbO", "NdMnSbO", "SmMnSbO", "MoBr3O", "WI3O"])))
    assert len(few) == 5
    crystals = crystals_from_batch(few)
    distilled = make_potential("chgnet-distilled")
    assert distilled.corrections(crystals) is None
    energies = np.array([a.energy / c.n_sites for a, c in zip(distilled.evaluate(crystals), crystals, strict=True)])
    found = published_references().formation_energy_per_atom(few["numbers"], energies)
    errors = found - few["reference_e_form_per_atom"].to_numpy()
    assert np.abs(errors).max() < 0.25
    assert abs(errors.mean()) < 0.1


def test_distilled_is_nearer_to_dft_than_chgnet_where_both_are_strangers():
    sample = labelled(None, 120)
    errors = {}
    for potential in (published(), make_potential("chgnet-distilled")):
        answers = potential.evaluate(sample.crystals)
        energies = np.array([a.energy / c.n_sites for a, c in zip(answers, sample.crystals, strict=True)])
        found = published_references().formation_energy_per_atom([c.numbers for c in sample.crystals], energies)
        errors[potential.scale] = np.nanmean(np.abs(found - sample.labels))
    chgnet, distilled = errors.values()
    assert distilled < 0.9 * chgnet < 0.1
