"""What a file holds for an ensemble: crystals or compositions, with labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.compositions.formulas import chemsys, composition, formula_of_composition, reduced_formula
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import Entry, Rejected, read_snapshot
from gnome_core.crystals.sources.formula_table import LabelledComposition, read_formula_table
from gnome_core.crystals.sources.rows import Columns
from gnome_core.crystals.sources.tables import column_names
from gnome_core.crystals.split import Split, is_train, is_withheld, withholds
from gnome_core.errors import GnomeError
from gnome_core.graphs.cache import cached_graphs
from gnome_core.graphs.featurize import BadCrystal, GraphTable, compositional_graphs
from gnome_core.models.shipped import Framework
from gnome_core.units import PLAUSIBLE_E_FORM

MAX_EXAMPLES = 5  # rows that are left out and named


@dataclass(frozen=True, eq=False)
class Rows:
    """What a file holds for a framework.

    ids, formulas, systems: n strings. items: n crystals, or (n, 95) compositions. e_form: (n,) eV/atom, NaN = no label.
    rejected: rows left out, by reason. examples: what is wrong with the first of them, each with its file and row.
    unused: energies of rows without a label, by name: totals, whose scale the file does not say.
    """

    ids: list[str]
    formulas: list[str]
    systems: list[str]
    items: list[Crystal] | np.ndarray
    e_form: np.ndarray
    rejected: Counter[str]
    examples: tuple[str, ...] = ()
    unused: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.ids)

    def compositions(self) -> np.ndarray:
        """(n, 95) atoms by atomic number."""
        if isinstance(self.items, np.ndarray):
            return self.items
        return np.array([np.bincount(c.numbers, minlength=N_COLUMNS) for c in self.items]).reshape(-1, N_COLUMNS)

    def graphs(self, cutoff: float, cache: Path | None = None) -> GraphTable:
        """cache: folder where graphs of crystals are kept. Raises GnomeError naming the row that has none."""
        try:
            if isinstance(self.items, np.ndarray):
                return compositional_graphs(self.items)
            return cached_graphs(self.items, cutoff, cache)
        except BadCrystal as error:
            raise GnomeError(f"{self.ids[error.index]}: {error.reason}; remove the row") from None

    def take(self, rows: np.ndarray) -> Rows:
        """The rows at the given positions, or where a mask is true."""
        positions = np.arange(len(self))[rows].tolist()
        items = self.items[positions] if isinstance(self.items, np.ndarray) else [self.items[i] for i in positions]
        names = ([values[i] for i in positions] for values in (self.ids, self.formulas, self.systems))
        return Rows(*names, items, self.e_form[positions], self.rejected, self.examples, self.unused)


def read_rows(source: str, framework: Framework) -> Rows:
    """Rows of a snapshot source (see `read_snapshot`), one a crystal; for the compositional framework one a formula,
    labelled by its lowest crystal, or the rows of a table with a column `formula`. Raises SourceError.
    """
    path = Path(source)
    if framework == "compositional" and path.suffix.lower() in (".csv", ".parquet") and _has_formulas(path):
        return _of_compositions(list(read_formula_table(path)))
    entries, rejected, unused = [], Counter[str](), Counter[str]()
    examples: tuple[str, ...] = ()
    for item in read_snapshot(source):
        if isinstance(item, Entry):
            entries.append(item)
            unused.update(item.unused_energies)
        else:
            rejected[item.reason] += 1
            if len(examples) < MAX_EXAMPLES:
                examples += (item.message,)
    if framework == "compositional":
        lowest: dict[str, Entry] = {}
        for entry in sorted(entries, key=_label):
            lowest.setdefault(reduced_formula(entry.crystal.numbers), entry)
        compositions = [
            LabelledComposition(entry.id, composition(entry.crystal.numbers), entry.e_form_per_atom)
            for entry in lowest.values()
        ]
        return replace(_of_compositions(compositions), rejected=rejected, examples=examples, unused=unused)
    return Rows(
        [entry.id for entry in entries],
        [reduced_formula(entry.crystal.numbers) for entry in entries],
        [chemsys(entry.crystal.numbers) for entry in entries],
        [entry.crystal for entry in entries],
        np.array([_label(entry) for entry in entries]),
        rejected,
        examples,
        unused,
    )


def _label(item: Entry | LabelledComposition) -> float:
    return np.nan if item.e_form_per_atom is None else item.e_form_per_atom


def _has_formulas(path: Path) -> bool:
    names = column_names(path)
    return "formula" in names and "lattice" not in names and Columns.of(names).structure is None


def _of_compositions(found: list) -> Rows:
    kept = [item for item in found if isinstance(item, LabelledComposition)]
    broken = [item for item in found if isinstance(item, Rejected)]
    compositions = np.zeros((len(kept), N_COLUMNS), np.int64)
    for row, item in zip(compositions, kept, strict=True):
        for number, count in item.composition:
            row[number] = count
    return Rows(
        [item.key for item in kept],
        [formula_of_composition(item.composition) for item in kept],
        [chemsys([z for z, _ in item.composition]) for item in kept],
        compositions,
        np.array([_label(item) for item in kept]),
        Counter(item.reason for item in broken),
        tuple(item.message for item in broken[:MAX_EXAMPLES]),
    )


def labelled_rows(source: str, framework: Framework, holdout: str) -> Rows:
    """The rows a model may train on: with a plausible label, outside what is withheld; the rest is counted."""
    rows = read_rows(source, framework)
    labelled = np.isfinite(rows.e_form)
    plausible = np.abs(np.nan_to_num(rows.e_form)) <= PLAUSIBLE_E_FORM
    withheld = withholds(holdout, source) & np.array([is_withheld(system) for system in rows.systems], bool)
    left_out = {
        "no_label": (~labelled, "it has no formation energy"),
        "implausible_label": (
            labelled & ~plausible,
            f"its formation energy is beyond {PLAUSIBLE_E_FORM:g} eV/atom in size",
        ),
        "withheld_system": (labelled & plausible & withheld, "its chemical system is withheld (holdout-v1)"),
    }
    examples = list(rows.examples)
    for reason, (mask, why) in left_out.items():
        rows.rejected[reason] += int(mask.sum())
        examples += [f"{source}: {rows.ids[row]}: {why}" for row in np.flatnonzero(mask)[:MAX_EXAMPLES]]
    kept = rows.take(labelled & plausible & ~withheld)
    return replace(kept, examples=tuple(examples[:MAX_EXAMPLES]))


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several sources of one framework as those of one."""
    compositions = [part.items for part in parts if isinstance(part.items, np.ndarray)]
    items = np.concatenate(compositions) if compositions else [item for part in parts for item in part.items]
    return Rows(
        [id_ for part in parts for id_ in part.ids],
        [formula for part in parts for formula in part.formulas],
        [system for part in parts for system in part.systems],
        items,
        np.concatenate([part.e_form for part in parts]),
        sum((part.rejected for part in parts), Counter()),
        tuple(example for part in parts for example in part.examples)[:MAX_EXAMPLES],
        sum((part.unused for part in parts), Counter()),
    )


def split_rows(rows: Rows, split: Split) -> Rows:
    """The rows that train, those that do not ("validation"), or all. Raises GnomeError where there are none."""
    train = np.array([is_train(formula) for formula in rows.formulas], bool)
    masks: dict[Split, np.ndarray] = {"train": train, "validation": ~train, "all": np.ones(len(rows), bool)}
    chosen = rows.take(masks[split])
    if not len(chosen):
        raise GnomeError(
            f"no labelled row of the {split} split; give a file with formation energies, or another --split"
        )
    return chosen
