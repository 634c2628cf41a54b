"""`gnome top` as people read it; its JSON is in test_json.py."""

import pipelines
from tests.pipelines.conftest import gnome


def test_discoveries_are_listed_deepest_first(two_rounds):
    stable = pipelines.open_store(two_rounds).stable(arrow=True).to_pylist()
    shown = gnome("top", str(two_rounds), "-n", "2")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == f"next: gnome show {two_rounds} ID\n"
    headline, *_, first, second, more = shown.stdout.splitlines()
    assert f"{len(stable)} on the hull" in headline
    for line, row in zip((first, second), stable[:2], strict=True):
        words = line.split()
        assert (words[0], words[-1]) == (row["formula"], row["id"][:14])
        assert f"{row['e_form_per_atom']:.3f}" in words
        assert f"{1000 * row['e_above_hull_others']:+.1f}" in words
        assert f"{1000 * row['e_above_mp_hull']:+.0f} ± 59" in line
        assert row["novelty"] in line
    assert more == f"and {len(stable) - 2} more; `gnome top {two_rounds} -n {len(stable)}` shows all"


def test_before_a_round_there_are_none(initialised):
    shown = gnome("top", str(initialised))
    assert (shown.returncode, shown.stdout) == (0, "0 new (unknown composition), 0 on the hull\n")
