"""The generator protocol, the shards that make generation parallel, and discovery of installed generators.

A generator is a class without arguments, ours (`file`) or under an entry point of group "gnome.generators" (see
pyproject.toml). It needs the five names of `Generator`; it must be deterministic given the shard, and it must hold
nothing in memory but the batch it is about to yield.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Protocol

import numpy as np
import pyarrow as pa

from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import Recipe, recipe_rows

ENTRY_POINT_GROUP = "gnome.generators"
OURS = {"file": "gnome_core.generation.given:GivenGenerator"}  # of `file:NAME`, which is no name of a package's
BATCH_ROWS = 2000


@dataclass(frozen=True)
class Shard:
    """A unit of work: `generator` applied to items [start, stop) with `seed`.

    Items are what the generator counts by: rows of the parent table, or chemical systems.
    """

    generator: str
    start: int
    stop: int
    seed: int


class Generator(Protocol):
    """What a plug-in provides.

    name: that of the entry point. code: 1..255, stored in every recipe; 1-15 are ours.
    """

    name: str
    code: int

    def shards(self, parents: ParentTable, config: GenerationConfig) -> list[Shard]:
        """Independent pieces of the whole work."""
        ...

    def recipes(
        self, shard: Shard, parents: ParentTable, config: GenerationConfig, counts: Counter[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Batches of `RECIPE_SCHEMA`, about `BATCH_ROWS` each; `counts` collects what is skipped or cut, by reason."""
        ...

    def expand(self, recipes: Sequence[Recipe], parents: ParentTable) -> list[Crystal | None]:
        """The candidate of each recipe, a pure function of it and the parent table; None where it makes none."""
        ...


@lru_cache(maxsize=1)
def installed_generators() -> dict[str, Generator]:
    """All generators, ours and those that installed packages offer, by name. Raises ValueError when two share a name or
    a code."""
    found: dict[str, Generator] = {name: resolve_name(place)() for name, place in OURS.items()}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        generator = point.load()()
        if clash := [g.name for g in found.values() if g.name == generator.name or g.code == generator.code]:
            raise ValueError(f"generators {generator.name!r} and {clash[0]!r} share a name or code; rename one of them")
        found[generator.name] = generator
    return found


def get_generator(name: str) -> Generator:
    """The installed generator `name`, of `file:NAME` that of files. Raises ValueError naming the ones there are."""
    generators = installed_generators()
    name = name.partition(":")[0]
    if name not in generators:
        raise ValueError(f"no generator {name!r}; installed: {', '.join(generators) or 'none (reinstall the package)'}")
    return generators[name]


def all_shards(parents: ParentTable, config: GenerationConfig) -> list[Shard]:
    """The shards of every generator that the configuration names; several files are one generator's work."""
    names = dict.fromkeys(name.partition(":")[0] for name in config.generators)
    return [shard for name in names for shard in get_generator(name).shards(parents, config)]


def shard_recipes(
    shard: Shard, parents: ParentTable, config: GenerationConfig, counts: Counter[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The recipes of one shard."""
    return get_generator(shard.generator).recipes(shard, parents, config, counts)


def try_expand(recipes: pa.RecordBatch | pa.Table, parents: ParentTable) -> list[Crystal | None]:
    """The candidate of every row, each by the generator that made its recipe; None where a recipe makes no crystal.

    Raises ValueError for recipes of a generator that is not installed.
    """
    rows = recipe_rows(recipes)
    by_code = {generator.code: generator for generator in installed_generators().values()}
    crystals: list[Crystal | None] = [None] * len(rows)
    for code in sorted({recipe.generator for recipe in rows}):
        if code not in by_code:
            raise ValueError(f"no generator has the code {code} of these recipes; install the package that made them")
        own = [i for i, recipe in enumerate(rows) if recipe.generator == code]
        for i, crystal in zip(own, by_code[code].expand([rows[i] for i in own], parents), strict=True):
            crystals[i] = crystal
    return crystals


def expand(recipes: pa.RecordBatch | pa.Table, parents: ParentTable) -> list[Crystal]:
    """`try_expand` of recipes that are known to make crystals. Raises ValueError for one that makes none."""
    crystals = try_expand(recipes, parents)
    made = [crystal for crystal in crystals if crystal is not None]
    if len(made) < len(crystals):
        raise ValueError(f"recipe {crystals.index(None)} of {len(crystals)} makes no crystal; score leaves such out")
    return made


def parent_shards(name: str, n_parents: int, config: GenerationConfig) -> list[Shard]:
    """Consecutive ranges of `config.parents_per_shard` parents. No row depends on where the ranges end."""
    size = config.parents_per_shard
    return [Shard(name, i, min(i + size, n_parents), config.seed) for i in range(0, n_parents, size)]


def parent_rng(shard: Shard, parent_id: str) -> np.random.Generator:
    """Random numbers that depend on seed, generator and parent only, not on the shard's range."""
    key = hashlib.blake2b(f"{shard.seed}|{shard.generator}|{parent_id}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(key, "little"))


def draw(log_weight: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` distinct indices, ascending, drawn without replacement with probability proportional to the weights.

    Gumbel top-k (Kool et al., arXiv:1903.06059), which needs no normalisation and one pass.
    """
    keys = log_weight + rng.gumbel(size=len(log_weight))
    return np.sort(np.argpartition(-keys, size - 1)[:size])


def batched(parts: Iterable[pa.RecordBatch], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Regroup batches of any length into batches of exactly `rows`, the last one shorter."""
    held: list[pa.RecordBatch] = []
    n_held = 0
    for part in parts:
        held.append(part)
        n_held += part.num_rows
        if n_held >= rows:
            whole = pa.concat_batches(held)
            full = n_held - n_held % rows
            for start in range(0, full, rows):
                # take copies: a slice would drag all of `whole` along wherever it is pickled.
                yield whole.take(np.arange(start, start + rows))
            held, n_held = [whole.take(np.arange(full, n_held))], n_held - full
    if n_held:
        yield pa.concat_batches(held)
