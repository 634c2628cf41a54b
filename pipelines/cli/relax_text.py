"""What `gnome relax` and `gnome judge` read, print and write."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from dft.evaluators.evaluator import Evaluator
from dft.evaluators.make import make_evaluator
from dft.names import POTENTIALS, is_engine
from dft.tables import DONE
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.writers import write_cif, write_csv, write_extxyz, write_parquet
from gnome_core.ensembles.rows import read_rows
from gnome_core.ensembles.workflows import snapshot_hull
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.default import meant
from gnome_core.spreadsheets import write_csv as write_sheet
from gnome_core.stability.hull import Hull
from gnome_core.stability.published import compatible, published_hull
from pipelines.cli.json_text import print_json
from pipelines.cli.model_text import tell_left_out
from pipelines.cli.terminal import Terminal
from pipelines.errors import UserError
from pipelines.evaluation.judging import Judged
from pipelines.reading.committed import hull_vertices, newest_commit
from pipelines.store.store import Store


def evaluator_named(name: str, config: RelaxConfig, single_point: bool) -> Evaluator:
    """Raises UserError for one that is not there, or runs jobs in folders."""
    if is_engine(name):
        raise UserError(f"{name} runs jobs in folders; `gnome round` and `gnome dft` use it")
    potential = meant(name.removeprefix("potential:"))
    if single_point:
        name = f"label:{potential}"
    elif potential not in POTENTIALS and potential.endswith((".npz", ".nqx")):
        name = f"potential:{potential}"
    try:
        made = make_evaluator(name, config)
        assert made.scale  # reads a potential's files
    except ValueError as error:
        raise UserError(f"--evaluator {name}: {error}") from error
    return made


def hull_named(name: str, scale: str) -> Hull:
    """A store's newest hull, that of a file's labels, or the Materials Project's. Raises UserError for mixed scales."""
    if name == "mp":
        if not compatible(scale):
            raise UserError(f"--hull mp: energies on {scale} do not compare with the Materials Project's; name a STORE")
        return published_hull()
    if Path(name).is_file():
        return snapshot_hull(name)
    store = Store.open(name)
    newest = newest_commit(store, "hull")
    if newest is None:
        raise UserError(f"--hull {name}: the store has no hull yet; `gnome round resume {name}` goes on")
    found = hull_vertices(name, newest.round)
    if found.scale != scale:
        raise UserError(f"--hull {name}: its energies are on {found.scale}, those of the evaluator on {scale}")
    return found


def read_crystals(source: str) -> tuple[list[str], list[Crystal]]:
    """Ids and crystals; rows that are none are told on stderr. Raises UserError where nothing is left."""
    rows = read_rows(source, "structural")
    tell_left_out(rows)
    if not len(rows):
        raise UserError(f"{source}: no usable crystal among {rows.rejected.total()} rows")
    return rows.ids, list(rows.items)


def write_relaxed(table: pa.Table, path: Path) -> None:
    if path.suffix == ".parquet":
        write_parquet(table, path)
    elif path.suffix == ".csv":
        write_csv(table, path)
    elif path.suffix == ".cif":
        write_cif(table, path)
    else:
        write_extxyz(table, path)


def tell_failures(table: pa.Table, what: str = "not relaxed") -> None:
    counts = Counter(status for status in table["status"].to_pylist() if status != DONE)
    if counts:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()))
        Terminal(stderr=True).print(f"{what}: {reasons} (columns status and message say why)")


def figures(name: str, found: Judged) -> dict:
    """The verdict as plain numbers; energies in eV/atom."""
    verdict = found.verdict
    return {
        "judge": name,
        "crystals": verdict.n,
        "failed": found.failed,
        "unanswered": verdict.failed,
        "mae": verdict.errors.mae,
        "median": verdict.median,
        "rmse": verdict.errors.rmse,
        "bias": verdict.bias,
        "steps": found.steps,
        "cpu_seconds": found.cpu_seconds,
        "thresholds": {
            f"{threshold:g}": {
                "f1": metrics.f1,
                "precision": metrics.precision,
                "recall": metrics.recall,
                "daf": metrics.daf,
                "n": metrics.n,
            }
            for threshold, metrics in verdict.at.items()
        },
        "p_stable": found.reliability
        and {
            "offset": found.reliability.calibration.offset,
            "width": found.reliability.calibration.width,
            "reliability_error": found.reliability.error,
        },
        "margins": [{"below": m.below, "n": m.n, "stable": m.stable} for m in verdict.margins],
    }


def print_verdict(name: str, found: Judged, output: Path | None, as_json: bool) -> None:
    if output is not None:
        if output.suffix == ".parquet":
            pq.write_table(found.rows, output, compression="zstd")
        else:
            write_sheet(found.rows, output)
    row = figures(name, found)
    if as_json:
        print_json(row)
        return
    console, verdict = Terminal(), found.verdict
    answered = verdict.n - verdict.failed
    console.print(
        f"{name} on {verdict.n} crystals ({answered} answered): formation energies MAE {1e3 * row['mae']:.1f}, median "
        f"{1e3 * row['median']:.1f}, RMSE {1e3 * row['rmse']:.1f}, bias {1e3 * row['bias']:+.1f} meV/atom; "
        f"{found.cpu_seconds / max(verdict.n, 1):.2f} CPU s and {found.steps:.1f} steps a crystal"
    )
    table = Table("stable means", "F1", "precision", "recall", "DAF", "crystals")
    for threshold, metrics in verdict.at.items():
        values = (metrics.f1, metrics.precision, metrics.recall, metrics.daf)
        table.add_row(
            f"at most {1e3 * threshold:.0f} meV/atom above MP's hull", *(f"{v:.3f}" for v in values), str(metrics.n)
        )
    console.print(table)
    margins = Table("predicted at or below", "crystals", "truly stable")
    for margin in verdict.margins:
        margins.add_row(f"{-1e3 * margin.below:.0f} meV/atom", str(margin.n), f"{100 * margin.stable:.0f} %")
    console.print(margins)
    if chances := found.reliability:
        offset, width = 1e3 * chances.calibration.offset, 1e3 * chances.calibration.width
        console.print(
            f"chance to be stable: 1 / (1 + exp((distance {-offset:+.1f}) / {width:.1f} meV/atom)); on formulas that "
            f"the fit has not seen it errs by {100 * chances.error:.1f} % (mean over 10 bins)"
        )
    if found.failed:
        console.print("no answer: " + ", ".join(f"{reason} {n}" for reason, n in sorted(found.failed.items())))
