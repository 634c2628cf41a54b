"""The convex hull of formation energies: e_above_hull and decompositions of any number of compositions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.dense import N_COLUMNS, MissingReference, SparseCompositions, sparse, sparse_atom_counts
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.files import write_file
from gnome_core.stability.system import SAME_COMPOSITION, Decomposition, System, lower_hull

ON_HULL = 5e-5  # eV/atom: at most this far above the hull counts as on it (GNoME)

MAYBE_VERTEX = 1e-9  # eV/atom above the hull within which an entry may be one of its vertices

FORMAT = "gnome.hull/1"


@dataclass
class _Column:
    """A number an entry, and the systems (positions in `_keys`) whose entries still lack it."""

    values: np.ndarray  # (n,) NaN where unknown
    pending: np.ndarray

    @classmethod
    def pending_all(cls, n_entries: int, n_systems: int) -> _Column:
        return cls(np.full(n_entries, np.nan), np.arange(n_systems))


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
        offsets = composition.offsets.to_numpy()
        self._starts = offsets - offsets[0] if offsets[0] else offsets
        self._numbers = pairs.field("number").to_numpy()
        self._amounts = pairs.field("amount").to_numpy()
        self.e_form = _only_chunk(self.table["e_form_per_atom"], pa.float64()).to_numpy()
        # Arrays, not a dictionary: a snapshot of two million entries has a million systems.
        keys = _system_keys(self._starts, self._numbers)
        self._order = np.argsort(keys, kind="stable").astype(np.int32)
        self._keys, first = np.unique(keys[self._order], return_index=True)
        self._bounds = np.append(first, len(keys)).astype(np.int32)
        # Atomic numbers that have an elemental entry: what a queried composition may hold.
        lengths = np.char.str_len(self._keys)
        self.elements = frozenset(key[0] for key in self._keys[lengths == 1].tolist())
        self._largest = int(lengths.max(initial=0))
        self._cache: OrderedDict[bytes, System] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self):
        return Hull, (self.table,)

    def __len__(self) -> int:
        return len(self.table)

    # ---- making, saving -------------------------------------------------------------------------------------------

    @classmethod
    def from_entries(
        cls,
        ids: Sequence[str] | pa.Array,
        compositions: np.ndarray | SparseCompositions,
        e_form: np.ndarray,
        scale: str | Sequence[str],
    ) -> Hull:
        """A hull of n entries.

        ids: n distinct strings; compositions: (n, 95) amounts, or the same as runs; e_form: (n,) formation energies,
        eV/atom, all on `scale` (one name, or one per entry, which must agree). Several entries of one composition are
        welcome.

        Raises ValueError for duplicate ids, energies that are not finite, empty compositions and mixed scales.
        """
        starts, numbers, amounts = (
            compositions if isinstance(compositions, SparseCompositions) else sparse(compositions)
        )
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
        return cls.from_entries(entries["id"], sparse_atom_counts(entries["numbers"]), energies, scales)

    def extended(
        self, ids: Sequence[str] | pa.Array, compositions: np.ndarray, e_form: np.ndarray, scale: str | Sequence[str]
    ) -> Hull:
        """This hull with more entries appended; facets of systems that hold none of them, and distances of the entries
        in them, are kept, not made again."""
        new = Hull.from_entries(ids, compositions, e_form, scale)
        metadata = {**self.table.schema.metadata, b"scale": _one_scale({self.scale, new.scale}).encode()}
        tables = [hull.table.replace_schema_metadata(metadata) for hull in (self, new)]
        # Atom counts give way to fractions where either side has them.
        table = pa.concat_tables(tables, promote_options="permissive")
        _check_distinct(table["id"])
        hull = Hull(table, cache_bytes=self.cache_bytes)
        cached = list(self._cache.items())
        touched = _hold_any(np.array([key for key, _ in cached], np.bytes_), new._keys)
        for (key, system), changed in zip(cached, touched, strict=True):
            if not changed:
                hull._remember(key, system)
        for name in {"_above", "_without"} & self.__dict__.keys():
            ours, theirs = getattr(hull, name), getattr(self, name)
            ours.values[: len(self)] = theirs.values
            pending = np.isin(hull._keys, self._keys[theirs.pending]) | _hold_any(hull._keys, new._keys)
            ours.pending = np.flatnonzero(pending)
        return hull

    def save(self, path: str) -> None:
        """Write the entries as one Arrow IPC file (23 bytes an entry and its id), which `load` maps into memory."""
        write_file(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes that `save` writes."""
        sink = pa.BufferOutputStream()
        self._write(sink)
        return sink.getvalue().to_pybytes()

    def _write(self, sink: pa.NativeFile) -> None:
        with pa.ipc.new_file(sink, self.table.schema) as writer:
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

    def compositions(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, 95) amounts of the entries `rows` (n,), as given."""
        amounts = np.zeros((len(rows), N_COLUMNS))
        for line, row in zip(amounts, rows, strict=True):
            part = slice(self._starts[row], self._starts[row + 1])
            line[self._numbers[part]] = self._amounts[part]
        return amounts

    def has_references(self, compositions: np.ndarray) -> np.ndarray:
        """(n,) whether every element of a composition has an elemental entry, so that it can be queried."""
        known = np.isin(np.arange(compositions.shape[1]), list(self.elements))
        return np.asarray(~(np.asarray(compositions)[:, ~known] > 0).any(axis=1))

    def vertices(self) -> Hull:
        """The hull of those entries alone that lie on it: the same energy and decomposition of every composition.

        The larger a set, the fewer these are: a third of 31,000 entries of the Materials Project. Energies of what an
        entry would separate into need all.
        """
        on_hull = self.entry_e_above_hull() <= MAYBE_VERTEX
        return Hull(self.table.filter(pa.array(on_hull)), cache_bytes=self.cache_bytes)

    # ---- queries --------------------------------------------------------------------------------------------------

    def e_hull(self, compositions: np.ndarray) -> np.ndarray:
        """(n,) energy of the hull, eV/atom, at compositions (n, 95).

        Raises MissingReference naming the elements without elemental entry; ValueError for unusable rows.
        """
        if (alone := _alone(compositions)) is not None:
            return self._energies_of_system(*alone)
        starts, numbers, amounts = sparse(compositions)
        keys = _system_keys(starts, numbers)
        if len(keys) and (keys == keys[0]).all():  # queries of one system: nothing to sort
            return self._energies_of_system(keys[0], amounts.reshape(len(keys), -1))
        keys, inverse = np.unique(keys, return_inverse=True)
        self._check_references(b"".join(keys.tolist()), "queried compositions")
        order = np.argsort(inverse, kind="stable")
        bounds = np.append(0, np.cumsum(np.bincount(inverse, minlength=len(keys))))
        energies = np.empty(len(order))
        for position, key in enumerate(keys.tolist()):
            group = order[slice(*bounds[position : position + 2])]
            energies[group] = self._energies_of_system(key, amounts[starts[group, None] + np.arange(len(key))])
        return energies

    def _energies_of_system(self, key: bytes, amounts: np.ndarray) -> np.ndarray:
        """(q,) eV/atom at amounts (q, k) of the elements of `key`."""
        self._check_references(key, "queried compositions")
        return self._system(key).hull_energies(amounts / amounts.sum(axis=1, keepdims=True))

    def e_above_hull(self, compositions: np.ndarray, e_form: np.ndarray) -> np.ndarray:
        """(n,) decomposition energies e_form - e_hull, eV/atom, of formation energies (n,) at compositions (n, 95).

        Signed: negative lies below the current hull, and would be on the new one. A NaN energy gives NaN.
        """
        return np.asarray(e_form, np.float64) - self.e_hull(compositions)

    def decomposition(self, composition: np.ndarray) -> list[Decomposition]:
        """The stable phases a composition (95,) separates into, largest atom fraction first (they sum to 1)."""
        _, numbers, amounts = sparse(np.asarray(composition)[None])
        return self._system(numbers.tobytes()).decomposition(amounts / amounts.sum())

    def system_of(self, entry: int) -> tuple[System, np.ndarray]:
        """The hull of an entry's chemical system, and its composition (95,) as given.

        Raises MissingReference naming the elements without elemental entry.
        """
        composition = self.compositions([entry])[0]
        key = bytes(np.flatnonzero(composition).tolist())
        self._check_references(key, f"system {'-'.join(SYMBOLS[z] for z in key)}")
        return self._system(key), composition

    def competing_phases(self, entry: int) -> list[Decomposition]:
        """What the entry would separate into if no entry of its composition existed; [] for an element.

        The reaction behind the phase-separation energy: for a member of the hull, that of its equilibrium with its
        neighbours on it. Raises MissingReference naming the elements without elemental entry.
        """
        system, composition = self.system_of(entry)
        if len(system.elements) == 1:
            return []
        return system.decomposition_without(composition[list(system.elements)] / composition.sum())

    # ---- columns over the entries ---------------------------------------------------------------------------------

    @cached_property
    def _above(self) -> _Column:
        """Distance to the hull of all entries."""
        return _Column.pending_all(len(self), len(self._keys))

    @cached_property
    def _without(self) -> _Column:
        """Hull energy, at the entry's composition, of all entries of other compositions."""
        return _Column.pending_all(len(self), len(self._keys))

    def entry_e_above_hull(self) -> np.ndarray:
        """(n,) e_above_hull of every entry against all entries, itself among them; never below -1e-7 eV/atom.

        Entries whose elements lack an elemental entry have no hull: NaN.
        """
        above = self._above
        for key, own in self._pending_systems(above):
            above.values[own] = self.e_form[own] - self._system(key).hull_energies(self._fractions(own, key))
        return above.values.copy()

    def recall(self, e_above_hull: np.ndarray, phase_separation: np.ndarray) -> None:
        """Take over what `entry_e_above_hull` and `entry_e_above_others` gave of these very entries, (n,) eV/atom.

        With it, `extended` measures only the entries of systems that its new entries change.
        """
        none = np.zeros(0, np.int64)
        self._above = _Column(np.array(e_above_hull, np.float64), none)
        self._without = _Column(self.e_form - np.asarray(phase_separation, np.float64), none)

    def stable_mask(self, tolerance: float = ON_HULL) -> np.ndarray:
        """(n,) bool: on the hull within `tolerance` eV/atom; of one composition only the lowest, then the first id."""
        near = np.flatnonzero(self.entry_e_above_hull() <= tolerance)
        by_id = pc.rank(self.ids, tiebreaker="dense").to_numpy()[near]
        order = np.lexsort((by_id, self.e_form[near], self._composition_numbers[near]))
        mask = np.zeros(len(self), bool)
        mask[near[order[_first_of_each(self._composition_numbers[near][order])]]] = True
        return mask

    def entry_e_above_others(self, *, without_polymorphs: bool = False) -> np.ndarray:
        """(n,) e_above_hull of every entry against all entries but itself; negative is the depth of a hull member.

        without_polymorphs: leave out every entry of its composition too: the phase-separation energy.
        NaN where what is left no longer holds an elemental entry (an element's only phase), or never did.
        """
        others = self._energies_without_composition()
        if not without_polymorphs:
            others = np.fmin(others, self._rival_energies())
        known = ~np.isnan(self.entry_e_above_hull())
        return np.where(known, self.e_form - others, np.nan)

    def _energies_without_composition(self) -> np.ndarray:
        """(n,) hull energy, eV/atom, of all other compositions at each entry's; NaN for elements."""
        above = self.entry_e_above_hull()
        without = self._without
        for key, own in self._pending_systems(without):
            if len(key) == 1:
                continue
            without.values[own] = self.e_form[own] - above[own]
            # Above the hull a composition is no vertex: leaving it out changes nothing.
            near = own[above[own] <= MAYBE_VERTEX]
            system = self._system(key)
            at = np.searchsorted(system.rows[len(key) :], near) + len(key)
            vertex = system.rows[np.minimum(at, len(system.rows) - 1)] == near
            lowest, at = near[vertex], at[vertex]
            if not len(lowest):
                continue
            energies = system.energies_without(at)
            same = self._composition_numbers[own][:, None] == self._composition_numbers[lowest]
            row, which = np.nonzero(same)
            without.values[own[row]] = energies[which]
        return without.values

    def _rival_energies(self) -> np.ndarray:
        """(n,) lowest energy, eV/atom, of another entry of the same composition; NaN where there is none."""
        numbers = self._composition_numbers
        order = np.lexsort((self.e_form, numbers))
        first = _first_of_each(numbers[order])
        lowest = self.e_form[order[first]]
        second = np.full(len(lowest), np.nan)
        repeated = np.flatnonzero(~first & np.roll(first, 1))  # positions right after a first
        second[numbers[order[repeated]]] = self.e_form[order[repeated]]
        rivals = lowest[numbers]
        rivals[order[first]] = second
        return rivals

    @cached_property
    def _composition_numbers(self) -> np.ndarray:
        """(n,) int: equal for entries of equal composition, 0.. without gaps."""
        if not len(self):
            return np.zeros(0, np.int64)
        lengths = np.diff(self._starts)
        rows = np.repeat(np.arange(len(self)), lengths)
        place = np.arange(len(rows)) - self._starts[rows]
        columns = np.zeros((2 * int(lengths.max()), len(self)))
        totals = np.bincount(rows, self._amounts, len(self))
        columns[2 * place, rows] = self._numbers
        columns[2 * place + 1, rows] = np.round(self._amounts / totals[rows], SAME_COMPOSITION)
        order = np.lexsort(columns)
        first = np.append(True, (columns[:, order[1:]] != columns[:, order[:-1]]).any(axis=0))
        numbers = np.empty(len(self), np.int64)
        numbers[order] = np.cumsum(first) - 1
        return numbers

    # ---- chemical systems -----------------------------------------------------------------------------------------

    def _pending_systems(self, column: _Column) -> Iterator[tuple[bytes, np.ndarray]]:
        """(key, rows of its own entries) of each system that `column` lacks and that has all elemental entries."""
        keys = self._keys[column.pending].tolist()
        for key, at in zip(keys, column.pending.tolist(), strict=True):
            if self.elements.issuperset(key):
                yield key, self._order[self._bounds[at] : self._bounds[at + 1]]
        column.pending = column.pending[:0]

    def check_references(self) -> None:
        """Raises MissingReference, naming the elements that entries hold but that have no elemental entry."""
        self._check_references(b"".join(self._keys.tolist()), "entries of the hull")

    def _check_references(self, numbers: bytes, where: str) -> None:
        missing = set(numbers) - self.elements
        if missing:
            raise MissingReference(sorted(missing), where, "add its elemental entry to the hull, or drop these rows")

    def _system(self, key: bytes) -> System:
        """The lower hull of a chemical system (its sorted atomic numbers), from the cache or built."""
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        self._check_references(key, f"system {'-'.join(SYMBOLS[z] for z in key)}")
        system = lower_hull(key, *self._members(key))
        self._remember(key, system)
        return system

    def _remember(self, key: bytes, system: System) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = system
                self._cached_bytes += system.nbytes
            while self._cached_bytes > self.cache_bytes and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes

    def _members(self, key: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows (m,) in order, fractions (m, k) and formation energies (m,) of all entries within a system."""
        sizes = range(1, min(len(key), self._largest) + 1)
        subsets = np.array([bytes(part) for n in sizes for part in combinations(key, n)], self._keys.dtype)
        at = np.searchsorted(self._keys, subsets)
        at = at[self._keys[np.minimum(at, len(self._keys) - 1)] == subsets]
        rows = np.sort(np.concatenate([self._order[self._bounds[i] : self._bounds[i + 1]] for i in at]))
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


def _alone(compositions: np.ndarray) -> tuple[bytes, np.ndarray] | None:
    """(key, amounts (1, k)) of a single usable composition, for which `sparse` takes longer than its hull does."""
    if np.shape(compositions) != (1, N_COLUMNS):
        return None
    row = np.asarray(compositions, np.float64)[0]
    numbers = row.nonzero()[0].tolist()
    amounts = row[numbers]
    usable = numbers and numbers[0] and all(0 < amount < np.inf for amount in amounts.tolist())
    return (bytes(numbers), amounts[None]) if usable else None


def _hold_any(keys: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """(n,) bool: whether a system holds all elements of at least one of the systems `parts`."""
    ours, theirs = _element_bits(keys), _element_bits(parts)
    holds = np.zeros(len(keys), bool)
    for bits in theirs:
        holds |= ((ours & bits) == bits).all(axis=1)
    return holds


def _element_bits(keys: np.ndarray) -> np.ndarray:
    """(n, 2) uint64 with the bits of each system's atomic numbers set."""
    numbers = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), keys.dtype.itemsize)
    bits = np.zeros((len(keys), 2), np.uint64)
    for column in numbers.T.astype(np.uint64):
        present = column > 0
        half, bit = column // np.uint64(64), np.uint64(1) << column % np.uint64(64)
        for side in (0, 1):
            bits[:, side] |= np.where(present & (half == side), bit, np.uint64(0))
    return bits


def _first_of_each(ordered: np.ndarray) -> np.ndarray:
    """(n,) bool: the first of each run of equal values."""
    return np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]


def _one_scale(scales: set[str]) -> str:
    named = sorted(scales - {""})
    if len(named) > 1:
        raise ValueError(f"entries of several energy scales: {', '.join(named)}; a hull holds one")
    return "".join(named)


def _check_distinct(ids: pa.Array | pa.ChunkedArray) -> None:
    if pc.count_distinct(ids).as_py() == len(ids):
        return
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
