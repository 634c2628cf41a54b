"""Decomposition energies: our hull beside pymatgen's PhaseDiagram, one thread, CPU seconds.

Both get the same entries and queries; a ratio is printed only after the answers agree to 1e-6 eV/atom. Random systems
of 3 to 6 elements, then many chemical systems at once (pymatgen: PatchedPhaseDiagram). Ends with one line of JSON.

    python benchmarks/hull.py [--quick]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
import warnings
from collections.abc import Callable

import numpy as np
from pymatgen.analysis.phase_diagram import PatchedPhaseDiagram, PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from gnome_core.stability.compositions import N_COLUMNS
from gnome_core.stability.hull import Hull

POOL = ["Li", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Fe", "O", "Mn", "Ti", "Ba", "La", "F", "Zn"]
Z = np.array([Element(symbol).Z for symbol in POOL])
TOLERANCE = 1e-6  # eV/atom


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
        row[chosen] = rng.integers(1, 7, len(chosen))
        row //= np.gcd.reduce(row[chosen])
        if row.tobytes() in seen:
            continue
        seen.add(row.tobytes())
        x = row[chosen] / row.sum()
        rows.append(row)
        energies.append(float((x * np.log(x)).sum() * rng.uniform(0.6, 1.0)))
    return np.array(rows, float), np.array(energies)


def pymatgen_entries(counts: np.ndarray, e_form: np.ndarray) -> list[PDEntry]:
    symbols = {int(z): symbol for z, symbol in zip(Z, POOL, strict=True)}
    entries = []
    for row, energy in zip(counts, e_form, strict=True):
        composition = Composition({symbols[int(z)]: int(row[z]) for z in np.flatnonzero(row)})
        entries.append(PDEntry(composition, energy * composition.num_atoms))
    return entries


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
    if difference > TOLERANCE:
        raise SystemExit(f"answers differ by {difference:.2e} eV/atom")
    return difference


def one_system(k: int, n_entries: int, n_queries: int) -> dict:
    """Build and query one system of k elements. Our queries come in batches of 2,000, pymatgen's one by one."""
    rng = np.random.default_rng(k)
    counts, e_form = random_entries(Z[:k], n_entries, rng, k)
    queries, query_e = random_entries(Z[:k], n_queries, rng, k)
    entries = pymatgen_entries(counts, e_form)
    theirs = pymatgen_entries(queries, query_e)

    pd_build, diagram = cpu_seconds(lambda: PhaseDiagram(entries))
    pd_query, answers = cpu_seconds(
        lambda: [diagram.get_decomp_and_e_above_hull(entry, allow_negative=True)[1] for entry in theirs]
    )
    hull = Hull.from_entries([str(row) for row in range(len(counts))], counts, e_form, "random")
    full = queries.sum(axis=1) > 0

    def build() -> Hull:
        fresh = Hull.from_entries(hull.ids, counts, e_form, "random")
        fresh.e_hull(np.where(np.isin(np.arange(N_COLUMNS), Z[:k]), 1.0, 0.0)[None])
        return fresh

    our_build, hull = cpu_seconds(build, 3)
    difference = agree(hull.e_above_hull(queries, query_e), answers)
    batch = np.tile(queries[full & (np.count_nonzero(queries, axis=1) == k)], (2000, 1))[:2000]
    our_query, _ = cpu_seconds(lambda: [hull.e_hull(batch) for _ in range(5)], 3)
    products = hull.decomposition(queries[-1])
    expected = {entry.name: amount for entry, amount in diagram.get_decomposition(theirs[-1].composition).items()}
    agree(sorted(p.atom_fraction for p in products), sorted(expected.values()))
    return {
        "elements": k,
        "entries": len(counts),
        "build": pd_build / our_build,
        "query": (5 * len(batch) / our_query) / (len(theirs) / pd_query),
        "ours_per_s": 5 * len(batch) / our_query,
        "pymatgen_per_s": len(theirs) / pd_query,
        "build_ms": 1e3 * our_build,
        "pymatgen_build_ms": 1e3 * pd_build,
        "max_difference": difference,
    }


def many_systems(n_entries: int, n_queries: int) -> dict:
    """All systems of up to 4 of 16 elements: build everything and query every entry once, and new compositions."""
    rng = np.random.default_rng(16)
    counts, e_form = random_entries(Z, n_entries, rng, 4)
    queries, query_e = random_entries(Z, n_queries, rng, 4)
    entries, theirs = pymatgen_entries(counts, e_form), pymatgen_entries(queries, query_e)
    pd_build, patched = cpu_seconds(lambda: PatchedPhaseDiagram(entries, verbose=False))
    pd_query, answers = cpu_seconds(
        lambda: [patched.get_decomp_and_e_above_hull(entry, allow_negative=True)[1] for entry in theirs]
    )
    pd_own, own = cpu_seconds(lambda: [patched.get_e_above_hull(entry) for entry in entries])
    ours, hull = cpu_seconds(
        lambda: Hull.from_entries([str(row) for row in range(len(counts))], counts, e_form, "random")
    )
    our_update, above = cpu_seconds(hull.entry_e_above_hull)
    our_query, mine = cpu_seconds(lambda: hull.e_above_hull(queries, query_e))
    return {
        "entries": len(counts),
        "update": (pd_build + pd_own) / (ours + our_update),
        "query_cold": (pd_query / our_query),
        "update_s": ours + our_update,
        "patched_s": pd_build + pd_own,
        "max_difference": max(agree(mine, answers), agree(above, own)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sets, under a minute")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore")
    ratios = {}
    print(f"{'elements':>9}{'entries':>9}{'build':>18}{'query':>30}")
    for k, n_entries in ((3, 60), (4, 300), (5, 300), (6, 300)):
        row = one_system(k, n_entries, 100)
        print(
            f"{k:9}{row['entries']:9}{row['pymatgen_build_ms']:8.1f} /{row['build_ms']:6.1f} ms"
            f"{row['pymatgen_per_s']:12,.0f} /{row['ours_per_s']:12,.0f} per s   x{row['query']:,.0f}"
        )
        ratios[f"build_{k}"], ratios[f"query_{k}"] = round(row["build"], 2), round(row["query"])
    row = many_systems(1500 if quick else 4000, 300)
    print(f"{row['entries']} entries of 16 elements: {row['patched_s']:.1f} s / {row['update_s']:.2f} s")
    ratios["update_many_systems"], ratios["query_many_systems_cold"] = (
        round(row["update"], 1),
        round(row["query_cold"], 1),
    )
    print(json.dumps({"benchmark": "hull", "against": "pymatgen", "ratios": ratios}))


if __name__ == "__main__":
    main()
