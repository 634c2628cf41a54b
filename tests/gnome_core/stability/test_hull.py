import pickle
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from gnome_core.compositions.dense import N_COLUMNS, MissingReference, atom_counts, sparse, sparse_atom_counts
from gnome_core.stability import facets as geometry
from gnome_core.stability.hull import Hull

REPO = Path(__file__).parents[3]
FE_LI_O_P = REPO.parent / "shared" / "data" / "hull_reference_Fe-Li-O-P.parquet"
POOL = [3, 8, 26, 15, 12, 17, 22, 56, 7, 13]  # Li O Fe P Mg Cl Ti Ba N Al


def row(**amounts: float) -> np.ndarray:
    """row(Li=2, O=1) -> (95,)"""
    composition = np.zeros(N_COLUMNS)
    for symbol, amount in amounts.items():
        composition[Element(symbol).Z] = amount
    return composition


def random_system(k: int, n: int, seed: int, grid: int = 5, depth: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """k elements at 0 and n compounds (compositions may repeat), (n + k, 95) counts and (n + k,) eV/atom."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n, N_COLUMNS))
    for compound in counts:
        chosen = rng.choice(POOL[:k], rng.integers(min(2, k), k + 1), replace=False)
        compound[chosen] = rng.integers(1, grid, len(chosen))
    x = counts / counts.sum(axis=1, keepdims=True)
    mixing = (x * np.log(np.where(x > 0, x, 1))).sum(axis=1)
    elements = np.eye(N_COLUMNS)[POOL[:k]]
    return np.vstack([elements, counts]), np.append(np.zeros(k), mixing * rng.uniform(depth, 1.0, n))


def make(counts: np.ndarray, e_form: np.ndarray) -> Hull:
    return Hull.from_entries([f"e{i}" for i in range(len(counts))], counts, e_form, "test")


def diagram(counts: np.ndarray, e_form: np.ndarray) -> tuple[PhaseDiagram, list[PDEntry]]:
    entries = [
        PDEntry(Composition({Element.from_Z(int(z)): c[z] for z in np.flatnonzero(c)}), e * c.sum(), name=f"e{i}")
        for i, (c, e) in enumerate(zip(counts, e_form, strict=True))
    ]
    return PhaseDiagram(entries), entries


@pytest.mark.parametrize(("k", "n"), [(2, 15), (3, 50), (4, 80), (5, 60), (6, 40)])
def test_equals_pymatgen_on_random_systems(k, n):
    counts, e_form = random_system(k, n, seed=k)
    queries, query_e = random_system(k, 60, seed=100 + k, grid=9, depth=0.0)
    hull = make(counts, e_form)
    reference, entries = diagram(counts, e_form)
    asked = diagram(queries, query_e)[1]
    expected = [reference.get_decomp_and_e_above_hull(entry, allow_negative=True)[1] for entry in asked]
    np.testing.assert_allclose(hull.e_above_hull(queries, query_e), expected, atol=1e-6)
    expected = [reference.get_e_above_hull(entry) for entry in entries]
    np.testing.assert_allclose(hull.entry_e_above_hull(), expected, atol=1e-6)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_members_against_all_others_equal_pymatgen(k):
    counts, e_form = random_system(k, 25, seed=40 + k)
    reference, entries = diagram(counts, e_form)
    depth = make(counts, e_form).entry_e_above_others(without_polymorphs=True)
    assert np.isnan(depth[:k]).all()  # nothing competes with the only phase of an element
    expected = [reference.get_phase_separation_energy(entry) for entry in entries[k:]]
    np.testing.assert_allclose(depth[k:], expected, atol=1e-6)


def test_all_but_itself_is_the_hull_without_the_entry():
    counts, e_form = random_system(3, 30, seed=7, grid=3)
    against = make(counts, e_form).entry_e_above_others()
    for i in range(3, len(counts)):
        rest = np.arange(len(counts)) != i
        expected = make(counts[rest], e_form[rest]).e_above_hull(counts[i, None], e_form[i, None])[0]
        assert against[i] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("k", "seed"), [(2, 1), (3, 2), (4, 3), (5, 4)])
def test_phase_separation_leaves_out_every_polymorph(k, seed):
    """Against a hull made anew without the composition, for hull members, metastable entries and polymorphs alike."""
    counts, e_form = random_system(k, 40, seed=seed, grid=3)
    counts, e_form = (
        np.vstack([counts, counts[-12:] * 2]),
        np.append(e_form, e_form[-12:] + np.linspace(-0.02, 0.1, 12)),
    )
    hull = make(counts, e_form)
    depth, others = hull.entry_e_above_others(without_polymorphs=True), hull.entry_e_above_others()
    fractions = counts / counts.sum(axis=1, keepdims=True)
    for i in range(k, len(counts)):
        rest = (np.abs(fractions - fractions[i]) > 1e-9).any(axis=1)
        expected = make(counts[rest], e_form[rest]).e_above_hull(counts[i, None], e_form[i, None])[0]
        assert depth[i] == pytest.approx(expected, abs=1e-9)
        rest = np.arange(len(counts)) != i
        expected = make(counts[rest], e_form[rest]).e_above_hull(counts[i, None], e_form[i, None])[0]
        assert others[i] == pytest.approx(expected, abs=1e-9)


def test_phase_separation_by_linear_program(monkeypatch):
    counts, e_form = random_system(4, 30, seed=8)
    expected = make(counts, e_form).entry_e_above_others(without_polymorphs=True)
    monkeypatch.setattr(geometry, "MAX_POINTS", {})
    np.testing.assert_allclose(
        make(counts, e_form).entry_e_above_others(without_polymorphs=True), expected, atol=1e-8, equal_nan=True
    )


def test_competing_phases_carry_the_phase_separation_energy():
    counts, e_form = random_system(4, 60, seed=21)
    hull = make(counts, e_form)
    depth = hull.entry_e_above_others(without_polymorphs=True)
    for entry in np.flatnonzero(hull.stable_mask()):
        products = hull.competing_phases(int(entry))
        if not products:
            assert np.isnan(depth[entry])
            continue
        assert sum(p.atom_fraction for p in products) == pytest.approx(1.0)
        energy = sum(p.atom_fraction * e_form[p.entry] for p in products)
        assert e_form[entry] - energy == pytest.approx(depth[entry], abs=1e-8)


def test_decomposition_equals_pymatgen_and_conserves_energy():
    counts, e_form = random_system(4, 60, seed=3)
    hull = make(counts, e_form)
    reference, _ = diagram(counts, e_form)
    for query in random_system(4, 30, seed=11, grid=9)[0]:
        products = hull.decomposition(query)
        expected = reference.get_decomposition(
            Composition({Element.from_Z(int(z)): query[z] for z in np.flatnonzero(query)})
        )
        assert {f"e{p.entry}": round(p.atom_fraction, 6) for p in products} == {
            entry.name: round(amount, 6) for entry, amount in expected.items()
        }
        energy = sum(p.atom_fraction * e_form[p.entry] for p in products)
        assert energy == pytest.approx(hull.e_hull(query[None])[0], abs=1e-9)


@pytest.mark.skipif(not FE_LI_O_P.exists(), reason="../shared/data is not here")
def test_equals_the_stored_answers_on_fe_li_o_p():
    table = pq.read_table(FE_LI_O_P)
    table = table.filter(pa.compute.is_valid(table["e_form_per_atom_corrected"]))
    counts, e_form = atom_counts(table["numbers"]), table["e_form_per_atom_corrected"].to_numpy()
    ids = table["id"].to_pylist()
    hull = Hull.from_entries(ids, counts, e_form, "mp2020")
    np.testing.assert_allclose(hull.entry_e_above_hull(), table["e_above_hull_pymatgen"].to_numpy(), atol=1e-6)
    for composition, stored in zip(counts, table["decomposition_pymatgen"].to_pylist(), strict=True):
        ours = {ids[p.entry]: p.atom_fraction for p in hull.decomposition(composition)}
        theirs = {name: float(amount) for amount, name in re.findall(r"([\d.]+) (\S+)", stored)}
        assert set(ours) == set(theirs)
        assert all(abs(ours[name] - theirs[name]) < 1e-3 for name in ours)


@pytest.mark.parametrize("k", [3, 5])
def test_linear_program_equals_facets(k, monkeypatch):
    counts, e_form = random_system(k, 40, seed=5)
    queries = random_system(k, 20, seed=6, grid=9)[0]
    by_facets = make(counts, e_form)
    by_program = make(counts, e_form)
    expected = by_facets.e_hull(queries)
    monkeypatch.setattr(geometry, "MAX_POINTS", {})
    np.testing.assert_allclose(by_program.e_hull(queries), expected, atol=1e-8)
    for query in queries[k:]:
        ours, theirs = by_program.decomposition(query), by_facets.decomposition(query)
        assert [p.entry for p in ours] == [p.entry for p in theirs]


def test_thin_facets_at_six_elements():
    """Joggled Qhull gave planes 20 eV/atom off here; the answer must be the program's to 1e-7 eV/atom."""
    counts, e_form = random_system(6, 120, seed=0, grid=7)
    hull = make(counts, e_form)
    queries = random_system(6, 25, seed=1, grid=9)[0]
    system = hull._system(bytes(sorted(POOL[:6])))
    assert system.facets is not None
    fractions = queries[:, sorted(POOL[:6])] / queries.sum(axis=1, keepdims=True)
    expected = [geometry.solve(system.fractions, system.energies, x)[0] for x in fractions]
    np.testing.assert_allclose(geometry.hull_energies(system.facets.planes, fractions), expected, atol=1e-7)


def test_ten_elements():
    counts, e_form = random_system(10, 60, seed=2, grid=3)
    hull = make(counts, e_form)
    query = np.zeros(N_COLUMNS)
    query[POOL] = np.arange(1, 11)
    reference, _ = diagram(counts[:11], e_form[:11])
    assert make(counts[:11], e_form[:11]).e_hull(query[None])[0] == pytest.approx(
        reference.get_hull_energy_per_atom(Composition({Element.from_Z(z): query[z] for z in POOL})), abs=1e-6
    )
    assert sum(p.atom_fraction for p in hull.decomposition(query)) == pytest.approx(1.0)


def test_coplanar_entries_of_equal_energy():
    """A grid of compounds all on one plane: the hull is that plane, and every one of them is on it."""
    grid = [
        row(Li=a, Fe=b, O=c)
        for a in range(1, 4)
        for b in range(1, 4)
        for c in range(1, 4)
        if np.gcd.reduce((a, b, c)) == 1
    ]
    counts = np.array([row(Li=1), row(Fe=1), row(O=1), *grid])
    e_form = np.append(np.zeros(3), np.full(len(grid), -1.0))
    hull = make(counts, e_form)
    assert hull.stable_mask().all()
    assert hull.e_hull(row(Li=5, Fe=4, O=4)[None])[0] == pytest.approx(-1.0, abs=1e-9)


def test_only_elements_have_a_flat_hull():
    hull = make(np.array([row(Li=1), row(O=1)]), np.zeros(2))
    np.testing.assert_array_equal(hull.e_hull(np.array([row(Li=2, O=1), row(O=2)])), [0.0, 0.0])
    assert [p.entry for p in hull.decomposition(row(Li=2, O=1))] == [0, 1]
    assert hull.decomposition(row(O=4)) == [(1, 1.0)]


def test_a_hull_of_one_element():
    hull = make(np.array([row(Fe=2), row(Fe=1)]), np.array([0.02, 0.0]))
    assert hull.e_hull(row(Fe=7)[None]).tolist() == [0.0]
    assert hull.stable_mask().tolist() == [False, True]
    np.testing.assert_allclose(hull.entry_e_above_others(), [0.02, -0.02])
    assert np.isnan(hull.entry_e_above_others(without_polymorphs=True)).all()
    assert hull.competing_phases(0) == []
    with pytest.raises(MissingReference, match="no elemental reference for O"):
        hull.e_hull(row(Fe=2, O=3)[None])


def test_polymorphs_of_equal_energy_tie_to_the_first():
    counts = np.array([row(Li=1), row(O=1), row(Li=2, O=1), row(Li=4, O=2)])
    hull = Hull.from_entries(["Li", "O", "z", "a"], counts, np.array([0.0, 0.0, -1.0, -1.0]), "test")
    assert hull.stable_mask().tolist() == [True, True, False, True]  # by id
    assert [p.entry for p in hull.decomposition(row(Li=2, O=1))] == [2]  # by position
    np.testing.assert_allclose(hull.entry_e_above_hull(), 0, atol=1e-12)
    np.testing.assert_allclose(hull.entry_e_above_others()[2:], 0, atol=1e-12)
    np.testing.assert_allclose(hull.entry_e_above_others(without_polymorphs=True)[2:], -1.0)


def test_an_element_found_below_its_reference_lowers_the_hull():
    counts = np.array([row(Li=1), row(Li=2), row(O=1), row(Li=1, O=1)])
    hull = make(counts, np.array([0.0, -0.1, 0.0, -0.04]))
    np.testing.assert_allclose(hull.entry_e_above_hull(), [0.1, 0.0, 0.0, 0.01], atol=1e-12)
    np.testing.assert_allclose(hull.entry_e_above_others()[:2], [0.1, -0.1], atol=1e-12)


def test_below_the_hull_is_negative_and_nan_stays_nan():
    hull = make(np.array([row(Li=1), row(O=1), row(Li=2, O=1)]), np.array([0.0, 0.0, -1.0]))
    above = hull.e_above_hull(np.array([row(Li=2, O=1), row(Li=1, O=2)]), np.array([-1.25, np.nan]))
    assert above[0] == pytest.approx(-0.25)
    assert np.isnan(above[1])


def test_stable_mask_keeps_the_lowest_of_a_composition_then_the_first_id():
    counts = np.array(
        [row(Li=1), row(O=1), row(Li=2, O=1), row(Li=4, O=2), row(Li=1, O=1), row(Li=2, O=2), row(Li=1, O=3)]
    )
    e_form = np.array([0.0, 0.0, -1.0 + 3e-5, -1.0, -0.9, -0.9, -0.1])
    hull = Hull.from_entries(["Li", "O", "a", "b", "d", "c", "x"], counts, e_form, "test")
    assert hull.stable_mask().tolist() == [True, True, False, True, False, True, False]


def test_missing_elements_are_named():
    hull = make(np.array([row(Li=1), row(O=1), row(Fe=1, O=1)]), np.array([0.0, 0.0, -1.0]))
    queries = np.array([row(Li=1, O=1), row(Fe=1, P=1, O=1)])
    with pytest.raises(MissingReference, match="P, Fe") as caught:
        hull.e_hull(queries)
    assert caught.value.elements == ("P", "Fe")
    with pytest.raises(MissingReference, match="system O-Fe"):
        hull.decomposition(row(Fe=1, O=1))
    assert hull.has_references(queries).tolist() == [True, False]
    assert np.isnan(hull.entry_e_above_hull()).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "b", "a"]}, "duplicate entry ids, first a"),
        ({"e_form": [0.0, np.nan, 0.0]}, "entry b: formation energy is nan"),
        ({"scale": ["pbe", "pbe", "chgnet-0.3.0"]}, "chgnet-0.3.0, pbe"),
        ({"ids": ["a", "b"]}, "2 ids for 3 compositions"),
        ({"compositions": np.vstack([row(Li=1), row(O=1), row()])}, "row 2"),
        ({"compositions": np.ones((3, 4))}, "shape"),
    ],
)
def test_unusable_entries_are_named(change, message):
    arguments = {"ids": ["a", "b", "c"], "compositions": np.vstack([row(Li=1), row(O=1), row(Li=1, O=1)])}
    arguments |= {"e_form": [0.0, 0.0, -1.0], "scale": "pbe"} | change
    with pytest.raises(ValueError, match=message):
        Hull.from_entries(**arguments)


def test_save_and_load_keep_every_answer(tmp_path):
    counts, e_form = random_system(4, 40, seed=9)
    hull = make(counts, e_form)
    hull.save(str(tmp_path / "hull.arrow"))
    loaded = Hull.load(str(tmp_path / "hull.arrow"))
    assert loaded.scale == "test"
    assert loaded.ids.equals(hull.ids)
    queries = random_system(4, 20, seed=10)[0]
    for copy in (loaded, pickle.loads(pickle.dumps(hull))):
        np.testing.assert_array_equal(copy.e_hull(queries), hull.e_hull(queries))
    (tmp_path / "other.arrow").write_bytes(b"not a hull")
    with pytest.raises(ValueError, match=r"other\.arrow"):
        Hull.load(str(tmp_path / "other.arrow"))


def test_a_hull_is_compact_on_disk_and_in_memory(tmp_path):
    """50 bytes an entry make 100 MB of two million; what a process holds beside the mapped file is part of that."""
    counts, e_form = random_system(4, 20_000, seed=9)
    ids = [f"mp-{1_000_000 + i}" for i in range(len(counts))]
    Hull.from_entries(ids, counts, e_form, "test").save(str(tmp_path / "hull.arrow"))
    before = pa.total_allocated_bytes()
    hull = Hull.load(str(tmp_path / "hull.arrow"))
    assert pa.total_allocated_bytes() - before < 10_000  # the columns stay in the file
    arrays = [a for a in vars(hull).values() if isinstance(a, np.ndarray) and a.base is None]
    own = sum(a.nbytes for a in arrays)
    assert ((tmp_path / "hull.arrow").stat().st_size + own) / len(counts) < 50


def test_the_vertices_give_every_energy_and_decomposition():
    counts, e_form = random_system(4, 80, seed=23)
    hull = make(counts, e_form)
    vertices = hull.vertices()
    assert set(vertices.ids.to_pylist()) == set(
        hull.ids.filter(pa.array(hull.entry_e_above_hull() <= 1e-9)).to_pylist()
    )
    assert len(vertices) < len(hull)
    queries = np.vstack([random_system(4, 40, seed=24)[0], counts])
    np.testing.assert_allclose(vertices.e_hull(queries), hull.e_hull(queries), atol=1e-12)
    for query in queries:
        ours, all_ = (
            {h.ids[p.entry].as_py(): p.atom_fraction for p in h.decomposition(query)} for h in (vertices, hull)
        )
        assert ours == pytest.approx(all_, abs=1e-9)


def test_extended_equals_a_rebuild_and_keeps_untouched_systems():
    counts, e_form = random_system(4, 60, seed=12)
    new = ~(counts[:, POOL[3]] > 0) | (np.arange(len(counts)) < 54)
    hull = make(counts[new], e_form[new])
    hull.entry_e_above_hull()
    ids = [f"new{i}" for i in range((~new).sum())]
    longer = hull.extended(ids, counts[~new], e_form[~new], "test")
    kept = bytes(sorted(POOL[:3]))
    assert longer._cache[kept] is hull._cache[kept]
    assert bytes(sorted(POOL[:4])) not in longer._cache
    order = np.concatenate([np.flatnonzero(new), np.flatnonzero(~new)])
    np.testing.assert_allclose(
        longer.entry_e_above_hull(), make(counts, e_form).entry_e_above_hull()[order], atol=1e-12
    )
    depth = longer.entry_e_above_others(without_polymorphs=True)
    expected = make(counts, e_form).entry_e_above_others(without_polymorphs=True)[order]
    np.testing.assert_allclose(depth, expected, atol=1e-12, equal_nan=True)
    with pytest.raises(ValueError, match="other, test"):
        hull.extended(["z"], counts[:1], e_form[:1], "other")
    with pytest.raises(ValueError, match="first e0"):
        hull.extended(["e0"], counts[:1], e_form[:1], "test")


def test_an_update_measures_only_systems_with_new_entries():
    """After `recall`, energies that were changed by hand survive exactly where no new entry can reach."""
    counts, e_form = random_system(4, 60, seed=16)
    known = ~(counts[:, POOL[3]] > 0) | (np.arange(len(counts)) < 54)
    hull = make(counts[known], e_form[known])
    marked = np.full(known.sum(), 7.0)
    hull.recall(marked, marked)
    longer = hull.extended([f"new{i}" for i in range((~known).sum())], counts[~known], e_form[~known], "test")
    above = longer.entry_e_above_hull()[: known.sum()]
    full = make(counts, e_form).entry_e_above_hull()[known]
    touched = [set(np.flatnonzero(row)) for row in counts[~known]]
    for row, ours, expected in zip(counts[known], above, full, strict=True):
        changed = any(system <= set(np.flatnonzero(row)) for system in touched)
        assert ours == (pytest.approx(expected, abs=1e-12) if changed else 7.0)
    assert (above == 7.0).any()
    assert (above != 7.0).any()


def test_energies_do_not_depend_on_the_batch():
    """Bit for bit, also for queries on the border of two facets."""
    counts, e_form = random_system(4, 60, seed=13, grid=4)
    hull = make(counts, e_form)
    queries = np.vstack([random_system(4, 60, seed=14, grid=4)[0], counts, counts[:-1] + counts[1:]])
    together = hull.e_hull(queries)
    assert [hull.e_hull(query[None])[0] for query in queries] == together.tolist()


def test_the_cache_is_bounded():
    counts, e_form = random_system(6, 60, seed=15)
    small = Hull(make(counts, e_form).table, cache_bytes=20_000)
    np.testing.assert_array_equal(small.entry_e_above_hull(), make(counts, e_form).entry_e_above_hull())
    assert small._cached_bytes == sum(system.nbytes for system in small._cache.values())
    assert len(small._cache) < len(small._keys)


def test_from_an_entries_table():
    table = pa.table(
        {
            "id": ["Li", "O2", "Li2O"],
            "numbers": pa.array([[3], [8, 8], [3, 3, 8]], pa.list_(pa.uint8())),
            "e_form_per_atom": [0.0, 0.0, -2.0],
            "scale": ["pbe"] * 3,
        }
    )
    hull = Hull.from_table(pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    assert hull.scale == "pbe"
    assert hull.e_hull(row(Li=1, O=1)[None])[0] == pytest.approx(-1.5)


def test_a_table_of_many_blocks_counts_the_same_atoms():
    rng = np.random.default_rng(5)
    numbers = pa.chunked_array(
        [
            pa.array([rng.integers(1, 90, rng.integers(1, 9)) for _ in range(n)], pa.list_(pa.uint8()))
            for n in (7, 0, 12)
        ]
    )
    for ours, theirs in zip(sparse_atom_counts(numbers, block=4), sparse(atom_counts(numbers)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    bad = pa.chunked_array([pa.array([[3], [95]], pa.list_(pa.uint8()))])
    with pytest.raises(ValueError, match="rows from 1: row 0: atomic number 95"):
        sparse_atom_counts(bad, block=1)


def test_an_empty_hull_and_an_empty_batch():
    hull = make(np.zeros((0, N_COLUMNS)), np.zeros(0))
    assert len(hull) == 0
    assert hull.e_hull(np.zeros((0, N_COLUMNS))).shape == (0,)
    with pytest.raises(MissingReference, match="Li"):
        hull.e_hull(row(Li=1)[None])
