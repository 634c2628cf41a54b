"""A generator of one's own: each element of a parent replaced by its neighbours in the group of the periodic table."""

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.generation.generators import batched, parent_shards
from gnome_core.generation.recipe import expand_recipe, pack_mapping, recipe_batch

GROUPS = ("Li Na K Rb Cs", "Mg Ca Sr Ba", "Al Ga In", "Si Ge Sn", "O S Se Te", "F Cl Br I")
ROWS = [[NUMBERS[symbol] for symbol in group.split()] for group in GROUPS]
NEIGHBOURS = {z: row[max(i - 1, 0) : i] + row[i + 1 : i + 2] for row in ROWS for i, z in enumerate(row)}


class Homologues:
    name = "homologues"
    code = 100  # stored in every recipe; 1-15 are taken

    def shards(self, parents, config):
        return parent_shards(self.name, len(parents), config)

    def recipes(self, shard, parents, config, counts=None):
        allowed = set(config.allowed_numbers(parents.elements))
        yield from batched(self._of(row, parents, allowed) for row in range(shard.start, shard.stop))

    def _of(self, row, parents, allowed):
        old = [z for z, _ in parents.species(row)]
        choices = [(i, new) for i, z in enumerate(old) for new in NEIGHBOURS.get(z, ()) if new in allowed]
        new = [[*old[:i], z, *old[i + 1 :]] for i, z in choices if z not in old]
        mapping = pack_mapping(old, new) if new else pack_mapping(old, [old])[:0]
        return recipe_batch(row, self.code, mapping)

    def expand(self, recipes, parents):
        return [expand_recipe(recipe, parents) for recipe in recipes]
