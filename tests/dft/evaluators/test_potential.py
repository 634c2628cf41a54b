"""Potentials as evaluators of a round, and the labeller."""

from pathlib import Path

import numpy as np
import pytest

from dft.evaluators.make import make_evaluator
from dft.tables import protocol_json, result_batch
from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.files import load_potential
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.potentials.relax import Relaxation, RelaxationFailure
from gnome_core.stability.corrections import mp2020_corrections, mp_hubbards
from gnome_core.stability.published import compatible
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from tests.gnome_core.potentials.pair_frames import pair_frames
from tests.gnome_core.potentials.samples import SKEWED

MODEL = NequIPConfig(layers=1, hidden_irreps="8x0e+4x1o", edge_irreps="0e+1o", cutoff=4.0, elements=(29, 47))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> str:
    frames = pair_frames(100)
    training = PotentialTrainingConfig(epochs=15, batch_size=8, learning_rate=2e-2)
    out = tmp_path_factory.mktemp("potential")
    return train_potential(
        frames, np.arange(100) < 90, seed=0, out_dir=out, model=MODEL, training=training
    ).path  # fmt: skip


def test_a_potential_relaxes_what_it_knows_and_refuses_the_rest_by_name(trained):
    evaluator = make_evaluator(f"potential:{trained}", RelaxConfig(fmax=0.1, max_steps=60))
    crystals = [pair_frames(1, seed=3).crystals[0], SKEWED, pair_frames(1, seed=4).crystals[0]]
    finished = []
    first, refused, second = evaluator.evaluate(crystals, finished.append)
    assert sum(finished) == 3
    assert isinstance(refused, RelaxationFailure)
    assert refused.reason == "unknown_element"
    assert "O, Ca, Ti" in refused.message
    for outcome in (first, second):
        assert isinstance(outcome, Relaxation)
        assert outcome.frames[-1].energy < outcome.frames[0].energy
    rows = result_batch(["a", "b", "c"], crystals, [first, refused, second], evaluator.scale).to_pylist()
    assert [row["status"] for row in rows] == ["done", "unknown_element", "done"]
    assert rows[0]["magmoms"] is None
    assert rows[0]["scale"].startswith("pair/nequip-")


def test_the_first_steps_of_a_relaxation_are_labels_whether_or_not_it_ends(trained):
    crystals = [pair_frames(1, seed=3).crystals[0], SKEWED]
    single = make_evaluator(f"label:{trained}", RelaxConfig())
    way = make_evaluator(f"steps:{trained}", RelaxConfig(fmax=1e-6, max_steps=4))
    (alone, refused), (steps, _) = single.evaluate(crystals), way.evaluate(crystals)
    assert isinstance(refused, RelaxationFailure)
    assert (len(alone.frames), len(steps.frames)) == (1, 4)
    assert steps.frames[0].energy == pytest.approx(alone.frames[0].energy)
    third = steps.frames[2]
    (label,) = single.evaluate([third.crystal])
    assert third.energy == pytest.approx(label.frames[0].energy, abs=1e-4)
    assert third.energy != pytest.approx(alone.frames[0].energy, abs=1e-3)
    assert protocol_json(single.protocol) != protocol_json(way.protocol)


def test_what_learnt_from_raw_energies_gets_the_corrections_that_those_get(trained):
    variables, record = load_potential(trained)
    raw = TrainedPotential(variables, record.model_copy(update={"scale": "nequix-oam-1/mp2020"}))
    found, expected = raw.corrections([SKEWED]), mp2020_corrections([SKEWED], [mp_hubbards(SKEWED.numbers)])
    assert found.per_atom.tolist() == expected.per_atom.tolist()
    assert found.per_atom[0] < -0.1  # an oxide's
    assert compatible(raw.scale)
    assert TrainedPotential(variables, record).corrections([SKEWED]) is None


def test_job_digests_follow_the_weights(trained, tmp_path):
    protocol = protocol_json(make_evaluator(f"potential:{trained}", RelaxConfig()).protocol)
    record = Path(trained).with_suffix(".json")
    with np.load(trained) as file:
        arrays = dict(file)
    arrays["params/frequencies"] = arrays["params/frequencies"] + 1e-3
    other = tmp_path / "other.npz"
    np.savez(other, **arrays)
    other.with_suffix(".json").write_text(record.read_text())
    assert protocol_json(make_evaluator(f"potential:{other}", RelaxConfig()).protocol) != protocol
    moved = tmp_path / "moved.npz"
    moved.write_bytes(Path(trained).read_bytes())
    moved.with_suffix(".json").write_text(record.read_text())
    assert protocol_json(make_evaluator(f"potential:{moved}", RelaxConfig()).protocol) == protocol


def test_a_labeller_gives_one_frame_of_the_crystal_as_it_is(trained):
    labeller = make_evaluator(f"label:{trained}", RelaxConfig())
    crystal = pair_frames(1, seed=3).crystals[0]
    (outcome,) = labeller.evaluate([crystal])
    assert isinstance(outcome, Relaxation)
    assert len(outcome.frames) == 1
    assert outcome.crystal is crystal
    assert labeller.protocol != make_evaluator(f"potential:{trained}", RelaxConfig()).protocol


@pytest.mark.parametrize("name", ["gpaw", "potential:", "potential", "ase:"])
def test_unknown_evaluators_are_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=r"there is: embedded, .*, espresso, vasp, potential:FILE.npz"):
        make_evaluator(name, RelaxConfig())


def test_the_scale_follows_the_shifts_as_it_does_the_weights(trained, tmp_path):
    """Other shifts are other energies, which must not come into one hull with the first."""
    import json

    from gnome_core.potentials.nequip_potential import TrainedPotential

    first = TrainedPotential.load(trained)
    record = json.loads(Path(trained).with_suffix(".json").read_text())
    other = tmp_path / "other.npz"
    other.write_bytes(Path(trained).read_bytes())
    for change, same in (
        ({"origin": "elsewhere"}, True),
        ({"shifts": {z: s + 0.5 for z, s in record["shifts"].items()}}, False),
    ):
        other.with_suffix(".json").write_text(json.dumps({**record, **change}))
        assert (TrainedPotential.load(other).scale == first.scale) == same
    assert first.scale.startswith(f"{first.record.scale}/nequip-2-")
