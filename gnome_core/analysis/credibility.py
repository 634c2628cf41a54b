"""The certificate of what was found: checks that a chemist makes first, each a column with its reason, one after the
other.

After Cheetham and Seshadri (Chem. Mater. 36, 3490, 2024) and Leeman et al. (PRX Energy 3, 011002, 2024), who checked
published discoveries so by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.relatives import KnownFamilies, KnownSolutions, as_families
from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.analysis.waterfall import WATERFALL, apply_filter
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS, composition
from gnome_core.compositions.known import crystal_hashes
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.novelty import NEW, KnownStructures
from gnome_core.stability.charges import likely_charges, without_nonmetals
from gnome_core.stability.hull import ON_HULL
from gnome_core.stability.plausible import NOBLE_GASES, implausible

NAME = "credibility"
FOUND = "found on the hull"
# No stable isotope: Tc, Pm, Po and beyond; Th and U, as old as the Earth, among them (bismuth counts as stable).
RADIOACTIVE = frozenset((NUMBERS["Tc"], NUMBERS["Pm"], *range(NUMBERS["Po"], NUMBERS["Pu"] + 1)))
NOT_JUDGED = "nothing to judge by"
HOW_TO_READ = (
    "Each check judges every crystal: its column says whether it passed, the next one why. A crystal is removed by the "
    "first that it does not pass. The rules and their limits: docs/credibility.md."
)


class Verdict(NamedTuple):
    """passed: None where there is nothing to judge by. why: what was found, and by whom."""

    passed: bool | None
    why: str | None = None


class Found:
    """n crystals to judge, the deepest below the hull first, and the crystals known before."""

    def __init__(self, crystals: pa.Table, known: pa.Table, track: Track):
        self.table, self.known, self.track = crystals, known, track

    @cached_property
    def crystals(self) -> Sequence[Crystal]:
        return crystals_from_batch(self.table)

    @cached_property
    def charges(self) -> list[dict[int, float] | None]:
        """Of each composition, where ions of common charges make it."""
        found = [dict(composition(crystal.numbers)) for crystal in self.crystals]
        return [None if without_nonmetals(counts) else likely_charges(counts) for counts in found]


@dataclass(frozen=True)
class Step:
    """key: its column, and what leaves it out. title: what is left after it. judge: by whom, or by what rule.

    verdicts: of all n crystals, given which (n,) are left before it.
    """

    key: str
    title: str
    judge: str
    verdicts: Callable[[Found, np.ndarray], list[Verdict]]


def _composition(found: Found, left: np.ndarray) -> list[Verdict]:
    levels, sources = (found.table[name].to_pylist() for name in ("novelty", "novelty_source"))
    return [
        Verdict(level == NEW, source and f"{level}: {source}") for level, source in zip(levels, sources, strict=True)
    ]


def _sane(found: Found, left: np.ndarray) -> list[Verdict]:
    energies = found.table["e_form_per_atom"].to_pylist()
    reasons = map(implausible, found.crystals, energies)
    return [Verdict(reason is None, reason) for reason in reasons]


def _charges(found: Found, left: np.ndarray) -> list[Verdict]:
    verdicts = []
    for crystal, charges in zip(found.crystals, found.charges, strict=True):
        if without_nonmetals(crystal.numbers.tolist()):
            verdicts.append(Verdict(True, "no nonmetal"))
        elif charges is None:
            verdicts.append(Verdict(False, "no common charges sum to zero"))
        else:
            verdicts.append(
                Verdict(True, " ".join(f"{SYMBOLS[z]}{abs(q):.3g}{'-+'[q > 0]}" for z, q in charges.items()))
            )
    return verdicts


def _elements(found: Found, left: np.ndarray) -> list[Verdict]:
    refused = [np.unique(c.numbers[np.isin(c.numbers, [*RADIOACTIVE, *NOBLE_GASES])]) for c in found.crystals]
    return [Verdict(not len(numbers), ", ".join(SYMBOLS[z] for z in numbers) or None) for numbers in refused]


def _disorder(found: Found, left: np.ndarray) -> list[Verdict]:
    known, verdicts = KnownSolutions(found.known), []
    for crystal, charges in zip(found.track(found.crystals, "orderings"), found.charges, strict=True):
        parent = known.find(crystal, charges)
        verdicts.append(Verdict(parent is None, parent and f"{parent[0]} on one site, as in {parent[1]}"))
    return verdicts


def _family(found: Found, left: np.ndarray) -> list[Verdict]:
    """Against the known, then against those left that lie deeper: of a family one is counted."""
    known, verdicts = KnownFamilies(found.known), []
    counted: dict[int, list[tuple[str, Crystal]]] = {}
    ids, keys = found.table["id"].to_pylist(), _family_keys(found.table, found.crystals)
    for id_, key, crystal, is_left in zip(ids, keys, found.track(found.crystals, "families"), left, strict=True):
        same = counted.setdefault(key, [])
        relative = known.find(crystal)
        if relative is None:
            position = KnownStructures([other for _, other in same]).find(as_families(crystal))
            relative = None if position is None else same[position][0]
        verdicts.append(Verdict(relative is None, relative))
        if is_left and relative is None:
            same.append((id_, as_families(crystal)))
    return verdicts


def _published(found: Found, left: np.ndarray) -> list[Verdict]:
    verdicts = []
    columns = (found.table[name].to_pylist() for name in ("e_above_mp_hull", "e_above_mp_hull_uncertainty"))
    for above, error in zip(*columns, strict=True):
        if above is None:
            verdicts.append(Verdict(None, NOT_JUDGED))
        else:
            within = "" if error is None else f" ± {error:.3f}"
            verdicts.append(Verdict(above <= ON_HULL, f"{above:+.3f}{within} eV/atom"))
    return verdicts


def _confirmed(found: Found, left: np.ndarray) -> list[Verdict]:
    columns = (found.table[name].to_pylist() for name in ("confirmed", "confirmed_why"))
    return [Verdict(answer, why or NOT_JUDGED) for answer, why in zip(*columns, strict=True)]


# In the order in which they are made. A later judge is one more of these.
STEPS = (
    Step(
        "composition",
        "of unknown composition",
        "the snapshot; lists of the Materials Project, OQMD, experiment",
        _composition,
    ),
    Step("sane", "physically sane", "limits of distances, volumes, energies among 31,235 crystals", _sane),
    Step("charges", "charge-plausible", "ions that make 1 % of an element's in the ICSD (SMACT)", _charges),
    Step("elements", "without radioactive elements and noble gases", "Tc, Pm, Po to Pu; He to Xe", _elements),
    Step(
        "disorder",
        "no ordering of a known solid solution",
        "prototypes of the snapshot, like elements mixed (moyopy)",
        _disorder,
    ),
    Step("family", "no swap of like elements", "structures of the snapshot and of those found, by family", _family),
    Step("mp_hull", "at or below the Materials Project's hull", "its published formation energies", _published),
    Step(
        "confirmed", "confirmed by a second judge", "hulls of that judge's own energies (`gnome confirm`)", _confirmed
    ),
)
COLUMNS = ("id", "formula", "chemsys", "round", "e_above_hull_others", "e_above_mp_hull", "e_above_mp_hull_uncertainty")


def analyse(entries: pa.Table, without: Collection[str] = (), track: Track = untracked) -> Analysis:
    """The new crystals on the hull through all STEPS but those whose keys are in `without`.

    entries: id, lattice, frac_coords, numbers, formula, chemsys, round (0 = snapshot), on_hull, e_form_per_atom,
    e_above_hull_others, novelty, novelty_source, e_above_mp_hull, e_above_mp_hull_uncertainty, confirmed,
    confirmed_why; energies in eV/atom.

    Every step judges every crystal; which were left before counts for families alone. A step that can judge none of
    them is left out too, and said. Raises ValueError for a key that no step has.
    """
    steps, notes = _steps(without)
    found = _found(entries, _is_found(entries), track)
    n = len(found.table)
    left, passed = np.ones(n, bool), np.zeros(n, int)
    stopped: list[str | None] = [None] * n
    columns: dict[str, pa.Array] = {}
    rows = [{"filter": FOUND, "left": n, "removed": 0, "unknown": 0, "judge": "the store's newest hull"}]
    for step in steps:
        verdicts = step.verdicts(found, left)
        if n and all(verdict.passed is None for verdict in verdicts):
            notes.append(f"Left out, with nothing to judge by: {step.title}.")
            continue
        row, remain = apply_filter(step.title, left, [verdict.passed for verdict in verdicts])
        for position in np.flatnonzero(left & ~remain):
            stopped[position] = step.key
        left = remain
        passed += left
        rows.append({**row, "judge": step.judge})
        columns[step.key] = pa.array([verdict.passed for verdict in verdicts], pa.bool_())
        columns[f"{step.key}_why"] = pa.array([verdict.why for verdict in verdicts], pa.string())
    table = pa.table(
        {
            **{name: found.table[name] for name in COLUMNS},
            "credible": pa.array(left, pa.bool_()),
            "passed": pa.array(passed, pa.int32()),
            "stopped_by": pa.array(stopped, pa.string()),
            **columns,
        }
    )
    waterfall = pa.Table.from_pylist(rows, pa.schema([*WATERFALL, pa.field("judge", pa.string())]))
    order = [("passed", "descending"), ("e_above_hull_others", "ascending"), ("id", "ascending")]
    return Analysis(
        NAME,
        "Credibility",
        {"waterfall": waterfall, "crystals": table.sort_by(order)},
        {str(row["filter"]): row["left"] for row in rows},
        (HOW_TO_READ, *notes),
    )


def certificate(entries: pa.Table, id_: str, without: Collection[str] = ()) -> list[tuple[Step, Verdict]]:
    """Each step's verdict of one of the new crystals on the hull, as `analyse` has it, of the same entries.

    Only the crystals of its family are judged along with it. Raises KeyError for an id that is none of them.
    """
    rows = entries.filter(_is_found(entries))
    position = pc.index(rows["id"], id_).as_py()
    if position < 0:
        raise KeyError(id_)
    keys = _family_keys(rows, crystals_from_batch(rows))
    relatives = set(rows.filter(pa.array(keys == keys[position]))["id"].to_pylist())
    found = _found(entries, pc.is_in(entries["id"], pa.array(relatives)), untracked)
    row = pc.index(found.table["id"], id_).as_py()
    left, verdicts = np.ones(len(found.table), bool), []
    for step in _steps(without)[0]:
        of_all = step.verdicts(found, left)
        _, left = apply_filter(step.title, left, [verdict.passed for verdict in of_all])
        verdicts.append((step, of_all[row]))
    return verdicts


def _steps(without: Collection[str]) -> tuple[list[Step], list[str]]:
    """Those to be made, and a note of those that are not."""
    keys = [step.key for step in STEPS]
    if unknown := set(without).difference(keys):
        raise ValueError(f"no step is called {', '.join(sorted(unknown))}; there are {', '.join(keys)}")
    spared = [step.title for step in STEPS if step.key in without]
    return [step for step in STEPS if step.key not in without], [f"Left out: {title}." for title in spared]


def _is_found(entries: pa.Table) -> pa.ChunkedArray:
    return pc.and_(pc.greater(entries["round"], 0), entries["on_hull"])


def _found(entries: pa.Table, chosen: pa.ChunkedArray, track: Track) -> Found:
    deepest_first = entries.filter(chosen).sort_by([("e_above_hull_others", "ascending"), ("id", "ascending")])
    return Found(deepest_first, entries.filter(pc.equal(entries["round"], 0)), track)


def _family_keys(table: pa.Table, crystals: Sequence[Crystal]) -> np.ndarray:
    """(n,) uint64: equal for compositions that are equal but for elements of one family."""
    numbers = pa.chunked_array([[as_families(crystal).numbers for crystal in crystals]], pa.list_(pa.uint8()))
    return crystal_hashes(numbers)
