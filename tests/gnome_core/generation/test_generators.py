import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import batched, draw, get_generator, installed_generators
from gnome_core.generation.recipe import recipe_batch, recipe_rows


def test_ours_are_installed_and_codes_differ():
    generators = installed_generators()
    assert {"substitution", "saps", "random_search"} <= generators.keys()
    assert len({g.code for g in generators.values()}) == len(generators)


def test_unknown_generator_names_those_there_are():
    with pytest.raises(ValueError, match="substitution"):
        get_generator("subsitution")


@pytest.mark.parametrize("sizes", [[], [3], [10, 1, 25], [4, 4], [0, 9]])
def test_batched_keeps_every_row_in_order(sizes):
    parts, start = [], 0
    for size in sizes:
        parts.append(recipe_batch(np.arange(start, start + size), 1, np.zeros((size, 12), np.uint8)))
        start += size
    out = list(batched(parts, 4))
    assert [b.num_rows for b in out] == [4] * (start // 4) + ([start % 4] if start % 4 else [])
    assert [r.parent for b in out for r in recipe_rows(b)] == list(range(start))
    assert all(b.column(0).offset == 0 for b in out)
    assert sum(b.nbytes for b in out) == 46 * start


def test_draw_follows_the_weights():
    log_weight = np.log([0.5, 0.25, 0.125, 0.125])
    rng = np.random.default_rng(0)
    first = np.array([draw(log_weight, 1, rng)[0] for _ in range(4000)])
    assert np.allclose(np.bincount(first) / 4000, np.exp(log_weight), atol=0.03)
    assert len(set(draw(log_weight, 3, rng).tolist())) == 3


def test_configuration_refuses_what_it_cannot_do():
    with pytest.raises(ValidationError, match="extra"):
        GenerationConfig(treshold=0.1)
    with pytest.raises(ValidationError, match="saps_charge_balance"):
        GenerationConfig(species="elements", saps_charge_balance=True)
    with pytest.raises(ValueError, match="Xx"):
        GenerationConfig(elements=("Li", "Xx")).allowed_numbers([3])


def test_schema_survives_batching():
    (out,) = batched([recipe_batch(0, 1, np.zeros((2, 12), np.uint8))])
    assert pa.Table.from_batches([out]).num_rows == 2


def test_the_documented_plugin_is_found_and_used(tmp_path):
    """examples/homologues.py under an entry point of a package that is not ours, as `pip install` would leave it."""
    examples = Path(__file__).parents[3] / "examples"
    assert len((examples / "homologues.py").read_text().splitlines()) <= 40
    metadata = tmp_path / "homologues-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: homologues\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[gnome.generators]\nhomologues = homologues:Homologues\n")
    program = """
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import all_shards, expand, shard_recipes
from gnome_core.generation.recipe import recipe_formulas
from tests.gnome_core.generation.samples import parents
table, config = parents(), GenerationConfig(generators=("homologues",), parents_per_shard=4)
for shard in all_shards(table, config):
    for batch in shard_recipes(shard, table, config):
        crystals = expand(batch, table)
        assert all(c.n_sites == table.crystals[p].n_sites for c, p in zip(crystals, batch["parent"].to_pylist()))
        print(*recipe_formulas(batch, table))
"""
    paths = [str(tmp_path), str(examples), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-W", "ignore", "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=examples.parent)
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.split()) == ["KCl", "KCl", "LiCl", "NaF", "NaF", "NaFePO4"]
