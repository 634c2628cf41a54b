"""What second judges say of a store's discoveries: the analyses that `gnome confirm` kept, beside each other."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.confirmation import ANSWERS, PREFIX, consensus, name_of
from pipelines.errors import StoreError
from pipelines.reading.analyses import kept_analyses, load_analysis
from pipelines.store.store import Store

log = logging.getLogger(__name__)


def confirmation_names(store: Store) -> list[str]:
    """Names of the analyses that `gnome confirm` kept."""
    return [name for name in kept_analyses(store) if name.startswith(PREFIX)]


def confirmations(store: Store, round_: int) -> dict[str, pa.Table]:
    """Judge -> what it says of each discovery of that round's hull (see `gnome_core.analysis.confirmation`)."""
    found = {}
    for name in confirmation_names(store):
        try:
            kept = load_analysis(store, name)
        except StoreError as error:  # reports name it
            log.warning("%s: the second opinion is left out", error)
            continue
        if kept.round == round_:
            found[str(kept.analysis.summary["judge"])] = kept.analysis.tables["crystals"]
    return found


def asked_before(store: Store, judge: str, round_: int) -> list[str]:
    """Ids of the discoveries of that round's hull that the judge was asked about."""
    table = confirmations(store, round_).get(judge) if name_of(judge) in confirmation_names(store) else None
    return [] if table is None else table["id"].to_pylist()


def beside_each_other(opinions: dict[str, pa.Table]) -> pa.Table:
    """One row a crystal that any judge was asked about: id, formula, confirmed (`consensus`), confirmed_by (the judges
    asked), confirmed_why, and of each judge "JUDGE confirmed", "JUDGE e_above_hull", "JUDGE e_form_shift" (eV/atom).
    """
    ids = list(dict.fromkeys(id_ for table in opinions.values() for id_ in table["id"].to_pylist()))
    by_judge = {judge: {row["id"]: row for row in table.to_pylist()} for judge, table in opinions.items()}
    answers = [{judge: rows[id_] for judge, rows in by_judge.items() if id_ in rows} for id_ in ids]
    columns = {
        "id": pa.array(ids, pa.string()),
        "formula": pa.array([next(iter(answer.values()))["formula"] for answer in answers], pa.string()),
        "confirmed": pa.array([consensus([row["confirmed"] for row in a.values()]) for a in answers], pa.bool_()),
        "confirmed_by": pa.array([", ".join(answer) for answer in answers], pa.string()),
        "confirmed_why": pa.array([_why(answer) for answer in answers], pa.string()),
    }
    for judge, rows in by_judge.items():
        for name, kind in (("confirmed", pa.bool_()), ("e_above_hull", pa.float64()), ("e_form_shift", pa.float64())):
            columns[f"{judge} {name}"] = pa.array([rows.get(id_, {}).get(name) for id_ in ids], kind)
    return pa.table(columns)


def disagreements(beside: pa.Table) -> list[str]:
    """Of each crystal of which one judge says yes and another no, who says what."""
    judges = [name.removesuffix(" confirmed") for name in beside.column_names if name.endswith(" confirmed")]
    rows = beside.to_pylist()
    split = [row for row in rows if {True, False} <= {row[f"{judge} confirmed"] for judge in judges}]
    return [f"{row['formula']} ({row['id']}): {row['confirmed_why']}" for row in split]


def confirmed_columns(store: Store, ids: pa.ChunkedArray, round_: int) -> dict[str, pa.Array]:
    """confirmed, confirmed_by and confirmed_why of entries with these ids; null where no judge was asked."""
    beside = beside_each_other(confirmations(store, round_))
    rows = pc.index_in(ids.combine_chunks(), beside["id"].combine_chunks())
    return {name: beside[name].combine_chunks().take(rows) for name in ("confirmed", "confirmed_by", "confirmed_why")}


def _why(answers: dict[str, dict]) -> str:
    return "; ".join(f"{judge} {ANSWERS[row['confirmed']]}, {row['why']}" for judge, row in answers.items())
