"""`gnome top` as people read it; its JSON is in test_json.py."""

import pipelines
from pipelines.cli import top_text
from pipelines.reading.discoveries import stable_crystals
from pipelines.reading.entries import measured_entries
from pipelines.store.store import Store
from tests.pipelines.conftest import gnome


def test_discoveries_are_listed(two_rounds):
    stable = pipelines.open_store(two_rounds).stable(arrow=True).to_pylist()
    shown = gnome("top", str(two_rounds))
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == f"next: gnome show {two_rounds} ID\n"
    lines = shown.stdout.splitlines()
    assert f"{len(stable)} on the hull" in lines[0]
    assert len(stable) > 0
    for line, row in zip(lines[-len(stable) :], stable, strict=True):
        words = line.split()
        assert (words[0], words[-1]) == (row["formula"], row["id"][:14])
        assert f"{row['e_form_per_atom']:.3f}" in words
        assert f"{1000 * row['e_above_hull_others']:+.1f}" in words
        assert f"{1000 * row['e_above_mp_hull']:+.0f} ± 46" in line
        assert row["novelty"] in line


def test_before_a_round_there_are_none(initialised):
    shown = gnome("top", str(initialised))
    assert (shown.returncode, shown.stdout) == (0, "0 new (unknown composition), 0 on the hull\n")
    assert shown.stderr == f"next: gnome round run {initialised}\n"


def test_of_more_than_are_asked_for_the_number_is_told(two_rounds, monkeypatch):
    store = Store(str(two_rounds))
    found = [*stable_crystals(store, measured_entries(store))] * 3  # a tiny round finds few
    monkeypatch.setattr(top_text, "stable_crystals", lambda *_: found)
    shown = gnome("top", store.root, "-n", "2")
    headline, *_, first, second, more = shown.stdout.splitlines()
    assert f"{len(found)} on the hull" in headline
    for line, crystal in zip((first, second), found[:2], strict=True):
        assert line.split()[0] == crystal.formula
    assert more == f"and {len(found) - 2} more; `gnome top {store.root} -n {len(found)}` shows all"
