"""The crystals that a potential learns from."""

import pyarrow.parquet as pq
import pytest

from gnome_core.compositions.formulas import chemsys
from gnome_core.crystals.readers import Entry, embedded_entries, read_snapshot
from gnome_core.crystals.split import is_withheld
from tools import teaching_crystals
from tools.teaching_crystals import MAX_SITES, SHARES, main

ELEMENTS = {"Li", "Al", "Mg", "O", "S"}  # Al-Li is a withheld system


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two equal runs, of a snapshot of five elements."""
    few = embedded_entries(ELEMENTS)
    outs = [tmp_path_factory.mktemp("run") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teaching_crystals, "embedded_entries", lambda: few)
        patch.setattr(teaching_crystals, "elemental_entries", lambda: few.slice(0, 0))
        for out in outs:
            main([str(out), "--crystals", "100", "--parts", "2", "--relaxed", "6"])
    return outs


def test_every_part_has_all_kinds_and_nothing_of_withheld_systems(written):
    out, _ = written
    seen = set()
    for part in (0, 1):
        entries = list(read_snapshot(str(out / f"part-{part}.parquet")))
        assert all(isinstance(entry, Entry) for entry in entries)
        kinds = [entry.source for entry in entries]
        assert {kind: kinds.count(kind) for kind in SHARES} == {kind: round(50 * s) for kind, s in SHARES.items()}
        assert max(entry.crystal.n_sites for entry in entries) <= MAX_SITES
        assert not any(is_withheld(chemsys(entry.crystal.numbers)) for entry in entries)
        moved = {entry.crystal.lattice.tobytes() for entry in entries if entry.source != "known"}
        assert not moved & seen  # parts go on with the draws, and do not repeat them
        seen |= moved
    assert len(list(read_snapshot(str(out / "relaxed.parquet")))) == 6


def test_a_seed_gives_the_same_files(written):
    one, other = written
    for path in one.glob("*.parquet"):
        assert pq.read_table(path).equals(pq.read_table(other / path.name))
