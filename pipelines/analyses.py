"""Analyses of a store: what each of gnome_core.analysis is given. `reading.analyses` keeps what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.confirmation import name_of
from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.compositions.dense import MissingReference
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.crystals.readers import Entry, Rejected, read_snapshot
from gnome_core.crystals.sources.tables import read_table, texts
from gnome_core.crystals.sources.values import as_number
from gnome_core.crystals.split import Holdout
from gnome_core.stability.hull import Hull
from pipelines.errors import UserError
from pipelines.reading.analyses import StoredAnalysis, keep_analysis, kept_analyses, load_analyses, load_analysis
from pipelines.reading.committed import hull_until
from pipelines.reading.confirmations import confirmation_names
from pipelines.reading.entries import measured_entries, new_on_hull, newest_hull
from pipelines.reading.gaps import read_gaps, with_gaps
from pipelines.reading.schemas import HULL_SCHEMA, MEMBER_SCHEMA
from pipelines.store.store import Store

SHIPPED_CLASSIFIER = Path(str(resources.files("gnome_core.data") / "superionic.json"))

F = TypeVar("F", Path, str)


@dataclass(frozen=True)
class Options:
    """What some analyses need beside the store."""

    all_stable: bool = False  # the snapshot's stable crystals too, not only the rounds'
    gaps: Path | None = None  # table of band gaps that goes before others: id or formula, band_gap (eV)
    classifier: Path | None = None  # written by `gnome fit-superionic`; None: the one that is shipped
    cifs: Path | None = None  # folder of experimental CIF files
    since: int | None = None  # the year from which on they count as new
    results: Path | None = None  # r2SCAN entries; None: what `gnome confirm --by chgnet-r2scan` said
    against: str | None = None  # another store, or a table of entries
    without: tuple[str, ...] = ()  # steps of the certificate that are left out


class Inputs:
    """The tables of a store that analyses read, each loaded when first asked for."""

    def __init__(self, store: Store):
        self.store = store

    @cached_property
    def entries(self) -> pa.Table:
        return measured_entries(self.store)

    @cached_property
    def hulls(self) -> dict[int, pa.Table]:
        """Round -> its entries measured against its hull."""
        commits = {round_: self.store.commit(round_, "hull") for round_ in self.store.rounds()}
        return {r: self.store.read_table(commit, "hull", HULL_SCHEMA) for r, commit in commits.items() if commit}

    @cached_property
    def round(self) -> int:
        return newest_hull(self.store)[1]

    @cached_property
    def hull(self) -> Hull:
        return hull_until(self.store.root, self.round)

    @property
    def members(self) -> pa.Table:
        """MEMBER_SCHEMA and round of every trained member, of one framework: the structural one if there is any."""
        tables = []
        for round_ in self.store.rounds():
            if commit := self.store.commit(round_, "train"):
                rows = self.store.read_table(commit, "members", MEMBER_SCHEMA)
                tables.append(rows.append_column("round", pa.array([round_] * len(rows), pa.int32())))
        empty = pa.schema([*MEMBER_SCHEMA, pa.field("round", pa.int32())]).empty_table()
        members = pa.concat_tables([empty, *tables])
        structural = members.filter(pc.equal(members["framework"], "structural"))
        return structural if len(structural) else members


def _credibility(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.credibility import analyse

    return analyse(inputs.entries, options.without, track)


def _discovery(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.discovery import analyse
    from pipelines.reading.outcomes import evaluated_jobs

    return analyse(evaluated_jobs(inputs.store))


def _growth(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.growth import analyse

    return analyse(inputs.hulls)


def _displaced(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.displaced import analyse

    return analyse(inputs.hulls, inputs.hull)


def _phase_separation(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.phase_separation import analyse

    return analyse(inputs.hulls[0], inputs.hulls[inputs.round])


def _prototypes(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.prototypes import analyse

    return analyse(inputs.entries, track)


def _layered(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.layered import analyse

    return analyse(inputs.entries if options.all_stable else new_on_hull(inputs.entries), track)


def _li_conductors(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.li_conductors import analyse
    from gnome_core.analysis.superionic import SuperionicModel

    stable = inputs.entries.filter(inputs.entries["on_hull"])
    given = None if options.gaps is None else read_gaps(options.gaps)
    return analyse(
        with_gaps(stable, given),
        inputs.hull,
        classifier=SuperionicModel.load(options.classifier or SHIPPED_CLASSIFIER),
        new_only=not options.all_stable,
        track=track,
    )


def _li_mn_oxides(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.li_mn_oxides import analyse

    return analyse(inputs.entries, inputs.hulls[0])


def _scaling(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.scaling import analyse

    return analyse(inputs.members)


def _experimental(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.experimental import analyse

    entries = inputs.entries if options.all_stable else new_on_hull(inputs.entries)
    return analyse(entries, _given(options.cifs, "--cifs FOLDER"), track, since=options.since)


def _r2scan(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.r2scan import analyse

    entries = inputs.entries if options.all_stable else new_on_hull(inputs.entries)
    if options.results is None:
        analysis = analyse(entries, _by_potential(inputs))
        note = f"Energies of the potential {R2SCAN_JUDGE}, which learnt r2SCAN, and none of DFT."
        return replace(analysis, notes=(note, *analysis.notes))
    path = options.results
    results = _read_table(path, R2SCAN_COLUMNS)
    ids, energies = texts(results, "id"), [as_number(cell) for cell in results["e_form_per_atom"].to_pylist()]
    if None in ids or None in energies:
        row = next(row for row, pair in enumerate(zip(ids, energies, strict=True)) if None in pair)
        raise UserError(f"{path}, row {row}: every result needs an id and e_form_per_atom")
    for name, values in {"id": pa.array(ids, pa.string()), "e_form_per_atom": pa.array(energies, pa.float64())}.items():
        results = results.set_column(results.schema.get_field_index(name), name, values)
    return analyse(entries, results)


def _by_potential(inputs: Inputs) -> pa.Table:
    """R2SCAN_COLUMNS of what the potential that learnt r2SCAN said of the newest hull's discoveries, of their
    competitors and, at zero, of their elements. Raises UserError where it was not asked."""
    name = name_of(R2SCAN_JUDGE)
    stored = load_analysis(inputs.store, name) if name in kept_analyses(inputs.store) else None
    if stored is None or stored.round != inputs.round:
        raise UserError(
            f"{inputs.store.root} has no r2SCAN energies of the hull of round {inputs.round}; give --results FILE, or "
            f"`gnome confirm {inputs.store.root} --by {R2SCAN_JUDGE}` first, which computes them by a potential"
        )
    phases = stored.analysis.tables["phases"]
    phases = phases.filter(phases["e_form"].is_valid())
    rows = pc.index_in(phases["id"].combine_chunks(), inputs.entries["id"].combine_chunks())
    numbers = inputs.entries["numbers"].take(rows).to_pylist()
    elements = sorted({z for row in numbers for z in row})
    ids = [*phases["id"].to_pylist(), *(f"reference-{SYMBOLS[z]}" for z in elements)]
    energies = [*phases["e_form"].to_pylist(), *(0.0 for _ in elements)]
    numbers += [[z] for z in elements]
    columns = (ids, pa.array(numbers, pa.list_(pa.uint8())), energies, [R2SCAN_JUDGE] * len(ids))
    return pa.table(dict(zip(R2SCAN_COLUMNS, columns, strict=True)))


def _novelty(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.novelty import analyse

    entries = inputs.entries if options.all_stable else new_on_hull(inputs.entries)
    known, notes = _others(options)
    analysis = analyse(entries, known, track)
    return replace(analysis, notes=(*analysis.notes, *notes))


def _additions(inputs: Inputs, options: Options, track: Track) -> Analysis:
    from gnome_core.analysis.additions import analyse

    theirs, notes = _others(options)
    if "on_hull" in theirs.column_names:  # another store: what it calls stable
        theirs = theirs.filter(theirs["on_hull"])
    analysis = analyse(inputs.entries, inputs.hulls[0], theirs, track)
    return replace(analysis, notes=(*analysis.notes, *notes))


def _others(options: Options) -> tuple[pa.Table, list[str]]:
    """The crystals of --against: entries of another store, or those of a file; what must be said of them."""
    against = _given(options.against, "--against STORE_OR_TABLE")
    if against.startswith("gs://") or Path(against, "rounds").is_dir():
        return measured_entries(Store.open(against)), []
    items = list(read_snapshot(against))
    known = [item for item in items if isinstance(item, Entry)]
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), [item.id for item in known], [item.crystal for item in known])
    broken = [item.message for item in items if isinstance(item, Rejected)]
    left_out = f"{len(broken)} rows of {against} could not be read and were left out" if broken else ""
    return pa.Table.from_batches([batch]), [f"{left_out}; the first: {broken[0]}"] if broken else []


R2SCAN_JUDGE = "chgnet-r2scan"
R2SCAN_COLUMNS = ("id", "numbers", "e_form_per_atom", "scale")
# Those that need nothing but the store, and those that need a file beside it.
FROM_STORE: Mapping[str, Callable[[Inputs, Options, Track], Analysis]] = {
    "credibility": _credibility,
    "discovery": _discovery,
    "growth": _growth,
    "displaced": _displaced,
    "phase-separation": _phase_separation,
    "prototypes": _prototypes,
    "layered": _layered,
    "li-conductors": _li_conductors,
    "li-mn-oxides": _li_mn_oxides,
    "scaling": _scaling,
}
WITH_FILES = {"experimental": _experimental, "r2scan": _r2scan, "novelty": _novelty, "additions": _additions}
ANALYSES = {**FROM_STORE, **WITH_FILES}


def stored_analyses(store: Store) -> tuple[list[StoredAnalysis], list[str]]:
    """(those that the store holds, second opinions among them; what is wrong with those that are damaged)."""
    return load_analyses(store, [*ANALYSES, *confirmation_names(store)])


def run_analysis(inputs: Inputs, name: str, options: Options, track: Track = untracked) -> Analysis:
    """Run one analysis and keep its outcome in the store. Raises UserError for input that it cannot use."""
    try:
        analysis = ANALYSES[name](inputs, options, track)
    except (MissingReference, ValueError) as error:
        raise UserError(f"{name}: {error}") from error
    keep_analysis(inputs.store, analysis, inputs.round)
    return analysis


def fit_classifier(path: Path, output: Path, holdout: Holdout) -> list[str]:
    """Fit the superionic classifier to a table of measurements and write it; what to tell the user."""
    from gnome_core.analysis.superionic import COLUMNS, fit_superionic, read_measurements

    try:
        measured = read_measurements(_read_table(path, COLUMNS))
        model = fit_superionic(measured, path.name, holdout=holdout != "none")
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    model.save(output)
    training = model.training
    auc = ", ".join(f"{area} by {group}" for group, area in training["auc"].items())
    lines = [
        f"{training['conductors']} conductors, {training['superionic']} above {model.threshold_s_per_cm:g} S/cm; "
        f"left out: {', '.join(f'{n} {why}' for why, n in training['skipped'].items() if n) or 'none'}",
        f"area under the ROC curve with whole groups left out: {auc}",
    ]
    if "auc_withheld" in training:
        lines.append(f"{training['withheld']} conductors of withheld chemical systems: {training['auc_withheld']}")
    return [*lines, str(output)]


def _read_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """A .parquet or .csv file that has the columns. Raises UserError, SourceError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    table = read_table(path)
    if missing := [name for name in columns if name not in table.column_names]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}")
    return table


def _given(file: F | None, option: str) -> F:
    if file is None:
        raise UserError(f"this analysis needs {option}")
    return file
