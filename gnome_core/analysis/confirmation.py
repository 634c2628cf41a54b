"""A second judge's opinion of discoveries: each on a hull of that judge's own energies of it and of its competitors.

Energies of two judges never meet on one hull: an error that a judge makes about all compounds of a system leaves its
hull as it is, and would move a lone crystal on another's (Bartel et al., npj Comput. Mater. 6, 97, 2020).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.result import Analysis
from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.matching.novelty import NEW
from gnome_core.stability.hull import ON_HULL, Hull
from gnome_core.stability.published import as_published, compatible, published_hull
from gnome_core.stability.reactions import decomposition_reaction
from gnome_core.stability.references import ElementalReferences
from gnome_core.stability.targeted import in_systems

PREFIX = "confirm-"  # of the names of these analyses
DONE = "done"
CONFIRMED = "confirmed"
ANSWERS = {True: "yes", False: "no", None: "no answer"}  # confirmed, in words
UNNAMED = re.compile(r"[^\w.+-]+")  # what is no part of a file's name
HOW_TO_READ = (
    "Confirmed: at or below the hull of the competing phases, all evaluated by this judge and measured from its own "
    "elements. A shift is this judge's figure minus the first evaluator's."
)


@dataclass(frozen=True)
class Opinion:
    """What a judge says of n entries.

    energies: (n,) eV/atom with corrections, on the references' scale, NaN where there is none; status: n strings, DONE
    or the short name of the failure; message: n strings.
    """

    judge: str
    references: ElementalReferences
    energies: np.ndarray
    status: Sequence[str]
    message: Sequence[str]


def name_of(judge: str) -> str:
    """The name of a judge's analysis."""
    return PREFIX + UNNAMED.sub("_", judge)


def analyse(entries: pa.Table, chosen: np.ndarray, decisive: np.ndarray, opinion: Opinion) -> Analysis:
    """The opinion of the entries that were chosen, the others being their competitors.

    entries: the n entries that were judged: id, numbers, formula, chemsys, round, novelty, and, of the first evaluator,
    e_form_per_atom and e_above_hull_others (eV/atom). chosen: (m,) rows. decisive: (n,) bool, those that the first
    evaluator has on the hull, with the chosen or without them.

    A crystal of which a decisive competitor has no energy is refuted where it is above the others, and not known to be
    stable where it is not. One of an element without reference has no energy.
    """
    counts = atom_counts(entries["numbers"])
    opinion = _with_references(opinion, counts)
    known = np.flatnonzero(np.isfinite(opinion.energies))
    e_form = np.full(len(entries), np.nan)
    e_form[known] = _formation_energies(opinion.references, entries, opinion.energies, known)
    hull, position = _hull(entries["id"].to_pylist(), counts, e_form, known, opinion.references.scale)
    above = np.full(len(entries), np.nan)
    above[known] = hull.entry_e_above_others()[: len(known)]
    published = _published(entries, counts, opinion)
    missing = np.flatnonzero(~np.isfinite(e_form) & decisive)
    beside = in_systems(counts, chosen)
    confirmed: list[bool | None] = []
    why: list[str | None] = []
    for column, row in enumerate(chosen):
        lacking = [entries["formula"][other].as_py() for other in missing if beside[other, column] and other != row]
        verdict, reason = _verdict(opinion, row, above[row], hull, position.get(row), lacking)
        confirmed.append(verdict)
        why.append(reason)
    first = {name: entries[name].to_numpy()[chosen] for name in ("e_form_per_atom", "e_above_hull_others")}
    table = pa.table(
        {
            **{name: entries[name].take(pa.array(chosen)) for name in ("id", "formula", "chemsys", "round", "novelty")},
            "e_form": _column(e_form[chosen]),
            "e_above_hull": _column(above[chosen]),
            "e_above_mp_hull": _column(published[chosen]),
            "e_form_shift": _column(e_form[chosen] - first["e_form_per_atom"]),
            "e_above_hull_shift": _column(above[chosen] - first["e_above_hull_others"]),
            "confirmed": pa.array(confirmed, pa.bool_()),
            "why": pa.array(why, pa.string()),
            "competitors": pa.array(beside.sum(axis=0) - 1, pa.int32()),
        }
    ).sort_by([("e_above_hull", "ascending"), ("id", "ascending")])
    return Analysis(
        name_of(opinion.judge),
        f"Second opinion: {opinion.judge}",
        {"crystals": table, "phases": _phases(entries, e_form, opinion)},
        _summary(table, opinion.judge),
        (HOW_TO_READ,),
    )


def _verdict(
    opinion: Opinion, row: int, above: float, hull: Hull, position: int | None, lacking: Sequence[str]
) -> tuple[bool | None, str]:
    if position is None:
        message = opinion.message[row]
        return None, f"{opinion.status[row]}{f': {message}' if message else ''}"
    if above > ON_HULL:
        return False, f"{above:+.3f} eV/atom: {decomposition_reaction(hull, position)}"
    if lacking:
        return None, f"{above:+.3f} eV/atom, without an energy of {', '.join(sorted(lacking))}"
    return True, f"{above:+.3f} eV/atom"


def _hull(
    ids: Sequence[str], counts: np.ndarray, e_form: np.ndarray, known: np.ndarray, scale: str
) -> tuple[Hull, dict[int, int]]:
    """The hull of the entries with an energy and of the elements' references; entry -> its place on it."""
    elements = np.flatnonzero(counts[known].any(axis=0))
    pure = np.zeros((len(elements), counts.shape[1]))
    pure[np.arange(len(elements)), elements] = 1
    names = [ids[row] for row in known] + [f"reference-{SYMBOLS[z]}" for z in elements]
    energies = np.concatenate([e_form[known], np.zeros(len(elements))])
    hull = Hull.from_entries(names, np.concatenate([counts[known], pure]), energies, scale)
    return hull, {int(row): place for place, row in enumerate(known)}


def _published(entries: pa.Table, counts: np.ndarray, opinion: Opinion) -> np.ndarray:
    """(n,) eV/atom above the Materials Project's hull by the judge's energies; NaN where they do not compare."""
    above = np.full(len(entries), np.nan)
    if compatible(opinion.references.scale):
        hull = published_hull()
        rows = np.flatnonzero(hull.has_references(counts) & np.isfinite(opinion.energies))
        e_form = _formation_energies(as_published(opinion.references), entries, opinion.energies, rows)
        above[rows] = hull.e_above_hull(counts[rows], e_form)
    return above


def _formation_energies(
    references: ElementalReferences, entries: pa.Table, energies: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    return references.formation_energy_per_atom(entries["numbers"].take(pa.array(rows)), energies[rows])


def _with_references(opinion: Opinion, counts: np.ndarray) -> Opinion:
    """The opinion without the energies of entries of which an element has no reference."""
    elements = np.flatnonzero(counts.any(axis=0))
    lacking = [z for z in elements if z not in opinion.references.elements]
    energies, status, message = opinion.energies.copy(), list(opinion.status), list(opinion.message)
    for row in np.flatnonzero(counts[:, lacking].any(axis=1)):
        if status[row] == DONE:
            symbols = ", ".join(SYMBOLS[z] for z in lacking if counts[row, z])
            energies[row], status[row], message[row] = np.nan, "no_reference", f"no energy of the element {symbols}"
    return replace(opinion, energies=energies, status=status, message=message)


def _phases(entries: pa.Table, e_form: np.ndarray, opinion: Opinion) -> pa.Table:
    return pa.table(
        {
            **{name: entries[name] for name in ("id", "formula", "chemsys", "round", "e_form_per_atom")},
            "e_form": _column(e_form),
            "status": pa.array(opinion.status, pa.string()),
            "message": pa.array(opinion.message, pa.string()),
        }
    )


def _summary(crystals: pa.Table, judge: str) -> dict[str, str | int | float | None]:
    """The figures of all, and of those of unknown composition, in eV/atom."""
    new = crystals.filter(pc.equal(crystals["novelty"], NEW))
    answered = new.filter(pc.is_valid(new["confirmed"]))
    return {
        "judge": judge,
        "crystals": len(crystals),
        CONFIRMED: _true(crystals["confirmed"]),
        "without an answer": crystals["confirmed"].null_count,
        "of unknown composition": len(new),
        "of these confirmed": _true(new["confirmed"]),
        "share of these, of those answered": _true(new["confirmed"]) / len(answered) if len(answered) else None,
        "at or below MP's hull, by this judge": None
        if new["e_above_mp_hull"].null_count == len(new)
        else int(pc.sum(pc.less_equal(new["e_above_mp_hull"], ON_HULL)).as_py() or 0),
        "mean shift of their formation energy (eV/atom)": pc.mean(new["e_form_shift"]).as_py(),
        "mean shift of their distance to the hull (eV/atom)": pc.mean(new["e_above_hull_shift"]).as_py(),
    }


def consensus(opinions: Sequence[bool | None]) -> bool | None:
    """True where all who answered confirm, False where one of them does not, None where nobody answered."""
    answers = [opinion for opinion in opinions if opinion is not None]
    return all(answers) if answers else None


def _true(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)


def _column(values: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(values, np.float64), from_pandas=True)
