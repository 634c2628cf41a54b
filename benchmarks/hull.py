"""Decomposition energies: our hull beside pymatgen's PhaseDiagram, one thread, CPU seconds.

Both get the same entries and queries; a ratio is printed only after the answers agree to 1e-6 eV/atom. Random systems
of 2 to 6 elements, real ones (with ../shared/data), a whole snapshot at once (pymatgen: PatchedPhaseDiagram), first
queries of a million entries made of it, and the size of two million entries. Ends with one line of JSON.

    python benchmarks/hull.py [--quick]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import re
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.analysis.phase_diagram import PatchedPhaseDiagram, PDEntry, PhaseDiagram
from pymatgen.core import Composition

from gnome_core.compositions.dense import N_COLUMNS, SparseCompositions, atom_counts, sparse
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS
from gnome_core.stability.hull import Hull

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
POOL = ["Li", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Fe", "O", "Mn", "Ti", "Ba", "La", "F", "Zn"]
Z = np.array([NUMBERS[symbol] for symbol in POOL])
# Systems of the shared snapshot with many entries, one a number of elements.
REAL = ("Si-O", "Li-Mn-O", "Li-Mn-P-O", "Li-Mn-Fe-P-O", "Li-Na-Mn-Fe-P-O")
BROKEN = 4.7  # eV/atom: formation energies beyond are broken labels of the shared snapshot
TOLERANCE = 1e-6  # eV/atom
MEASURED = ("build", "query", "single")


def random_entries(
    elements: np.ndarray, n: int, rng: np.random.Generator, largest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts (n + k, 95) and formation energies: k elements at 0, then n distinct compounds near an ideal mixture."""
    rows, energies, seen = [], [], set()
    for z in elements:
        rows.append(np.bincount([z], minlength=N_COLUMNS))
        energies.append(0.0)
    while len(rows) < n + len(elements):
        row = np.zeros(N_COLUMNS, int)
        chosen = rng.choice(elements, rng.integers(2, largest + 1), replace=False)
        row[chosen] = rng.integers(1, 7 if len(elements) > 2 else 30, len(chosen))
        row //= np.gcd.reduce(row[chosen])
        if row.tobytes() in seen:
            continue
        seen.add(row.tobytes())
        x = row[chosen] / row.sum()
        rows.append(row)
        energies.append(float((x * np.log(x)).sum() * rng.uniform(0.6, 1.0)))
    return np.array(rows, float), np.array(energies)


def snapshot_entries(systems: set[str] | None, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Counts and formation energies of the shared Materials Project snapshot within the elements `systems` (None: all),
    at most n of them, after the elements at 0."""
    table = pq.read_table(SHARED / "mp_structures.parquet", columns=["chemsys", "numbers", "e_form_per_atom"])
    energies = table["e_form_per_atom"].to_numpy()
    inside = np.abs(energies) < BROKEN
    if systems is not None:
        inside &= np.array([set(chemsys.split("-")) <= systems for chemsys in table["chemsys"].to_pylist()])
    rows = np.flatnonzero(inside)
    if n is not None:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:n])
    counts = atom_counts(table["numbers"].take(rows))
    elements = np.eye(N_COLUMNS)[np.flatnonzero(counts.any(axis=0))]
    return np.vstack([elements, counts]), np.append(np.zeros(len(elements)), energies[rows])


def pymatgen_entries(counts: np.ndarray, e_form: np.ndarray) -> list[PDEntry]:
    entries = []
    for row, energy in zip(counts, e_form, strict=True):
        composition = Composition({SYMBOLS[int(z)]: int(row[z]) for z in np.flatnonzero(row)})
        entries.append(PDEntry(composition, energy * composition.num_atoms))
    return entries


def make(counts: np.ndarray, e_form: np.ndarray) -> Hull:
    return Hull.from_entries([str(row) for row in range(len(counts))], counts, e_form, "benchmark")


def cpu_seconds(call: Callable, repeat: int = 1) -> tuple[float, object]:
    """Least CPU time of `repeat` calls, s, and the last answer."""
    best = np.inf
    for _ in range(repeat):
        start = time.process_time()
        answer = call()
        best = min(best, time.process_time() - start)
    return best, answer


def agree(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference, eV/atom."""
    difference = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"answers differ by {difference:.2e} eV/atom")
    return difference


def one_system(counts: np.ndarray, e_form: np.ndarray, n_queries: int, rng: np.random.Generator) -> dict:
    """Build and query one system. Our queries come in batches of 2,000 and one by one, pymatgen's one by one.

    Compared: energies and decompositions of new compositions, energies above the hull of all entries, and phase
    separation energies.
    """
    elements = np.flatnonzero(counts.any(axis=0))
    k = len(elements)
    queries, query_e = random_entries(elements, n_queries, rng, k)
    queries, query_e = queries[k:], query_e[k:]
    entries, theirs = pymatgen_entries(counts, e_form), pymatgen_entries(queries, query_e)
    every = np.where(np.isin(np.arange(N_COLUMNS), elements), 1.0, 0.0)[None]

    pd_build, diagram = cpu_seconds(lambda: PhaseDiagram(entries), 3)
    pd_query, answers = cpu_seconds(
        lambda: [diagram.get_decomp_and_e_above_hull(entry, allow_negative=True) for entry in theirs]
    )

    def build() -> Hull:
        fresh = make(counts, e_form)
        fresh.e_hull(every)
        return fresh

    our_build, hull = cpu_seconds(build, 3)
    difference = agree(hull.e_above_hull(queries, query_e), [above for _, above in answers])
    difference = max(difference, agree(hull.entry_e_above_hull(), [diagram.get_e_above_hull(e) for e in entries]))
    for query, (decomposition, _) in zip(queries, answers, strict=True):
        ours = {formula(hull.compositions([p.entry])[0]): p.atom_fraction for p in hull.decomposition(query)}
        agree_on_products(hull, query, ours, {e.composition.reduced_formula: x for e, x in decomposition.items()})
    members = [entry for entry in diagram.stable_entries if len(entry.composition) > 1][:20]
    rows = [entries.index(entry) for entry in members]
    depths = hull.entry_e_above_others(without_polymorphs=True)[rows]
    if members:
        difference = max(difference, agree(depths, [diagram.get_phase_separation_energy(entry) for entry in members]))

    batch = np.tile(queries[np.count_nonzero(queries, axis=1) == k], (2000, 1))[:2000]
    our_query, _ = cpu_seconds(lambda: [hull.e_hull(batch) for _ in range(5)], 3)
    our_single, _ = cpu_seconds(lambda: [hull.e_hull(query[None]) for query in queries], 3)
    return {
        "elements": k,
        "entries": len(counts),
        "build": pd_build / our_build,
        "query": (5 * len(batch) / our_query) / (len(theirs) / pd_query),
        "single": pd_query / our_single,
        "ours_per_s": 5 * len(batch) / our_query,
        "pymatgen_per_s": len(theirs) / pd_query,
        "build_ms": 1e3 * our_build,
        "pymatgen_build_ms": 1e3 * pd_build,
        "difference": difference,
    }


def formula(counts: np.ndarray) -> str:
    return Composition({SYMBOLS[int(z)]: int(counts[z]) for z in np.flatnonzero(counts)}).reduced_formula


def agree_on_products(hull: Hull, query: np.ndarray, ours: dict[str, float], theirs: dict[str, float]) -> None:
    """Equal products and amounts (1e-6 of the atoms); where several decompositions tie, one of equal energy will do."""
    theirs = {name: amount for name, amount in theirs.items() if amount > 1e-8}
    if set(ours) == set(theirs) and all(abs(ours[name] - theirs[name]) < 1e-6 for name in ours):
        return
    energies = [
        sum(p.atom_fraction * hull.e_form[p.entry] for p in hull.decomposition(query)),
        hull.e_hull(query[None]),
    ]
    agree(energies[0], energies[1])
    if not np.isclose(sum(ours.values()), 1.0):
        raise SystemExit(f"decomposition {ours} instead of {theirs}")


def reference_entries() -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """The 943 entries of Fe-Li-O-P with stored answers: table, counts, formation energies."""
    table = pq.read_table(SHARED / "hull_reference_Fe-Li-O-P.parquet")
    table = table.filter(pa.compute.is_valid(table["e_form_per_atom_corrected"]))
    return table, atom_counts(table["numbers"]), table["e_form_per_atom_corrected"].to_numpy()


def stored_answers() -> dict:
    """All entries of Fe-Li-O-P against the answers stored with them: energies, products and amounts."""
    table, counts, e_form = reference_entries()
    ids = table["id"].to_pylist()
    hull = Hull.from_entries(ids, counts, e_form, "mp2020")
    difference = agree(hull.entry_e_above_hull(), table["e_above_hull_pymatgen"].to_numpy())
    for composition, stored in zip(counts, table["decomposition_pymatgen"].to_pylist(), strict=True):
        ours = {ids[p.entry]: p.atom_fraction for p in hull.decomposition(composition)}
        theirs = {name: float(amount) for amount, name in re.findall(r"([\d.]+) (\S+)", stored)}
        # The stored amounts have four decimals.
        if set(ours) != set(theirs) or max(abs(ours[name] - theirs[name]) for name in ours) > 6e-5:
            raise SystemExit(f"decomposition {ours} instead of {theirs}")
    return {"entries": len(ids), "difference": difference}


def whole_snapshot(counts: np.ndarray, e_form: np.ndarray) -> dict:
    """Make the hull of all systems and measure every entry: above the hull, without itself, phase separation."""
    entries = pymatgen_entries(counts, e_form)
    pd_build, patched = cpu_seconds(lambda: PatchedPhaseDiagram(entries, verbose=False))
    pd_own, own = cpu_seconds(lambda: [patched.get_e_above_hull(entry) for entry in entries])

    def update() -> np.ndarray:
        hull = make(counts, e_form)
        above = hull.entry_e_above_hull()
        hull.entry_e_above_others()
        hull.entry_e_above_others(without_polymorphs=True)
        return above

    ours, above = cpu_seconds(update)
    above_only, _ = cpu_seconds(lambda: make(counts, e_form).entry_e_above_hull())
    return {
        "entries": len(counts),
        "update": (pd_build + pd_own) / above_only,
        "ours_s": ours,
        "above_s": above_only,
        "pymatgen_s": pd_build + pd_own,
        "difference": agree(above, own),
    }


def two_million(n: int = 2_000_000) -> dict:
    """Bytes of n entries of 2 to 6 elements, ids like "mp-1234567": the file, and what a process holds beside it."""
    rng = np.random.default_rng(0)
    lengths = np.append(np.ones(94, int), rng.choice([2, 3, 4, 5, 6], n, p=[0.1, 0.4, 0.3, 0.15, 0.05]))
    starts = np.append(0, np.cumsum(lengths))
    # Ascending atomic numbers by steps of 1 to 15.
    steps = rng.integers(1, 16, starts[-1])
    steps[:94] = np.arange(1, 95)
    total = np.cumsum(steps)
    numbers = (total - np.repeat(total[starts[:-1]] - steps[starts[:-1]], lengths)).astype(np.uint8)
    counts = rng.integers(1, 9, starts[-1]).astype(np.float64)
    ids = pa.array([f"mp-{i}" for i in range(len(lengths))])
    hull = Hull.from_entries(ids, SparseCompositions(starts, numbers, counts), -rng.random(len(lengths)), "random")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hull.arrow")
        hull.save(str(path))
        loaded_s, loaded = cpu_seconds(lambda: Hull.load(str(path)))
        arrays = [array for array in vars(loaded).values() if isinstance(array, np.ndarray) and array.base is None]
        file_mb, own_mb = path.stat().st_size / 1e6, sum(array.nbytes for array in arrays) / 1e6
    return {"entries": n, "file_mb": file_mb, "process_mb": own_mb, "load_s": loaded_s}


def first_queries(n: int, n_queries: int = 1_000) -> dict:
    """Microseconds of the first query of a system, by all of n entries and by those alone that are vertices.

    The entries are those of the snapshot, again and again with an atom more of an element and up to 0.3 eV/atom higher;
    a query is an entry's composition with one element in another's place.
    """
    rng = np.random.default_rng(0)
    counts, e_form = snapshot_entries(None)
    own = sparse(counts)
    copies = -(-n // len(counts)) - 1
    lengths, numbers, more = (np.tile(part, copies) for part in (np.diff(own.starts), own.numbers, own.amounts))
    more[np.cumsum(lengths) - lengths + rng.integers(lengths)] += 1
    higher = np.tile(e_form, copies) + 0.3 * rng.random(len(lengths))
    compound = lengths > 1
    kept = np.repeat(compound, lengths)
    parts = SparseCompositions(
        np.append(own.starts, own.starts[-1] + np.cumsum(lengths[compound])),
        np.concatenate([own.numbers, numbers[kept]]),
        np.concatenate([own.amounts, more[kept]]),
    )
    ids = pa.array([str(row) for row in range(len(parts.starts) - 1)])
    hull = Hull.from_entries(ids, parts, np.append(e_form, higher[compound]), "benchmark")
    whole_s, _ = cpu_seconds(hull.entry_e_above_hull)
    vertices = Hull(hull.vertices().table)
    queries = counts[rng.permutation(np.flatnonzero((counts > 0).sum(axis=1) > 2))[:n_queries]]
    elements = np.flatnonzero(counts.any(axis=0))
    for query in queries:
        old, new = rng.choice(np.flatnonzero(query)), rng.choice(elements[query[elements] == 0])
        query[[old, new]] = query[[new, old]]
    found = {}
    for name, asked in (("whole", Hull(hull.table)), ("vertices", vertices)):
        seconds, found[name] = cpu_seconds(lambda asked=asked: [asked.e_hull(query[None]) for query in queries])
        found[f"{name}_us"] = 1e6 * seconds / len(queries)
    agree(found.pop("whole"), found.pop("vertices"))
    return {"entries": len(hull), "vertices": len(vertices), "all_entries_s": whole_s, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sets, under a minute")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore")
    ratios: dict[str, float] = {}
    print(f"{'system':>20}{'entries':>9}{'build':>20}{'query':>34}")

    def line(name: str, key: str, row: dict) -> None:
        print(
            f"{name:>20}{row['entries']:9}{row['pymatgen_build_ms']:9.1f} /{row['build_ms']:6.1f} ms"
            f"{row['pymatgen_per_s']:12,.0f} /{row['ours_per_s']:12,.0f} per s   x{row['query']:,.0f}"
            f", one by one x{row['single']:,.0f}   differ by {row['difference']:.0e}"
        )
        ratios.update({f"{name}_{key}": round(row[name], 2 if name == "build" else None) for name in MEASURED})

    for k, n_entries in ((2, 40), (3, 60), (4, 300), (5, 300), (6, 300)):
        rng = np.random.default_rng(k)
        line(f"random, {k} elements", str(k), one_system(*random_entries(Z[:k], n_entries, rng, k), 100, rng))
    if SHARED.exists():
        for system in REAL:
            elements = set(system.split("-"))
            row = one_system(*snapshot_entries(elements), 50, np.random.default_rng(0))
            line(system, f"real_{len(elements)}", row)
        _, *entries = reference_entries()
        line("Fe-Li-O-P, stored", "stored_4", one_system(*entries, 50, np.random.default_rng(0)))
        row = stored_answers()
        print(f"Fe-Li-O-P: {row['entries']} stored energies and decompositions, differ by {row['difference']:.0e}")
        row = whole_snapshot(*snapshot_entries(None, 3_000 if quick else None))
        first = first_queries(60_000 if quick else 1_000_000)
        print(
            f"{first['entries']:,} entries, {first['vertices']:,} of them vertices: the first query of a system takes "
            f"{first['whole_us']:.0f} us of all entries, {first['vertices_us']:.0f} us of the vertices"
        )
        ratios["first_query_of_vertices"] = round(first["whole_us"] / first["vertices_us"], 2)
    else:
        print("no ../shared/data: real systems are left out")
        row = whole_snapshot(*random_entries(Z, 1500 if quick else 4000, np.random.default_rng(16), 4))
    print(
        f"snapshot of {row['entries']} entries: pymatgen {row['pymatgen_s']:.1f} s, ours {row['above_s']:.2f} s "
        f"({row['ours_s']:.2f} s with all-but-itself and phase separation), differ by {row['difference']:.0e}"
    )
    ratios["snapshot"] = round(row["update"], 1)
    size = two_million(200_000 if quick else 2_000_000)
    print(
        f"{size['entries']:,} entries: file {size['file_mb']:.0f} MB, beside it {size['process_mb']:.0f} MB a process"
    )
    print(
        json.dumps(
            {
                "benchmark": "hull",
                "against": "pymatgen",
                "ratios": ratios,
                "snapshot": {name: round(value, 9) for name, value in row.items()},
                "size": {name: round(value, 2) for name, value in size.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
