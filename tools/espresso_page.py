"""Write docs/espresso-round.md and its pictures from a store that a first-principles round made.

    python tools/espresso_page.py STORE docs/espresso-round.md [--machine TEXT]

The page of docs/ was written from the store of `make espresso-round`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.compute as pc

from dft.jobs.folders import JobFolders
from dft.tables import FRAME_SCHEMA, RESULT_SCHEMA
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from pipelines.reading.committed import proposals
from pipelines.reading.entries import measured_entries
from pipelines.report.collect import collect
from pipelines.report.hull_plots import lower_hull
from pipelines.report.summary import summarize
from pipelines.rounds.config import load_round_config
from pipelines.rounds.plan import stages_of
from pipelines.store.records import Commit
from pipelines.store.store import Store

OUTPUT_CPU = re.compile(r"PWSCF\s*:\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:([\d.]+)s)?\s*CPU")
KNOWN, NEW = "#6b7280", "#c2410c"


def cpu_seconds(folder: Path) -> float:
    """What all pw.x of an attempt's calculation say that they took."""
    import gzip

    total = 0.0
    for path in folder.glob("pw*.out.gz"):
        for hours, minutes, seconds in OUTPUT_CPU.findall(gzip.decompress(path.read_bytes()).decode(errors="replace")):
            total += 3600 * float(hours or 0) + 60 * float(minutes or 0) + float(seconds or 0)
    return total


def rows_of_jobs(store: Store) -> list[dict]:
    """One dictionary a job: references first, then candidates by distance to the hull they met."""
    name = load_round_config(store, 0).evaluation.evaluator
    folders = JobFolders(Path(store.root) / "jobs" / name)
    entries = {row["job"]: row for row in measured_entries(store).to_pylist() if row["job"]}
    proposed = {row["id"]: row for row in proposals(store.root, 1).to_pylist()}
    results = store.read_table(store.commit(1, "evaluate"), "results", RESULT_SCHEMA).to_pylist()
    results = {row["id"]: row for row in results}
    above = {row["id"]: row["e_above_hull"] for row in collect(store).jobs.to_pylist()}
    rows = []
    for id_ in folders.ids():
        folder, entry, result = folders[id_], entries.get(id_), results.get(id_)
        ending = folder.ending
        rows.append(
            {
                "id": id_,
                "kind": "candidate" if id_ in proposed else "reference",
                "formula": json.loads((folder.folder / "job.json").read_bytes())["formula"],
                "source": proposed[id_]["parent_id"] if id_ in proposed else (entry or {}).get("id", ""),
                "sites": len(entry["numbers"]) if entry else folder.job.crystal.n_sites,
                "state": ending.reason or (str(ending.state) if entry else "rejected"),
                "seconds": ending.seconds,
                "cpu": sum(cpu_seconds(folder.folder / path) for path in ending.steps.values()),
                "e_form": entry and entry["e_form_per_atom"],
                "above": above.get(id_),
                "predicted": proposed[id_]["median"] if id_ in proposed else None,
                "volume": crystal_of(entry).volume / len(entry["numbers"]) if entry else None,
                "gap": result and result["band_gap"],
                "steps": result and result["steps"],
                "fixes": (result and result["fixes"]) or [],
            }
        )
    return sorted(rows, key=lambda row: (row["kind"] == "candidate", row["above"] or 9, row["formula"]))


def crystal_of(entry: dict) -> Crystal:
    return Crystal(np.reshape(entry["lattice"], (3, 3)), np.reshape(entry["frac_coords"], (-1, 3)), entry["numbers"])


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}".replace("-", "−")


def rocksalt(store: Store, formula: str) -> tuple[float, float] | None:
    """(cubic lattice constant in Å, formation energy in eV/atom) of the lowest two-atom entry with 60° angles."""
    found = []
    for entry in measured_entries(store).to_pylist():
        lattice = np.reshape(entry["lattice"], (3, 3))
        lengths = np.linalg.norm(lattice, axis=1)
        cosines = [lattice[i] @ lattice[j] / lengths[i] / lengths[j] for i, j in ((0, 1), (0, 2), (1, 2))]
        if entry["formula"] == formula and len(entry["numbers"]) == 2 and np.allclose(cosines, 0.5, atol=1e-3):
            found.append((entry["e_form_per_atom"], float(np.mean(lengths) * np.sqrt(2))))
    return (min(found)[1], min(found)[0]) if found else None


def draw_hulls(store: Store, path: Path) -> list[str]:
    """Binary hulls before and after the round; the systems drawn."""
    entries = measured_entries(store)
    elements = sorted({s for system in entries["chemsys"].to_pylist() for s in system.split("-")})
    systems = [(a, b) for i, a in enumerate(elements) for b in elements[i + 1 :]]
    systems = [pair for pair in systems if f"{pair[0]}-{pair[1]}" in entries["chemsys"].to_pylist()]
    columns = 3
    figure, axes = plt.subplots(-(-len(systems) // columns), columns, figsize=(10, 3.2 * -(-len(systems) // columns)))
    for axis, (first, second) in zip(np.ravel(axes), systems, strict=False):
        rows = [r for r in entries.to_pylist() if set(r["chemsys"].split("-")) <= {first, second}]
        x = np.array([np.mean(np.array(r["numbers"]) == NUMBERS[second]) for r in rows])
        y = np.array([r["e_form_per_atom"] for r in rows])
        new = np.array([r["round"] > 0 for r in rows])
        for mask, style in ((~new, {"color": KNOWN, "ls": "--"}), (np.ones_like(new), {"color": NEW})):
            hull = lower_hull(np.stack([1 - x, x], axis=1)[mask], y[mask])
            at, order = np.unique(hull.edges[:, :, 1].ravel(), return_index=True)
            axis.plot(at, hull.edge_energies.ravel()[order], **style, lw=1.2)
        axis.plot(x[~new], y[~new], "o", color=KNOWN, ms=5)
        axis.plot(x[new], y[new], "D", color=NEW, ms=6)
        for xi, yi, row in zip(x, y, rows, strict=True):
            if row["e_above_hull"] < 1e-3 and 0 < xi < 1:
                axis.annotate(
                    row["formula"], (xi, yi), textcoords="offset points", xytext=(0, -11), ha="center", fontsize=8
                )
        axis.set_xlabel(f"atomic fraction of {second} in {first}-{second}", fontsize=8)
        axis.set_ylabel("formation energy (eV/atom)", fontsize=8)
        low = min(0.0, float(y.min()))
        axis.set_ylim(1.18 * low if low < 0 else -0.1, min(max(0.1, float(y.max()) * 1.1), 0.6))
        axis.tick_params(labelsize=8)
    for axis in np.ravel(axes)[len(systems) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return [f"{a}-{b}" for a, b in systems]


def draw_relaxations(store: Store, path: Path) -> None:
    """Energy and volume of every frame of every candidate, less those of its last one."""
    frames = store.read_table(store.commit(1, "evaluate"), "frames", FRAME_SCHEMA).sort_by(
        [("job", "ascending"), ("step", "ascending")]
    )
    formulas = {row["id"]: row["formula"] for row in proposals(store.root, 1).to_pylist()}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for color, job in enumerate(sorted(set(frames["job"].to_pylist()), key=lambda id_: formulas[id_])):
        own = frames.filter(pc.equal(frames["job"], job))
        crystals = crystals_from_batch(own)
        energy = np.array(own["energy"]) / crystals[-1].n_sites
        steps = np.arange(len(own))
        style = {"color": plt.get_cmap("tab20")(color % 20), "lw": 1, "marker": ".", "ms": 4, "label": formulas[job]}
        left.plot(steps, energy - energy[-1], **style)
        right.plot(steps, [c.volume / crystals[-1].volume for c in crystals], **style)
    left.set_yscale("symlog", linthresh=1e-3)
    left.set_ylabel("energy less the last one's (eV/atom)", fontsize=8)
    right.set_ylabel("volume over the last one's", fontsize=8)
    for axis in (left, right):
        axis.set_xlabel("ionic step of all three calculations", fontsize=8)
        axis.tick_params(labelsize=8)
    right.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_parity(rows: Sequence[dict], path: Path) -> None:
    """What the models said of each candidate against what was computed."""
    done = [row for row in rows if row["kind"] == "candidate" and row["e_form"] is not None]
    figure, axis = plt.subplots(figsize=(4.2, 4))
    x, y = [row["e_form"] for row in done], [row["predicted"] for row in done]
    ends = [min(x + y) - 0.2, max(x + y) + 0.2]
    axis.plot(ends, ends, "--", color=KNOWN, lw=1)
    axis.plot(x, y, "D", color=NEW, ms=6)
    for row in done:
        axis.annotate(
            row["formula"], (row["e_form"], row["predicted"]), textcoords="offset points", xytext=(5, 3), fontsize=7
        )
    axis.set_xlabel("computed formation energy (eV/atom)", fontsize=8)
    axis.set_ylabel("predicted before (eV/atom)", fontsize=8)
    axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


PAGE = """\
# A round by Quantum ESPRESSO: Mg, Ca, O, S

    make espresso-round

One round of the flywheel whose every energy was computed: {n_references} known crystals as references and
{n_candidates} candidates. This page was written by `tools/espresso_page.py` from the store that the command left;
`espresso-store/report.html` shows the same store in full.

{machine}

Settings (`examples/espresso.toml`): PBE, PseudoDojo 0.4 scalar-relativistic, {ecutwfc:g} Ry, Gaussian smearing of
{degauss:g} Ry, {density:g} k-points per 1/Å³ in the relaxations and {static_density:g} for the energy, {workers} jobs
at a time, one core each. Scale: `{scale}`, raw: no corrections.

{magnesia}Wall time of all stages: {wall:.1f} minutes; of the programs: {cpu:.1f} CPU minutes in {n_jobs} jobs,
{n_converged} of them converged. On or below the hull before the round: {model_hits} of {model_n} candidates that the
models chose, {random_hits} of {random_n} drawn at random.

![Binary hulls]({folder}/hulls.png)

Hulls of {systems}: known crystals and the hull before in grey, what the round found and the hull after in orange.

## Candidates

{candidates}

![Relaxations]({folder}/relaxations.png)

Every ionic step is kept with its energy, forces and stress: they train potentials. The last steps are the second
relaxation and the static calculation, with plane waves and k-points of their own, hence the small jumps.

![Predicted against computed]({folder}/parity.png)

Before this round the models had seen the {n_references} references and, by their shipped start, the embedded snapshot
on another energy scale.

## References

{references}

## Stages

{stages}

## What to make of it

Gaps are between bands on a coarse mesh and PBE's, so too small. Sulfur's reference is the S6 phase, not S8, whose cell
of 32 atoms would take longer than all the rest; oxygen's is the alpha phase without dispersion. The hull knows
{n_references} crystals: what lies below it here need not be stable against all that is known.
{mended}"""

MAGNESIA = """\
**MgO**, which the snapshot lacks, was proposed and computed: a = {a:.3f} Å ({a_error:+.1f} % of the 4.25 Å that the
same potentials give at denser meshes), formation energy {energy} eV/atom ({energy_error} eV/atom from the −2.67 found
there, against O₂ in a box).

"""


def page(store: Store, pictures: Path, machine: str) -> str:
    rows = rows_of_jobs(store)
    references = [row for row in rows if row["kind"] == "reference"]
    candidates = [row for row in rows if row["kind"] == "candidate"]
    systems = draw_hulls(store, pictures / "hulls.png")
    draw_relaxations(store, pictures / "relaxations.png")
    draw_parity(rows, pictures / "parity.png")
    config, data = load_round_config(store, 1), collect(store)
    commits = [commit for r in (0, 1) for stage in stages_of(r) if (commit := store.commit(r, stage))]
    summary, espresso = summarize(data)[0], config.dft.espresso
    magnesia, found = "", rocksalt(store, "MgO")
    if found:
        a, energy = found
        errors = {"a_error": 100 * (a / 4.25 - 1), "energy_error": number(energy + 2.67, 3)}
        magnesia = MAGNESIA.format(a=a, energy=number(energy, 3), **errors)
    fixed = [f"- {row['formula']}: {'; '.join(row['fixes'])}" for row in rows if row["fixes"]]
    return PAGE.format(
        machine=machine,
        folder=pictures.name,
        systems=", ".join(systems),
        magnesia=magnesia,
        scale=data.scale,
        ecutwfc=espresso.ecutwfc,
        degauss=espresso.degauss,
        density=espresso.reciprocal_density,
        static_density=espresso.static_reciprocal_density,
        workers=config.dft.workers,
        wall=sum(commit.seconds for commit in commits) / 60,
        cpu=sum(row["cpu"] for row in rows) / 60,
        n_jobs=len(rows),
        n_converged=sum(row["state"] != "failed" and row["e_form"] is not None for row in rows),
        n_references=len(references),
        n_candidates=len(candidates),
        model_hits=summary.model.hits,
        model_n=summary.model.n,
        random_hits=summary.random.hits,
        random_n=summary.random.n,
        candidates=table((*HEAD, *MORE), [(*line(row), *more(row)) for row in candidates]),
        references=table(HEAD, [line(row) for row in references]),
        stages=table(("stage", "in", "out", "rejected", "seconds"), [stage_row(commit) for commit in commits]),
        mended="\nMended on the way:\n\n" + "\n".join(fixed) + "\n" if fixed else "",
    )


HEAD = ("formula", "atoms", "from", "outcome", "e_form (eV/atom)", "volume (Å³/atom)", "wall (s)", "CPU (s)")
MORE = ("above the hull before (meV/atom)", "predicted (eV/atom)", "gap (eV)", "frames")


def line(row: dict) -> tuple:
    energy, volume = number(row["e_form"], 3), number(row["volume"], 2)
    times = f"{row['seconds']:.0f}", f"{row['cpu']:.0f}"
    return row["formula"], row["sites"], row["source"], row["state"], energy, volume, *times


def more(row: dict) -> tuple:
    above = None if row["above"] is None else 1000 * row["above"]
    return number(above, 0), number(row["predicted"], 2), number(row["gap"], 2), row["steps"] or ""


def stage_row(commit: Commit) -> tuple:
    counts = commit.counts
    rejected = ", ".join(f"{n} {reason}" for reason, n in counts.rejected.items())
    return commit.key, counts.n_in, counts.n_out, rejected, f"{commit.seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("page", type=Path)
    parser.add_argument("--machine", default="", help="a sentence about the machine it ran on")
    arguments = parser.parse_args()
    pictures = arguments.page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    arguments.page.write_text(page(Store.open(arguments.store), pictures, arguments.machine))


if __name__ == "__main__":
    main()
