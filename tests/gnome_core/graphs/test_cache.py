"""Graphs read from a file are those that would be built; other crystals or cutoffs have other files."""

import numpy as np
import pytest

from gnome_core.graphs import cache
from gnome_core.graphs.cache import ARRAYS, cached_graphs, concatenate
from gnome_core.graphs.featurize import structural_graphs
from tests.gnome_core.ensembles.test_ensemble import CRYSTALS


def same(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


def test_graphs_are_built_once(tmp_path, monkeypatch):
    built = structural_graphs(CRYSTALS, 4.0)
    assert same(cached_graphs(CRYSTALS, 4.0, tmp_path), built)
    (path,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(cache, "structural_graphs", lambda *_: pytest.fail("built again"))
        assert same(cached_graphs(CRYSTALS, 4.0, tmp_path), built)
    assert not same(cached_graphs(CRYSTALS, 3.5, tmp_path), built)
    assert cached_graphs(CRYSTALS[:-1], 4.0, tmp_path).n_graphs == len(CRYSTALS) - 1
    assert len(list(tmp_path.iterdir())) == 3
    path.write_bytes(path.read_bytes()[:300])
    assert same(cached_graphs(CRYSTALS, 4.0, tmp_path), built), "a torn file is made again"
    assert len(path.read_bytes()) > 300


def test_tables_join_in_order():
    parts = [structural_graphs(CRYSTALS[:7]), structural_graphs(CRYSTALS[7:8]), structural_graphs(CRYSTALS[8:])]
    assert same(concatenate(parts), structural_graphs(CRYSTALS))
