"""Relax crystals on the embedded evaluator, and make gnome_core/data/snapshot.parquet of them:

    python tools/embedded_snapshot.py relax WORK CRYSTALS.parquet
    python tools/embedded_snapshot.py write WORK CRYSTALS.parquet

CRYSTALS: what tools/embedded_crystals.py wrote. WORK is a folder that keeps every batch as it finishes: `relax` goes on
where it was stopped, or from the snapshot as it is where the folder is new, and `write` takes what is there. Small
crystals come first, all of at most SMALL atoms; of larger ones a single point at the given structure comes before, and
those within NEAR of the hull then known are relaxed, those within CONTENDING before the others, the smallest first.

The snapshot holds the references of the elements (gnome_core/data/elements.parquet), and of the crystals each structure
once, its lowest, unless the relaxation failed or `gnome_core.stability.plausible` refuses where it led; of larger
crystals those within WITHIN of the hull. Such that wait to be relaxed are there as they were given, with the energy of
their single point, which is at least their relaxed one, and without a job. What is left out is counted.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dft.evaluators.make import make_evaluator
from dft.evaluators.potential import PotentialEvaluator
from dft.tables import job_digest, protocol_json
from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, ENTRY_SCHEMA, as_entries, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import elemental_entries
from gnome_core.crystals.writers import write_parquet, write_snapshot
from gnome_core.matching.clusters import cluster_structures, representatives
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.potential import CannotJudge
from gnome_core.potentials.relax import Relaxation, RelaxationFailure
from gnome_core.stability.corrections import Corrections
from gnome_core.stability.hull import Hull
from gnome_core.stability.plausible import implausible
from gnome_core.stability.references import ElementalReferences
from pipelines.beam.environment import take_allocator
from pipelines.evaluation.relaxing import shipped_references

FILE = Path(__file__).parents[1] / "gnome_core" / "data" / "snapshot.parquet"

SMALL = 24  # atoms up to which every crystal is relaxed
WITHIN = 0.1  # eV/atom above the hull up to which larger ones are kept
# Of structures that PBE has relaxed, few lie more than this lower once the evaluator has relaxed them.
CONTENDING = 0.03  # eV/atom: above the hull by a single point, and perhaps on it
NEAR = WITHIN + CONTENDING
BATCH_ATOMS = 10000  # some minutes on two cores; a few slow crystals hold the last steps of a batch up

OUTCOME_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,  # as it ended
        pa.field("energy_per_atom", pa.float64()),  # null where it failed
        pa.field("reason", pa.string(), nullable=False),  # "" or why it failed
        pa.field("job", pa.string()),  # null: not relaxed
    ]
)
POINT_SCHEMA = pa.schema([("id", pa.string()), ("energy_per_atom", pa.float64())])  # null: cannot be judged


def embedded() -> PotentialEvaluator:
    """The evaluator that `embedded` stands for."""
    made = make_evaluator("embedded", RelaxConfig())
    assert isinstance(made, PotentialEvaluator)
    return made


# Relaxing


def relax(work: Path, asked: pa.Table) -> None:
    evaluator = embedded()
    starts = dict(zip(asked["id"].to_pylist(), crystals_from_batch(asked), strict=True))
    take_shipped(work, evaluator, starts)
    small = [id_ for id_, crystal in starts.items() if crystal.n_sites <= SMALL]
    relax_batches(work, evaluator, starts, small, "small crystals")
    single_points(work, evaluator, starts, sorted(starts.keys() - set(small)))
    above = above_hull(work, starts, evaluator)
    for within in (CONTENDING, NEAR):
        near = [id_ for id_, distance in above.items() if distance <= within]
        relax_batches(work, evaluator, starts, near, f"larger crystals within {1000 * within:.0f} meV/atom of the hull")


def take_shipped(work: Path, evaluator: PotentialEvaluator, starts: dict[str, Crystal]) -> None:
    """What the snapshot has of these crystals by this evaluator, relaxed from the same starts, counts as relaxed."""
    folder = work / "relaxed"
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.parquet")):
        return
    protocol = protocol_json(evaluator.protocol)
    entries = pq.read_table(FILE)
    jobs = entries.select(["id", "job"]).to_pylist()
    same = [row["id"] in starts and row["job"] == job_digest(starts[row["id"]], protocol) for row in jobs]
    entries = entries.filter(pa.array(same, pa.bool_())).append_column("reason", pa.repeat("", sum(same)))
    write_parquet(entries.select(OUTCOME_SCHEMA.names).cast(OUTCOME_SCHEMA), folder / "shipped.parquet")


def relax_batches(
    work: Path, evaluator: PotentialEvaluator, starts: dict[str, Crystal], ids: Sequence[str], what: str
) -> None:
    protocol = protocol_json(evaluator.protocol)
    for part in waiting(work / "relaxed", starts, ids, what):
        chosen = [starts[id_] for id_ in part]
        outcomes = evaluator.evaluate(chosen)
        ends = [end.frames[-1].crystal if end.frames else start for end, start in zip(outcomes, chosen, strict=True)]
        batch = record_batch(
            OUTCOME_SCHEMA,
            part,
            ends,
            energy_per_atom=[end.energy_per_atom if isinstance(end, Relaxation) else None for end in outcomes],
            reason=[end.reason if isinstance(end, RelaxationFailure) else "" for end in outcomes],
            job=[job_digest(start, protocol) for start in chosen],
        )
        write_parquet(pa.Table.from_batches([batch]), work / "relaxed" / f"{part[0]}.parquet")


def single_points(work: Path, evaluator: PotentialEvaluator, starts: dict[str, Crystal], ids: Sequence[str]) -> None:
    for part in waiting(work / "points", starts, ids, "single points of larger crystals"):
        judged = [id_ for id_ in part if judges(evaluator, starts[id_])]
        answers = evaluator.potential.evaluate([starts[id_] for id_ in judged])
        energies = {id_: answer.energy / starts[id_].n_sites for id_, answer in zip(judged, answers, strict=True)}
        table = pa.table([part, [energies.get(id_) for id_ in part]], schema=POINT_SCHEMA)
        write_parquet(table, work / "points" / f"{part[0]}.parquet")


def judges(evaluator: PotentialEvaluator, crystal: Crystal) -> bool:
    try:
        evaluator.potential.check(crystal)
    except CannotJudge:
        return False
    return True


def waiting(folder: Path, starts: dict[str, Crystal], ids: Sequence[str], what: str) -> Iterator[list[str]]:
    """What the folder lacks, in batches, the smallest first; tells how far it is."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([OUTCOME_SCHEMA.field("id")])
    left = sorted(
        set(ids) - set(finished(folder, schema)["id"].to_pylist()), key=lambda id_: (starts[id_].n_sites, id_)
    )
    n_atoms = np.array([starts[id_].n_sites for id_ in left], int)
    began, begin = time.monotonic(), 0
    while begin < len(left):
        end = begin + max(1, int(np.searchsorted(n_atoms[begin:].cumsum(), BATCH_ATOMS, "right")))
        yield left[begin:end]
        begin, seconds = end, time.monotonic() - began
        minutes = seconds / 60 * (n_atoms.sum() / n_atoms[:end].sum() - 1)
        print(
            f"{what}: {len(ids) - len(left) + end} of {len(ids)}, up to {n_atoms[end - 1]} atoms, {seconds:.0f} s, "
            f"about {minutes:.0f} min left",
            flush=True,
        )


def finished(folder: Path, schema: pa.Schema) -> pa.Table:
    """All rows of a folder's batches."""
    parts = [pq.read_table(path, columns=schema.names) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables([schema.empty_table(), *(part.cast(schema) for part in parts)]).combine_chunks()


def above_hull(work: Path, starts: dict[str, Crystal], evaluator: PotentialEvaluator) -> dict[str, float]:
    """Larger crystals -> how far their single points lie above the hull of these and the small crystals, eV/atom."""
    points = finished(work / "points", POINT_SCHEMA)
    points = points.filter(points["energy_per_atom"].is_valid())
    ids = points["id"].to_pylist()
    scale, numbers = evaluator.scale, [starts[id_].numbers for id_ in ids]
    corrected = points["energy_per_atom"].to_numpy() + corrections(evaluator, [starts[id_] for id_ in ids]).per_atom
    e_form = references(scale).formation_energy_per_atom(numbers, corrected)
    small = finished(work / "relaxed", OUTCOME_SCHEMA)
    small = usable(small.filter(pa.array(sizes(small) <= SMALL)), evaluator, Counter())
    # Energies of broken structures would make a hull of their own.
    sane = np.array([implausible(starts[id_], e) is None for id_, e in zip(ids, e_form, strict=True)])
    hull = Hull.from_table(with_references(small, scale))
    known = set(small["id"].to_pylist())
    new = [row for row in np.flatnonzero(sane) if ids[row] not in known]
    counts = atom_counts(numbers)
    hull = hull.extended([ids[row] for row in new], counts[new], e_form[new], scale)
    above = hull.e_above_hull(counts, e_form)
    return {ids[row]: float(above[row]) for row in np.flatnonzero(sane)}


# The snapshot


def references(scale: str) -> ElementalReferences:
    found = shipped_references(scale)
    assert found is not None, scale
    return found


def corrections(evaluator: PotentialEvaluator, crystals: Sequence[Crystal]) -> Corrections:
    """Of relaxed crystals, NaN where there is none; zeros on scales without."""
    found = evaluator.corrections(crystals)
    return found or Corrections(np.zeros(len(crystals)), (None,) * len(crystals), "")


def sizes(table: pa.Table) -> np.ndarray:
    """(n,) atoms."""
    return pc.list_value_length(table["numbers"]).to_numpy()


def usable(outcomes: pa.Table, evaluator: PotentialEvaluator, left_out: Counter[str]) -> pa.Table:
    """The outcomes with their corrections and `e_form_per_atom`, less those that failed, have no correction or are
    implausible, and less elements below their reference: these are the same crystal, or extrapolations that
    tools/element_references.py has passed over."""
    left_out.update(reason for reason in outcomes["reason"].to_pylist() if reason)
    good = outcomes.filter(pc.equal(outcomes["reason"], ""))
    crystals = list(crystals_from_batch(good))
    added = corrections(evaluator, crystals)
    energies = good["energy_per_atom"].to_numpy() + added.per_atom
    e_form = references(evaluator.scale).formation_energy_per_atom(good["numbers"], energies)
    versions = pa.array([added.version or None] * len(good), pa.string())
    good = good.append_column("correction_per_atom", pa.array(added.per_atom))
    good = good.append_column("correction_version", versions).append_column("e_form_per_atom", pa.array(e_form))
    reasons = [
        "no_correction" if problem else implausible(crystal, e)
        for problem, crystal, e in zip(added.problems, crystals, e_form, strict=True)
    ]
    for row, (numbers, reason) in enumerate(zip(good["numbers"].to_pylist(), reasons, strict=True)):
        if reason is None and len(set(numbers)) == 1 and e_form[row] <= 0:
            reasons[row] = "not_above_reference"
            print(f"{good['id'][row]}: {e_form[row]:.4f} eV/atom", flush=True)
    left_out.update(reason for reason in reasons if reason)
    return good.filter(pa.array([reason is None for reason in reasons], pa.bool_()))


def of_ids(asked: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """The rows of what was asked for, in this order."""
    return asked.take(pc.index_in(ids, asked["id"].combine_chunks()))


def as_given(work: Path, asked: pa.Table, outcomes: pa.Table) -> pa.Table:
    """The crystals with a single point and no relaxation, as outcomes."""
    points = finished(work / "points", POINT_SCHEMA)
    unrelaxed = pc.invert(pc.is_in(points["id"], outcomes["id"]))
    points = points.filter(pc.and_(points["energy_per_atom"].is_valid(), unrelaxed))
    given = of_ids(asked, points["id"]).select([field.name for field in CRYSTAL_FIELDS])
    given = given.append_column("energy_per_atom", points["energy_per_atom"])
    given = given.append_column("reason", pa.repeat("", len(points))).append_column("job", pa.nulls(len(points)))
    return given.select(OUTCOME_SCHEMA.names).cast(OUTCOME_SCHEMA)


def as_entry_table(outcomes: pa.Table, asked: pa.Table, scale: str) -> pa.Table:
    """ENTRY_SCHEMA of usable outcomes, with the sources and labels of what was asked for."""
    numbers = outcomes["numbers"].to_pylist()
    given = of_ids(asked, outcomes["id"])
    batch = record_batch(
        ENTRY_SCHEMA,
        outcomes["id"],
        crystals_from_batch(outcomes),
        formula=[reduced_formula(row) for row in numbers],
        chemsys=[chemsys(row) for row in numbers],
        energy_per_atom=outcomes["energy_per_atom"],
        correction_per_atom=outcomes["correction_per_atom"],
        correction_version=outcomes["correction_version"],
        e_form_per_atom=outcomes["e_form_per_atom"],
        energy_kind="total",
        scale=scale,
        source=given["source"],
        reference_e_form_per_atom=given["e_form_per_atom"],
        round=0,
        job=outcomes["job"],
    )
    return pa.Table.from_batches([batch])


def with_references(outcomes: pa.Table, scale: str) -> pa.Table:
    """Their columns that a hull needs, and the elements'."""
    names = ["id", "numbers", "e_form_per_atom"]
    elements = as_entries(elemental_entries(scale)).select(names)
    others = outcomes.filter(pc.invert(pc.is_in(outcomes["id"], elements["id"].combine_chunks()))).select(names)
    table = pa.concat_tables([elements, others.cast(elements.schema)])
    return table.append_column("scale", pa.repeat(scale, len(table)))


def once_each(entries: pa.Table) -> pa.Table:
    """The lowest of each cluster of equal structures."""
    energies = entries["e_form_per_atom"].to_numpy()
    formulas = np.array(entries["formula"].to_pylist())
    order = np.argsort(formulas, kind="stable")
    kept = []
    for rows in np.split(order, np.flatnonzero(formulas[order][1:] != formulas[order][:-1]) + 1):
        if len(rows) > 1:
            labels = cluster_structures(crystals_from_batch(entries.take(pa.array(rows))), energies[rows])
            rows = rows[representatives(labels, energies[rows])]
        kept.extend(rows)
    return entries.take(pa.array(np.sort(kept)))


def write(work: Path, asked: pa.Table) -> None:
    evaluator, left_out = embedded(), Counter[str]()
    scale = evaluator.scale
    elements = as_entries(elemental_entries(scale))
    outcomes = finished(work / "relaxed", OUTCOME_SCHEMA)
    points = as_given(work, asked, outcomes)
    print(f"{len(outcomes)} of {len(asked)} crystals were relaxed, {len(points)} others have a single point")
    outcomes = pa.concat_tables([outcomes, points])
    left_out["reference"] = len(outcomes)
    outcomes = outcomes.filter(pc.invert(pc.is_in(outcomes["id"], elements["id"].combine_chunks())))
    left_out["reference"] -= len(outcomes)
    entries = pa.concat_tables([elements, as_entry_table(usable(outcomes, evaluator, left_out), asked, scale)])
    different = once_each(entries)
    left_out["duplicate"] = len(entries) - len(different)
    hull = Hull.from_table(different)
    near = (sizes(different) <= SMALL) | (hull.entry_e_above_hull() <= WITHIN)
    near |= pc.is_in(different["id"], elements["id"].combine_chunks()).to_numpy(zero_copy_only=False)
    left_out["large_and_unstable"] = int((~near).sum())
    entries = different.filter(pa.array(near))
    write_snapshot(entries, FILE)
    systems = entries["chemsys"].to_pylist()
    known = {symbol for system in systems for symbol in system.split("-")}
    print(f"left out: {dict(left_out)}")
    print(
        f"{len(entries)} crystals, {len(set(systems))} chemical systems, {len(known)} elements, "
        f"{int(Hull.from_table(entries).stable_mask().sum())} on the hull, {FILE.stat().st_size / 1e6:.1f} MB: {FILE}"
    )


if __name__ == "__main__":
    take_allocator()
    command, folder, crystals = sys.argv[1:]
    {"relax": relax, "write": write}[command](Path(folder), pq.read_table(crystals))
