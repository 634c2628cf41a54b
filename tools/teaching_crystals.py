"""Write the crystals that a potential learns from once a teacher has labelled them (synthetic pre-training):

    python tools/teaching_crystals.py OUT [--crystals 50000] [--parts 5] [--relaxed 1500] [--seed 0]

OUT/part-0.parquet ... get equal mixes of all kinds, so that a training can begin with the parts that are labelled;
OUT/relaxed.parquet gets unrelaxed candidates of which the teacher's first steps of a relaxation are worth frames:

    gnome potential label OUT/part-0.parquet -o LABELS/part-0 --teacher nequix-oam-1
    gnome potential label OUT/relaxed.parquet -o LABELS/relaxed --teacher nequix-oam-1 --steps 8

All is of crystals of the embedded snapshot with at most MAX_SITES atoms; chemical systems that "holdout-v1" withholds
are left out and counted. A seed and a number of crystals give the same files.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.compositions.formulas import chemsys
from gnome_core.crystals.arrow import crystals_from_batch, crystals_to_arrays
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import elemental_entries, embedded_entries
from gnome_core.crystals.split import is_withheld
from gnome_core.generation.config import CompositionConfig, GenerationConfig, RandomSearchConfig
from gnome_core.generation.generators import all_shards, shard_recipes, try_expand
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.volume import atomic_volumes
from gnome_core.potentials.sampling import distorted

MAX_SITES = 12  # of a crystal: a label costs by the atom, and counts as one energy whatever the size
RECIPES_PER_PARENT = {"substitution": 4, "saps": 2}
RANDOM_PER_COMPOSITION = 2

# Shares of the crystals. Those near minima tell which compound is stable; the others keep relaxations and dynamics
# from places that no label speaks of.
SHARES = {
    "known": 0.22,  # the snapshot's, as they are
    "volume": 0.12,  # the same at other volumes, atoms moved a little
    "substitution": 0.30,
    "saps": 0.08,
    "random": 0.12,
    "hot": 0.10,  # the snapshot's, atoms far from their sites
    "element": 0.06,  # every element in the structures of all
}


class Source:
    """Draws of every kind; each is an endless stream that depends on the seed and its name alone."""

    def __init__(self, seed: int, n_parents: int):
        self.seed = seed
        entries = pa.concat_tables([embedded_entries().select(COLUMNS), elemental_entries().select(COLUMNS)])
        crystals = crystals_from_batch(entries)
        kept = [i for i, c in enumerate(crystals) if c.n_sites <= MAX_SITES and not is_withheld(chemsys(c.numbers))]
        self.known = [crystals[i] for i in kept]
        self.elements = [c for c in self.known if len(np.unique(c.numbers)) == 1]
        chosen = np.sort(self.rng("parents").permutation(len(kept))[:n_parents])
        ids = entries["id"].to_pylist()
        self.parents = ParentTable.from_crystals([ids[kept[i]] for i in chosen], [self.known[i] for i in chosen])
        self.numbers = sorted({int(z) for c in crystals for z in np.unique(c.numbers)})

    def rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *name.encode()])

    def stream(self, kind: str) -> Iterator[Crystal]:
        """Crystals of one kind of `SHARES`."""
        rng = self.rng(kind)
        streams: dict[str, Callable[[np.random.Generator], Iterator[Crystal]]] = {
            "known": self._known,
            "volume": lambda rng: (at_volume(c, rng, 0.82, 1.25, 0.1, 0.03) for c in self._known(rng)),
            "hot": lambda rng: (at_volume(c, rng, 0.95, 1.15, 0.45, 0.05) for c in self._known(rng)),
            "element": self._elements,
            "random": self._random,
        }
        if kind in streams:
            return streams[kind](rng)
        return (at_volume(c, rng, 0.92, 1.12, 0.08, 0.02) for c in self.candidates(kind, rng))

    def candidates(self, kind: str, rng: np.random.Generator) -> Iterator[Crystal]:
        """Candidates of a generator, parents in a random order, as the generator makes them."""
        limit = RECIPES_PER_PARENT[kind]
        config = GenerationConfig(
            generators=(kind,), max_recipes_per_parent=limit, parents_per_shard=16, seed=self.seed, known="snapshot"
        )
        yield from self._generated(config, rng)

    def _known(self, rng: np.random.Generator) -> Iterator[Crystal]:
        while True:
            for i in rng.permutation(len(self.known)):
                yield self.known[i]

    def _elements(self, rng: np.random.Generator) -> Iterator[Crystal]:
        volumes = atomic_volumes()[0]
        while True:
            for number in rng.permutation(self.numbers):
                crystal = self.elements[rng.integers(len(self.elements))]
                # Half of them in their own structures, where there are any.
                own = [c for c in self.elements if c.numbers[0] == number]
                if own and rng.random() < 0.5:
                    crystal = own[rng.integers(len(own))]
                ratio = volumes[number] / volumes[crystal.numbers[0]]
                made = Crystal(
                    crystal.lattice * ratio ** (1 / 3), crystal.frac_coords, np.full_like(crystal.numbers, number)
                )
                yield at_volume(made, rng, 0.75, 1.4, 0.2, 0.05)

    def _random(self, rng: np.random.Generator) -> Iterator[Crystal]:
        config = GenerationConfig(
            generators=("random_search",),
            seed=self.seed,
            known="snapshot",
            compositions=CompositionConfig(max_counts=(5, 3, 2), max_atoms=10),
            random_search=RandomSearchConfig(
                structures=RANDOM_PER_COMPOSITION, volume_factors=(0.7, 1.3), max_formula_units=2, max_sites=MAX_SITES
            ),
        )
        yield from self._generated(config, rng, 16)

    def _generated(
        self, config: GenerationConfig, rng: np.random.Generator, per_shard: int | None = None
    ) -> Iterator[Crystal]:
        """Candidates of shards in a random order, of each at most so many recipes, by chance; then the same again, of
        which distortions make other crystals. Raises ValueError where there are none."""
        shards, made = all_shards(self.parents, config), 0
        while True:
            before = made
            for index in rng.permutation(len(shards)):
                for recipes in islice(shard_recipes(shards[index], self.parents, config), 1 if per_shard else None):
                    rows = rng.permutation(recipes.num_rows)[:per_shard]
                    for crystal in try_expand(recipes.take(pa.array(rows)), self.parents):
                        if crystal is not None:
                            made += 1
                            yield crystal
            if made == before:
                raise ValueError(f"no candidate of {', '.join(config.generators)} among {len(self.parents)} parents")


COLUMNS = ["id", "lattice", "frac_coords", "numbers"]


def at_volume(
    crystal: Crystal, rng: np.random.Generator, smallest: float, largest: float, rattle: float, strain: float
) -> Crystal:
    """The crystal with its volume changed by a factor between the two, and distorted (see `distorted`)."""
    scaled = crystal.scaled_to_volume(crystal.volume * rng.uniform(smallest, largest))
    return distorted(scaled, rng, rattle, strain)


def take(stream: Iterator[Crystal], n: int, kind: str, counts: Counter[str]) -> list[Crystal]:
    """The next n crystals that no rule withholds."""
    found: list[Crystal] = []
    while len(found) < n:
        crystal = next(stream)
        if is_withheld(chemsys(crystal.numbers)):
            counts[f"{kind}: withheld systems left out"] += 1
        else:
            found.append(crystal)
    counts[kind] += n
    return found


def write(path: Path, rows: list[tuple[str, Crystal]]) -> None:
    """A snapshot file of (kind, crystal)."""
    kinds = [kind for kind, _ in rows]
    ids = [f"{path.stem}-{i}" for i in range(len(rows))]
    pq.write_table(pa.table({"id": ids, "source": kinds, **crystals_to_arrays([crystal for _, crystal in rows])}), path)
    sites = np.mean([crystal.n_sites for _, crystal in rows])
    print(f"{path}: {len(rows)} crystals of {sites:.1f} atoms", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--crystals", type=int, default=50_000)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--relaxed", type=int, default=1_500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    source, counts = Source(given.seed, given.crystals // 8 + given.relaxed), Counter()
    streams = {kind: source.stream(kind) for kind in SHARES}
    for part in range(given.parts):
        size = given.crystals // given.parts
        rows = [
            (kind, c) for kind, share in SHARES.items() for c in take(streams[kind], round(share * size), kind, counts)
        ]
        write(given.out / f"part-{part}.parquet", rows)
    # What a round relaxes: two of three by substitution, the others random.
    n = given.relaxed // 3
    begun = {"substitution": given.relaxed - n, "random": n}
    rows = [(kind, c) for kind, share in begun.items() for c in take(streams[kind], share, kind, counts)]
    write(given.out / "relaxed.parquet", rows)
    for name, number in sorted(counts.items()):
        print(f"{name}: {number}")


if __name__ == "__main__":
    main()
