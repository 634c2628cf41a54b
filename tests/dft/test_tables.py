"""Job digests, and the tables of results and frames."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dft.tables import FRAME_SCHEMA, RESULT_SCHEMA, frame_batch, job_digest, protocol_json, result_batch
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.relax import Frame, Relaxation, RelaxationFailure

START = Crystal(np.eye(3) * 4.0, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
LATER = START.scaled_to_volume(70.0)
FRAMES = [
    Frame(0, START, -6.0, np.arange(6.0).reshape(2, 3), np.arange(9.0).reshape(3, 3)),
    Frame(1, LATER, -6.5, -np.ones((2, 3)), np.eye(3)),
]
OUTCOMES = [
    Relaxation(FRAMES, np.array([0.1, 0.2], np.float32)),
    RelaxationFailure("not_converged", "largest force 0.2 eV/Å after 1 steps", FRAMES[:1]),
    RelaxationFailure("not_finite", "energy or forces are not finite at step 0", []),
]
JOBS = ["a" * 32, "b" * 32, "c" * 32]


def through_parquet(batch: pa.RecordBatch, path) -> pa.Table:
    pq.write_table(pa.Table.from_batches([batch]), path)
    return pq.read_table(path)


def test_digest_names_the_structure_under_the_protocol():
    protocol = protocol_json({"evaluator": "embedded", "fmax": 0.05})
    digest = job_digest(START, protocol)
    assert len(bytes.fromhex(digest)) == 16
    assert job_digest(Crystal(START.lattice.copy(), START.frac_coords + 1, START.numbers), protocol) == digest
    others = [
        job_digest(LATER, protocol),
        job_digest(Crystal(START.lattice, START.frac_coords, [11, 35]), protocol),
        job_digest(Crystal(START.lattice, START.frac_coords + [[0, 0, 0], [0.01, 0, 0]], START.numbers), protocol),
        job_digest(START, protocol_json({"evaluator": "embedded", "fmax": 0.04})),
    ]
    assert len({digest, *others}) == 5


def test_protocol_is_one_string_whatever_the_order_of_its_settings():
    a = protocol_json({"relax": {"fmax": 0.05, "max_steps": 3}, "evaluator": "x"})
    assert a == protocol_json({"evaluator": "x", "relax": {"max_steps": 3, "fmax": 0.05}})


def test_results_round_trip(tmp_path):
    table = through_parquet(result_batch(JOBS, [START] * 3, OUTCOMES, "chgnet-0.3.0"), tmp_path / "results.parquet")
    assert table.schema.equals(RESULT_SCHEMA, check_metadata=True)
    assert table["id"].to_pylist() == JOBS
    assert table["status"].to_pylist() == ["done", "not_converged", "not_finite"]
    assert table["message"].to_pylist() == ["", OUTCOMES[1].message, OUTCOMES[2].message]
    assert table["energy_per_atom"].to_pylist() == [-3.25, None, None]
    assert table["steps"].to_pylist() == [2, 1, 0]
    assert table["magmoms"].to_pylist() == [pytest.approx([0.1, 0.2]), None, None]
    assert set(table["scale"].to_pylist()) == {"chgnet-0.3.0"}
    for crystal, expected in zip(crystals_from_batch(table), [LATER, START, START], strict=True):
        np.testing.assert_array_equal(crystal.lattice, expected.lattice)
        np.testing.assert_array_equal(crystal.numbers, expected.numbers)


def test_frames_round_trip(tmp_path):
    table = through_parquet(frame_batch(JOBS, OUTCOMES, "chgnet-0.3.0"), tmp_path / "frames.parquet")
    assert table.schema.equals(FRAME_SCHEMA, check_metadata=True)
    assert table["job"].to_pylist() == [JOBS[0], JOBS[0], JOBS[1]]
    assert table["step"].to_pylist() == [0, 1, 0]
    assert table["energy"].to_pylist() == [-6.0, -6.5, -6.0]
    for row, frame in zip(table.to_pylist(), [*FRAMES, FRAMES[0]], strict=True):
        assert row["forces"] == list(frame.forces.ravel())
        assert row["stress"] == list(frame.stress.ravel())
        assert row["lattice"] == list(frame.crystal.lattice.ravel())


def test_jobs_that_all_failed_at_once_make_no_frames():
    batch = frame_batch(JOBS[2:], OUTCOMES[2:], "chgnet-0.3.0")
    assert batch.num_rows == 0
    assert batch.schema.equals(FRAME_SCHEMA, check_metadata=True)


def test_one_outcome_a_job():
    with pytest.raises(ValueError, match="zip"):
        result_batch(JOBS, [START] * 3, OUTCOMES[:2], "chgnet-0.3.0")
    with pytest.raises(ValueError, match="zip"):
        frame_batch(JOBS, OUTCOMES[:2], "chgnet-0.3.0")
