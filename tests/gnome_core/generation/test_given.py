"""Candidates of files: what becomes one, what does not and why, and that recipes give them back as they are."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from gnome_core.crystals.readers import SourceError
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import all_shards, expand, get_generator, shard_recipes
from gnome_core.generation.given import content_key, given_by_key, read_given
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import recipe_digests, recipe_formulas

RES = """TITL LiMg-84-9 -0.0021 17.8 -5.4012 0.00 0.00 2 (Pm-3m) n - 1
CELL 1.54180 3.4 3.4 3.4 90.0 90.0 90.0
LATT -1
SFAC Li Mg
Li 1 0.0 0.0 0.0 1.0
Mg 2 0.5 0.5 0.5 1.0
END
"""


def salt(a: float, second: str = "Mg") -> Atoms:
    return Atoms(["Li", second], scaled_positions=[[0, 0, 0], [0.5] * 3], cell=a * np.eye(3), pbc=True)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "many.extxyz", [salt(3.4), salt(3.5), salt(3.4), salt(0.4), salt(4.0, "Na")], format="extxyz")
    (tmp_path / "LiMg-84-9.res").write_text(RES.replace("3.4", "3.6"))
    (tmp_path / "broken.res").write_text("TITL nothing\nEND\n")
    return tmp_path


def test_each_usable_crystal_of_the_files_is_a_candidate_once(folder):
    found = read_given([str(folder / "many.extxyz"), str(folder / "LiMg-84-9.res")], ["Li", "Mg"])
    assert found.table["id"].to_pylist() == ["many-0", "many-1", "LiMg-84-9"]
    assert found.counts == {"duplicate": 1, "other_elements": 1}
    assert [item.reason for item in found.rejected] == ["bad_lattice"]
    assert "many.extxyz, configuration 3" in found.rejected[0].message
    everything = read_given([str(folder)], None)
    assert len(everything.table) == 4
    assert sorted(item.reason for item in everything.rejected) == ["bad_lattice", "unreadable_file"]
    with pytest.raises(SourceError, match="there is no"):
        read_given([str(folder / "none.parquet")], None)


def test_recipes_give_the_crystals_back_whatever_file_and_order_they_come_in(folder):
    given = read_given([str(folder / "many.extxyz"), str(folder / "LiMg-84-9.res")], None)
    config = GenerationConfig(generators=("file:many.extxyz", "file:LiMg-84-9.res"))
    empty = ParentTable([], [], [], [])
    digests = []
    for table in (given.table, given.table.take([3, 1, 0, 2])):
        parents = ParentTable([], [], [], [], given_by_key(table))
        (shard,) = all_shards(parents, config)
        (recipes,) = shard_recipes(shard, parents, config)
        crystals = expand(recipes, parents)
        assert {content_key(crystal) for crystal in crystals} == set(given.table["key"].to_pylist())
        assert [crystal.n_sites for crystal in crystals] == [2] * 4
        assert sorted(recipe_formulas(recipes, parents)) == ["LiMg", "LiMg", "LiMg", "NaLi"]
        digests.append(recipe_digests(recipes, parents))
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 4
    assert all_shards(empty, config) == []


def test_its_name_is_followed_by_a_file():
    assert get_generator("file:any.cif").name == "file"
    assert GenerationConfig(generators=("saps", "file:a.cif", "file:b/")).files == ("a.cif", "b/")
