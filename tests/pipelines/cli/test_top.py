"""`gnome top` as people read it; its JSON is in test_json.py."""

import pipelines
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
