"""Jobs, results and frames: the tables between whoever proposes crystals and whoever evaluates them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.crystals.crystal import Crystal, crystal_digest
from gnome_core.potentials.relax import Frame, Relaxation, RelaxationFailure

if TYPE_CHECKING:
    from dft.jobs.engine import Calculation
    from gnome_core.stability.corrections import Corrections

DONE = "done"


def _list_of(value_type: pa.DataType) -> pa.ListType:
    return pa.list_(pa.field("element", value_type))


JOB_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,  # the crystal to relax; id = job digest
        pa.field("formula", pa.string(), nullable=False),
        pa.field("chemsys", pa.string(), nullable=False),
        pa.field("evaluator", pa.string(), nullable=False),
        pa.field("protocol", pa.string(), nullable=False),  # JSON: every setting that decides the answer
    ],
    metadata={"schema": "gnome.job", "schema_version": "1", "unit.lattice": "angstrom"},
)

RESULT_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,  # the last geometry reached; id = job digest
        pa.field("status", pa.string(), nullable=False),  # "done", or the short name of the failure
        pa.field("message", pa.string(), nullable=False),
        pa.field("energy_per_atom", pa.float64()),  # total, on `scale`; null unless done
        pa.field("scale", pa.string(), nullable=False),
        pa.field("steps", pa.int32(), nullable=False),
        pa.field("magmoms", _list_of(pa.float64())),  # one an atom; null from potentials without
        # What first-principles engines know beyond that; null for potentials.
        pa.field("correction_per_atom", pa.float64()),  # to be added to the energy, on scales that have corrections
        pa.field("magnetization", pa.float64()),  # of the cell
        pa.field("band_gap", pa.float64()),
        pa.field("fixes", _list_of(pa.string())),  # what was changed on the way to make it converge
        pa.field("settings_changed", pa.bool_()),  # whether a fix changed what was computed
        pa.field("attempt", pa.int32()),
        pa.field("correction_version", pa.string()),  # scheme and code that computed the correction
    ],
    metadata={
        "schema": "gnome.result",
        "schema_version": "3",
        "unit.lattice": "angstrom",
        "unit.energy_per_atom": "eV/atom",
        "unit.magmoms": "bohr magneton",
        "unit.correction_per_atom": "eV/atom",
        "unit.magnetization": "bohr magneton",
        "unit.band_gap": "eV",
    },
)

FRAME_SCHEMA = pa.schema(
    [
        pa.field("job", pa.string(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        *CRYSTAL_FIELDS[1:],
        pa.field("energy", pa.float64(), nullable=False),  # of the cell
        pa.field("forces", _list_of(pa.float64()), nullable=False),  # 3n
        pa.field("stress", _list_of(pa.float64()), nullable=False),  # 9, tension positive
        pa.field("scale", pa.string(), nullable=False),
        pa.field("calculation", pa.string()),  # "relax1", "static", ...; null where there is only one
    ],
    metadata={
        "schema": "gnome.frame",
        "schema_version": "2",
        "unit.lattice": "angstrom",
        "unit.energy": "eV",
        "unit.forces": "eV/angstrom",
        "unit.stress": "eV/angstrom^3",
    },
)


def protocol_json(protocol: Mapping[str, object]) -> str:
    """The settings of an evaluation in one canonical string."""
    return json.dumps(protocol, sort_keys=True, separators=(",", ":"))


def job_digest(crystal: Crystal, protocol: str) -> str:
    """32 hex characters that name the evaluation of this crystal (to 1e-6) under this protocol, whoever asks for it."""
    return hashlib.blake2b(f"{crystal_digest(crystal)}|{protocol}".encode(), digest_size=16).hexdigest()


def result_batch(
    jobs: Sequence[str],
    starts: Sequence[Crystal],
    outcomes: Sequence[Relaxation | RelaxationFailure],
    scale: str,
    calculations: Sequence[Calculation] | None = None,
    correct: Callable[[Sequence[Crystal]], Corrections | None] | None = None,
) -> pa.RecordBatch:
    """One row of RESULT_SCHEMA a job. starts: the crystals the jobs gave, kept where a job made no frame at all.

    calculations: what a first-principles engine says beside the outcomes. correct: gives the corrections of relaxed
    crystals; one that it refuses has failed (no_correction).
    """
    known: dict[str, list] = {}
    if correct is not None:
        outcomes, known = _corrected(outcomes, correct)
    done = [outcome if isinstance(outcome, Relaxation) else None for outcome in outcomes]
    more = ("correction_per_atom", "magnetization", "band_gap", "settings_changed", "attempt", "correction_version")
    if calculations:
        known = {name: [getattr(c, name) for c in calculations] for name in more}
    return record_batch(
        RESULT_SCHEMA,
        jobs,
        [o.frames[-1].crystal if o.frames else start for start, o in zip(starts, outcomes, strict=True)],
        status=[o.reason if isinstance(o, RelaxationFailure) else DONE for o in outcomes],
        message=[o.message if isinstance(o, RelaxationFailure) else "" for o in outcomes],
        energy_per_atom=[relaxation and float(relaxation.energy_per_atom) for relaxation in done],
        steps=[len(outcome.frames) for outcome in outcomes],
        magmoms=[None if r is None or r.magmoms is None else np.asarray(r.magmoms, np.float64) for r in done],
        scale=scale,
        fixes=[list(c.fixes) for c in calculations] if calculations else None,
        **known,
    )


def _corrected(
    outcomes: Sequence[Relaxation | RelaxationFailure], correct: Callable[[Sequence[Crystal]], Corrections | None]
) -> tuple[list[Relaxation | RelaxationFailure], dict[str, list]]:
    """The outcomes, those without a correction as failures, and the columns of RESULT_SCHEMA about corrections."""
    outcomes = list(outcomes)
    done = [row for row, outcome in enumerate(outcomes) if isinstance(outcome, Relaxation)]
    found = correct([outcomes[row].frames[-1].crystal for row in done]) if done else None
    if found is None:
        return outcomes, {}
    per_atom, versions = [None] * len(outcomes), [None] * len(outcomes)
    for row, value, problem in zip(done, found.per_atom.tolist(), found.problems, strict=True):
        if problem is None:
            per_atom[row], versions[row] = value, found.version
        else:
            outcomes[row] = RelaxationFailure("no_correction", problem, outcomes[row].frames)
    return outcomes, {"correction_per_atom": per_atom, "correction_version": versions}


def frame_batch(
    jobs: Sequence[str],
    outcomes: Sequence[Relaxation | RelaxationFailure],
    scale: str,
    calculations: Sequence[Calculation] | None = None,
) -> pa.RecordBatch:
    """One row of FRAME_SCHEMA for every frame of every job.

    calculations: what a first-principles engine says beside the outcomes; a frame then has its own calculation's scale.
    """
    frames: list[tuple[str, Frame]] = [
        (job, frame) for job, outcome in zip(jobs, outcomes, strict=True) for frame in outcome.frames
    ]
    ids = [job for job, _ in frames]
    schema = pa.schema([CRYSTAL_FIELDS[0], *FRAME_SCHEMA], metadata=FRAME_SCHEMA.metadata)
    batch = record_batch(
        schema,
        ids,
        [frame.crystal for _, frame in frames],
        job=ids,
        step=[frame.step for _, frame in frames],
        energy=[float(frame.energy) for _, frame in frames],
        forces=[np.asarray(frame.forces, np.float64).ravel() for _, frame in frames],
        stress=[np.asarray(frame.stress, np.float64).ravel() for _, frame in frames],
        scale=scale if calculations is None else [name for c in calculations for name in c.scales],
        calculation=None if calculations is None else [name for c in calculations for name in c.calculations],
    )
    return batch.select(FRAME_SCHEMA.names).cast(FRAME_SCHEMA)
