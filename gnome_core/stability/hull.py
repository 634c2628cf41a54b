"""The convex hull of formation energies: e_above_hull and decompositions of any number of compositions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.crystals.formulas import SYMBOLS
from gnome_core.stability import facets as geometry
from gnome_core.stability.compositions import N_COLUMNS, MissingReference, atom_counts, sparse

ON_HULL = 5e-5  # eV/atom: at most this far above the hull counts as on it (GNoME)
BELOW_ZERO = 1e-11  # eV/atom: a compound can reach the hull only below the elements' plane
MAYBE_VERTEX = 1e-9  # eV/atom above the hull within which an entry may be one of its vertices
SAME_COMPOSITION = 9  # decimals of the atomic fractions
FORMAT = "gnome.hull/1"


class Decomposition(NamedTuple):
    """One product of a decomposition: index of the entry, and its share of the atoms."""

    entry: int
    atom_fraction: float


@dataclass(frozen=True)
class _System:
    """The lower hull of one chemical system: its candidate entries, and their facets unless they need the program."""

    rows: np.ndarray  # (m,) entry indices; the first k are the elements
    fractions: np.ndarray  # (m, k)
    energies: np.ndarray  # (m,) relative to the elements
    elemental: np.ndarray  # (k,) energies of the elements, eV/atom
    facets: geometry.Facets | None

    @property
    def nbytes(self) -> int:
        arrays = [self.rows, self.fractions, self.energies, *(self.facets or ())]
        return sum(array.nbytes for array in arrays)

    def hull_energies(self, queries: np.ndarray) -> np.ndarray:
        """(q,) eV/atom at queries (q, k)."""
        if self.facets is not None:
            relative = geometry.hull_energies(self.facets.planes, queries)
        else:
            relative = np.array([geometry.solve(self.fractions, self.energies, query)[0] for query in queries])
        return relative + (queries * self.elemental).sum(axis=1)

    def decomposition(self, query: np.ndarray) -> list[Decomposition]:
        found = self.facets and geometry.facet_amounts(self.facets, self.fractions, query)
        if not found:
            found = np.arange(len(self.rows)), geometry.solve(self.fractions, self.energies, query)[1]
        products = [Decomposition(int(self.rows[v]), float(a)) for v, a in zip(*found, strict=True) if a > 1e-8]
        return sorted(products, key=lambda product: (-round(product.atom_fraction, 9), product.entry))


class Hull:
    """Formation energies of a set of entries on one scale, and the convex hull of every chemical system among them.

    The facets of a chemical system are built when a query first needs them, from the entries of all its subsets, and
    kept (least recently used systems leave when `cache_bytes` are full). Entry indices are positions in the order
    the entries were given. Compositions are (n, 95) arrays: amounts of each element in the column of its atomic
    number, atom counts or fractions, only their ratios matter (`atom_counts` makes them from crystals).

    Every element of a queried composition needs an elemental entry: MissingReference names those that lack one.
    """

    def __init__(self, table: pa.Table, *, cache_bytes: int = 256 << 20):
        """Used by `from_entries`, `from_table` and `load`; table: as written by `save`."""
        self.table = table.combine_chunks()
        self.cache_bytes = cache_bytes
        composition = _only_chunk(self.table["composition"], table.schema.field("composition").type)
        pairs = composition.flatten()
        self._starts = composition.offsets.to_numpy().astype(np.int64)
        self._starts -= self._starts[0]
        self._numbers = pairs.field("number").to_numpy()
        self._amounts = pairs.field("amount").to_numpy()
        self.e_form = _only_chunk(self.table["e_form_per_atom"], pa.float64()).to_numpy()
        keys, inverse = np.unique(_system_keys(self._starts, self._numbers), return_inverse=True)
        self._order = np.argsort(inverse, kind="stable")
        bounds = np.append(0, np.cumsum(np.bincount(inverse, minlength=len(keys))))
        self._systems = {key: slice(*span) for key, span in zip(keys.tolist(), pairwise(bounds.tolist()), strict=True)}
        # Atomic numbers that have an elemental entry: what a queried composition may hold.
        self.elements = frozenset(key[0] for key in self._systems if len(key) == 1)
        self._largest = max(map(len, self._systems), default=0)
        self._cache: OrderedDict[bytes, _System] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()
        self._e_above: np.ndarray | None = None

    def __reduce__(self):
        return Hull, (self.table,)

    def __len__(self) -> int:
        return len(self.table)

    # ---- making, saving -------------------------------------------------------------------------------------------

    @classmethod
    def from_entries(
        cls, ids: Sequence[str] | pa.Array, compositions: np.ndarray, e_form: np.ndarray, scale: str | Sequence[str]
    ) -> Hull:
        """A hull of n entries.

        ids: n distinct strings; compositions: (n, 95) amounts; e_form: (n,) formation energies, eV/atom, all on
        `scale` (one name, or one per entry, which must agree). Several entries of one composition are welcome.

        Raises ValueError for duplicate ids, energies that are not finite, empty compositions and mixed scales.
        """
        starts, numbers, amounts = sparse(compositions)
        ids = _only_chunk(ids, pa.string())
        e_form = np.asarray(e_form, np.float64)
        if not len(ids) == len(starts) - 1 == len(e_form):
            raise ValueError(f"{len(ids)} ids for {len(starts) - 1} compositions and {len(e_form)} energies")
        bad = np.flatnonzero(~np.isfinite(e_form))
        if len(bad):
            raise ValueError(f"entry {ids[bad[0]]}: formation energy is {e_form[bad[0]]}; leave out failed evaluations")
        _check_distinct(ids)
        scale = _one_scale({scale} if isinstance(scale, str) else set(scale))
        if (amounts == np.round(amounts)).all() and amounts.max(initial=0) <= np.iinfo(np.uint16).max:
            amounts = amounts.astype(np.uint16)
        pairs = pa.StructArray.from_arrays([pa.array(numbers), pa.array(amounts)], ["number", "amount"])
        composition = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pairs)
        table = pa.table({"id": ids, "composition": composition, "e_form_per_atom": e_form})
        return cls(table.replace_schema_metadata({"format": FORMAT, "unit": "eV/atom", "scale": scale}))

    @classmethod
    def from_table(cls, entries: pa.Table) -> Hull:
        """A hull of an entries table (ENTRY_SCHEMA: columns id, numbers, e_form_per_atom, scale)."""
        scales = entries["scale"].unique().to_pylist()
        energies = entries["e_form_per_atom"].to_numpy()
        return cls.from_entries(entries["id"], atom_counts(entries["numbers"]), energies, scales)

    def extended(
        self, ids: Sequence[str] | pa.Array, compositions: np.ndarray, e_form: np.ndarray, scale: str | Sequence[str]
    ) -> Hull:
        """This hull with more entries appended; facets of systems that hold none of them are kept, not rebuilt."""
        new = Hull.from_entries(ids, compositions, e_form, scale)
        metadata = {**self.table.schema.metadata, b"scale": _one_scale({self.scale, new.scale}).encode()}
        tables = [hull.table.replace_schema_metadata(metadata) for hull in (self, new)]
        # Atom counts give way to fractions where either side has them.
        table = pa.concat_tables(tables, promote_options="permissive")
        _check_distinct(table["id"])
        hull = Hull(table, cache_bytes=self.cache_bytes)
        touched = [set(key) for key in new._systems]
        for key, system in self._cache.items():
            if not any(changed <= set(key) for changed in touched):
                hull._remember(key, system)
        return hull

    def save(self, path: str) -> None:
        """Write the entries as one Arrow IPC file (23 bytes an entry and its id), which `load` maps into memory."""
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self.table.schema) as writer:
            writer.write_table(self.table)

    @classmethod
    def load(cls, path: str) -> Hull:
        """Inverse of `save`; the columns stay in the mapped file, shared by all processes of a machine."""
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a hull file ({error}); write it with Hull.save") from error
        if (table.schema.metadata or {}).get(b"format") != FORMAT.encode():
            raise ValueError(f"{path} is not a hull file of format {FORMAT}; write it with Hull.save")
        return cls(table)

    # ---- the entries ----------------------------------------------------------------------------------------------

    @property
    def scale(self) -> str:
        """The energy scale of all entries."""
        return self.table.schema.metadata[b"scale"].decode()

    @property
    def ids(self) -> pa.Array:
        """Entry ids, in the given order."""
        return _only_chunk(self.table["id"], pa.string())

    def compositions(self) -> np.ndarray:
        """(n, 95) amounts of the entries as given. Dense: 760 bytes an entry."""
        amounts = np.zeros((len(self), N_COLUMNS))
        amounts[np.repeat(np.arange(len(self)), np.diff(self._starts)), self._numbers] = self._amounts
        return amounts

    def has_references(self, compositions: np.ndarray) -> np.ndarray:
        """(n,) whether every element of a composition has an elemental entry, so that it can be queried."""
        known = np.isin(np.arange(compositions.shape[1]), list(self.elements))
        return np.asarray(~(np.asarray(compositions)[:, ~known] > 0).any(axis=1))

    # ---- queries --------------------------------------------------------------------------------------------------

    def e_hull(self, compositions: np.ndarray) -> np.ndarray:
        """(n,) energy of the hull, eV/atom, at compositions (n, 95).

        Raises MissingReference naming the elements without elemental entry; ValueError for unusable rows.
        """
        starts, numbers, amounts = sparse(compositions)
        keys, inverse = np.unique(_system_keys(starts, numbers), return_inverse=True)
        self._check_references(b"".join(keys.tolist()), "queried compositions")
        order = np.argsort(inverse, kind="stable")
        bounds = np.append(0, np.cumsum(np.bincount(inverse, minlength=len(keys))))
        energies = np.empty(len(order))
        for position, key in enumerate(keys.tolist()):
            group = order[slice(*bounds[position : position + 2])]
            fractions = amounts[starts[group, None] + np.arange(len(key))]
            fractions /= fractions.sum(axis=1, keepdims=True)
            energies[group] = self._system(key).hull_energies(fractions)
        return energies

    def e_above_hull(self, compositions: np.ndarray, e_form: np.ndarray) -> np.ndarray:
        """(n,) decomposition energies e_form - e_hull, eV/atom, of formation energies (n,) at compositions (n, 95).

        Signed: negative lies below the current hull, and would be on the new one. A NaN energy gives NaN.
        """
        return np.asarray(e_form, np.float64) - self.e_hull(compositions)

    def decomposition(self, composition: np.ndarray) -> list[Decomposition]:
        """The stable phases a composition (95,) separates into, largest atom fraction first (they sum to 1)."""
        _, numbers, amounts = sparse(np.asarray(composition)[None])
        return self._system(numbers.tobytes()).decomposition(amounts / amounts.sum())

    # ---- columns over the entries ---------------------------------------------------------------------------------

    def entry_e_above_hull(self) -> np.ndarray:
        """(n,) e_above_hull of every entry against all entries, itself among them; never below -1e-7 eV/atom.

        Entries whose elements lack an elemental entry have no hull: NaN.
        """
        if self._e_above is None:
            above = np.full(len(self), np.nan)
            for key, span in self._systems.items():
                if self.elements.issuperset(key):
                    own = self._order[span]
                    above[own] = self.e_form[own] - self._system(key).hull_energies(self._fractions(own, key))
            self._e_above = above
        return self._e_above

    def stable_mask(self, tolerance: float = ON_HULL) -> np.ndarray:
        """(n,) bool: on the hull within `tolerance` eV/atom; of one composition only the lowest, then the first id."""
        best: dict[bytes, int] = {}
        ids = self.ids
        for row in np.flatnonzero(self.entry_e_above_hull() <= tolerance).tolist():
            part = slice(self._starts[row], self._starts[row + 1])
            amounts = self._amounts[part].astype(np.float64)
            key = self._numbers[part].tobytes() + np.round(amounts / amounts.sum(), SAME_COMPOSITION).tobytes()
            rival = best.setdefault(key, row)
            if (self.e_form[row], ids[row].as_py()) < (self.e_form[rival], ids[rival].as_py()):
                best[key] = row
        mask = np.zeros(len(self), bool)
        mask[list(best.values())] = True
        return mask

    def entry_e_above_others(self, *, without_polymorphs: bool = False) -> np.ndarray:
        """(n,) e_above_hull of every entry against all entries but itself; negative is the depth of a hull member.

        without_polymorphs: leave out every entry of its composition too: the phase-separation energy.
        NaN where what is left no longer holds an elemental entry (an element's only phase), or never did.
        """
        against = self.entry_e_above_hull().copy()
        for key, span in self._systems.items():
            own = self._order[span]
            # Above the hull an entry is no vertex: leaving it out changes nothing.
            rivals = own if without_polymorphs else own[against[own] <= MAYBE_VERTEX]
            rivals = rivals[~np.isnan(against[rivals])]
            if not len(rivals):
                continue
            rows, fractions, energies = self._members(key)
            for row in rivals.tolist():
                here = int(np.searchsorted(rows, row))
                query = fractions[here]
                left_out = rows == row
                if without_polymorphs:
                    left_out = (np.abs(fractions - query) < 10.0**-SAME_COMPOSITION).all(axis=1)
                rest = ~left_out
                if (fractions[rest].max(axis=0, initial=0) < 1).any():
                    against[row] = np.nan
                    continue
                system = _lower_hull(rows[rest], fractions[rest], energies[rest])
                against[row] = self.e_form[row] - system.hull_energies(query[None])[0]
        return against

    # ---- chemical systems -----------------------------------------------------------------------------------------

    def _check_references(self, numbers: bytes, where: str) -> None:
        missing = set(numbers) - self.elements
        if missing:
            raise MissingReference(sorted(missing), where, "add its elemental entry to the hull, or drop these rows")

    def _system(self, key: bytes) -> _System:
        """The lower hull of a chemical system (its sorted atomic numbers), from the cache or built."""
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        self._check_references(key, f"system {'-'.join(SYMBOLS[z] for z in key)}")
        system = _lower_hull(*self._members(key))
        self._remember(key, system)
        return system

    def _remember(self, key: bytes, system: _System) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = system
                self._cached_bytes += system.nbytes
            while self._cached_bytes > self.cache_bytes and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes

    def _members(self, key: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows (m,) in order, fractions (m, k) and formation energies (m,) of all entries within a system."""
        subsets = (
            bytes(subset) for size in range(1, min(len(key), self._largest) + 1) for subset in combinations(key, size)
        )
        spans = [self._systems[subset] for subset in subsets if subset in self._systems]
        rows = np.sort(np.concatenate([self._order[span] for span in spans]))
        return rows, self._fractions(rows, key), self.e_form[rows]

    def _fractions(self, rows: np.ndarray, key: bytes) -> np.ndarray:
        """(m, k) atomic fractions of entries within the system of sorted atomic numbers `key`."""
        lengths = self._starts[rows + 1] - self._starts[rows]
        ends = np.cumsum(lengths)
        source = np.arange(lengths.sum()) + np.repeat(self._starts[rows] - ends + lengths, lengths)
        fractions = np.zeros((len(rows), len(key)))
        columns = np.searchsorted(np.frombuffer(key, np.uint8), self._numbers[source])
        fractions[np.repeat(np.arange(len(rows)), lengths), columns] = self._amounts[source]
        return fractions / fractions.sum(axis=1, keepdims=True)


def _lower_hull(rows: np.ndarray, fractions: np.ndarray, energies: np.ndarray) -> _System:
    """The lower hull of all entries of a system (every element among them)."""
    order = np.lexsort((rows, energies, *np.round(fractions.T, SAME_COMPOSITION)))
    sorted_fractions = np.round(fractions[order], SAME_COMPOSITION)
    first = np.ones(len(order), bool)
    first[1:] = (sorted_fractions[1:] != sorted_fractions[:-1]).any(axis=1)
    lowest = order[first]
    pure = lowest[(fractions[lowest] == 1).any(axis=1)]
    pure = pure[np.argsort(fractions[pure].argmax(axis=1))]
    elemental = energies[pure]
    relative = energies - fractions @ elemental
    compounds = np.sort(lowest[(fractions[lowest] < 1).all(axis=1) & (relative[lowest] < -BELOW_ZERO)])
    kept = np.concatenate([pure, compounds])
    points, heights = fractions[kept], relative[kept]
    heights[: len(pure)] = 0.0
    return _System(rows[kept], points, heights, elemental, geometry.lower_facets(points, heights))


def _one_scale(scales: set[str]) -> str:
    named = sorted(scales - {""})
    if len(named) > 1:
        raise ValueError(f"entries of several energy scales: {', '.join(named)}; a hull holds one")
    return "".join(named)


def _check_distinct(ids: pa.Array | pa.ChunkedArray) -> None:
    counts = ids.value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise ValueError(f"{len(repeated)} duplicate entry ids, first {repeated[0]['values']}; ids must be unique")


def _system_keys(starts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(n,) byte strings of the atomic numbers in each of n runs of `numbers`, which ascend within a run."""
    lengths = np.diff(starts)
    width = max(int(lengths.max(initial=0)), 1)
    padded = np.zeros((len(lengths), width), np.uint8)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    padded[rows, np.arange(len(rows)) - starts[rows]] = numbers
    return padded.view(f"S{width}")[:, 0]


def _only_chunk(column: Sequence | pa.Array | pa.ChunkedArray, data_type: pa.DataType) -> pa.Array:
    """The column as one array of the type, without a copy where it already is one."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column.cast(data_type) if isinstance(column, pa.Array) else pa.array(column, data_type)
