"""Known stable compositions, hidden and looked for: python benchmarks/rediscovery.py FILE [--hide SHARE] [--quick]

FILE: crystals with formation energies, as `gnome init --snapshot` takes them. A share of its stable compositions is
hidden with all their crystals: by hash, those that trained no member of the shipped ensemble first; where the file has
a column `year`, the compositions found last, with all crystals found as late. From the rest, three parts:

1. Generation: substitution on every parent within 0.1 eV/atom of the rest's hull, SAPS on those of at most
   `--saps-sites` sites. Which hidden compositions are reached, and by whom?
2. Filter, on `--compositions` of those reached and a sample of the compositions that the file does not hold, each of
   which stands for many: the shipped ensemble at each cell's own volume ranks compositions by their lowest structure's
   distance to the rest's hull. Recall, and enrichment over a random order, at 10^3, 10^4, 10^5 evaluated compositions;
   is the hidden structure (pymatgen's StructureMatcher) the lowest predicted one, or among the others?
3. Evaluation, of the first `--relaxed` of these: the `--structures` lowest predicted of the distinct structures and
   `--random` random ones are relaxed, and the hidden one beside them. Which is the lowest?

Finished relaxations are kept in --out, from where a run goes on. The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from dft.evaluators.evaluator import Evaluator
from dft.evaluators.make import make_evaluator
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.compositions.known import composition_hashes
from gnome_core.compositions.packed import pack_compositions
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.crystals.sources.tables import column_names
from gnome_core.crystals.split import is_train
from gnome_core.ensembles.bisect import bisect
from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.ensembles.rows import Rows, labelled_rows
from gnome_core.generation.config import GenerationConfig, RandomSearchConfig
from gnome_core.generation.generators import all_shards, installed_generators, shard_recipes, try_expand
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.random_search import random_recipes
from gnome_core.generation.recipe import recipe_compositions
from gnome_core.matching.clusters import distinct_structures
from gnome_core.matching.novelty import KnownStructures
from gnome_core.models.shipped import pretrained_members
from gnome_core.potentials.config import RelaxConfig
from gnome_core.stability.hull import Hull
from pipelines.evaluation.relaxing import KeptBatches, relaxed, total_energies

GENERATORS = ("substitution", "saps")
PARENTS_WITHIN = 0.1  # eV/atom, as selection.parents_within
AT = (1_000, 10_000, 100_000)  # evaluated compositions
MAX_STEPS = 300
SAME_ENERGY = 1e-3  # eV/atom
QUICK_ELEMENTS = ("Li", "Na", "K", "Mg", "Ca", "Al", "Si", "O", "S", "F", "Cl", "P")


# What is hidden


def hull_of(rows: Rows) -> Hull:
    """Of the rows and, at zero, of every element, which files of compounds may lack."""
    compositions = rows.compositions()
    present = np.flatnonzero(compositions.any(axis=0))
    elements = np.eye(compositions.shape[1], dtype=compositions.dtype)[present]
    ids = [*rows.ids, *(f"element-{z}" for z in present)]
    return Hull.from_entries(
        ids, np.vstack([compositions, elements]), np.append(rows.e_form, np.zeros(len(present))), "labels"
    )


def of_elements(rows: Rows, symbols: Iterable[str]) -> Rows:
    allowed = np.isin(np.arange(rows.compositions().shape[1]), [NUMBERS[symbol] for symbol in symbols])
    return rows.take(~rows.compositions()[:, ~allowed].any(axis=1))


def hide(rows: Rows, share: float, years: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(rows that are left, rows of the stable crystals of the hidden compositions). years: (n,) when each was found."""
    compound = (rows.compositions() > 0).sum(axis=1) > 1
    stable = np.flatnonzero(hull_of(rows).stable_mask()[: len(rows)] & compound)
    formulas = np.array(rows.formulas)
    n = max(1, round(share * len(stable)))
    if years is None:
        order = sorted(stable.tolist(), key=lambda row: (is_train(rows.formulas[row]), draw_of(rows.formulas[row])))
        hidden, late = np.array(order[:n]), np.zeros(len(rows), bool)
    else:
        first = np.array([years[formulas == formula].min() for formula in formulas[stable]])
        since = np.sort(first)[-n]
        hidden, late = stable[first >= since], years >= since
    return np.flatnonzero(~late & ~np.isin(formulas, formulas[hidden])), hidden


def draw_of(formula: str) -> str:
    return hashlib.sha256(f"rediscovery|{formula}".encode()).hexdigest()


def years_of(path: str, ids: Sequence[str]) -> np.ndarray | None:
    """(n,) of the file's column `year`, or None."""
    kind = Path(path).suffix.lower()
    if kind not in (".csv", ".parquet") or "year" not in column_names(Path(path)):
        return None
    table = pyarrow.csv.read_csv(path) if kind == ".csv" else pq.read_table(path, columns=["id", "year"])
    by_id = dict(zip(map(str, table["id"].to_pylist()), table["year"].to_pylist(), strict=True))
    return np.array([by_id[id_] for id_ in ids])


# Generation


@dataclass(frozen=True)
class Generated:
    """Recipes by the hash of their composition: of all hidden ones, and of a sample of those that the rest lacks.

    n_recipes: by generator, all that there are. n_others: an estimate of the compositions that neither the rest nor
    what is hidden holds.
    """

    hidden: dict[int, pa.Table]
    others: dict[int, pa.Table]
    n_recipes: dict[str, int]
    n_others: float


def generate(parents: ParentTable, wanted: np.ndarray, known: np.ndarray, saps_sites: int, share: float) -> Generated:
    """wanted, known: hashes of the hidden compositions and of the rest's, ascending. share: of the others that stand
    for all, whose hashes are the lowest."""
    limit, kept, n_recipes = np.uint64(min(share, 1) * (2**64 - 1)), [], {}
    for name in GENERATORS:
        config = GenerationConfig(generators=(name,), max_sites=saps_sites if name == "saps" else 128)
        n_recipes[name] = 0
        for shard in all_shards(parents, config):
            for batch in shard_recipes(shard, parents, config):
                n_recipes[name] += batch.num_rows
                hashes = composition_hashes(recipe_compositions(batch, parents))
                rows = np.isin(hashes, wanted) | ((hashes <= limit) & ~np.isin(hashes, known))
                if rows.any():
                    taken = batch.filter(pa.array(rows))
                    kept.append(taken.append_column("hash", pa.array(hashes[rows])))
    table = pa.Table.from_batches(kept).sort_by("hash").combine_chunks()
    hashes = table["hash"].to_numpy()
    first = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1]))
    of = {
        int(hashes[start]): table.slice(start, stop - start).drop_columns(["hash"])
        for start, stop in zip(first, np.append(first[1:], len(hashes)), strict=True)
    }
    targets = set(wanted.tolist())
    others = {key: recipes for key, recipes in of.items() if key not in targets}
    hidden = {key: recipes for key, recipes in of.items() if key in targets}
    return Generated(hidden, others, n_recipes, len(others) / min(share, 1))


# Filter


@dataclass(frozen=True)
class Candidates:
    """Of one composition, the lowest predicted first. makers: names of generators. e_form: (n,) predicted, eV/atom."""

    crystals: list[Crystal]
    makers: list[str]
    e_form: np.ndarray


def candidates(recipes: Sequence[pa.Table], parents: ParentTable, model: EnsembleModel) -> list[Candidates]:
    """Those of each composition; none where no recipe makes a crystal that the ensemble predicts."""
    names = {generator.code: name for name, generator in installed_generators().items()}
    together = pa.concat_tables(recipes)
    of = np.repeat(np.arange(len(recipes)), [len(table) for table in recipes])
    made = try_expand(together, parents)
    good = [row for row, crystal in enumerate(made) if crystal is not None and invalid_reason(crystal) is None]
    crystals, makers = [made[row] for row in good], [names[code] for code in together["generator"].to_pylist()]
    e_form = np.full(len(good), np.nan)
    for rows, found in bisect(lambda part: model.predict(part, (1.0,)).median, crystals, (ValueError,)).good:
        e_form[rows.start : rows.stop] = cast(np.ndarray, found)
    own: list[list[int]] = [[] for _ in recipes]
    for place in np.argsort(e_form, kind="stable"):  # those without a prediction come last
        if np.isfinite(e_form[place]):
            own[of[good[place]]].append(int(place))
    return [
        Candidates(
            [cast(Crystal, crystals[place]) for place in places],
            [makers[good[place]] for place in places],
            e_form[places],
        )
        for places in own
    ]


def recalls(values: np.ndarray, others: np.ndarray, weight: float, n_all: float, reached: float) -> dict[str, dict]:
    """By number of evaluated compositions. values, others: eV/atom above the hull, of the hidden compositions that are
    ranked and of the sample, each of which stands for `weight`. n_all: compositions that can be evaluated. reached:
    share of the hidden compositions that the ranked ones stand for."""
    before = np.searchsorted(np.sort(others), values) * weight  # the hidden ones are too few to count
    return {
        f"{k:g}": {
            "found_of_reached": float((before < k).mean()),
            "recall": float((before < k).mean() * reached),
            "enrichment": float((before < k).mean() * n_all / k),
        }
        for k in AT
        if k < n_all
    }


# Evaluation


@dataclass(frozen=True)
class Found:
    """What was found of one hidden composition, whose stable crystal is `row` of the file.

    right: (n,) bool of the candidates as generated. Where candidates were relaxed: first_right, the lowest predicted
    one is right; any_right, one of them is; lowest_right, the lowest of them is; judged, the hidden one relaxed is no
    higher than any.
    """

    row: int
    n_elements: int
    makers: list[str]
    right: np.ndarray
    first_right: bool | None = None
    any_right: bool | None = None
    lowest_right: bool | None = None
    judged: bool | None = None


@dataclass(frozen=True)
class Relaxing:
    evaluator: Evaluator
    kept: KeptBatches
    structures: int
    random: int


def to_relax(found: Candidates, settings: Relaxing) -> list[Crystal]:
    """The lowest predicted of each structure, then random ones of the composition."""
    pool = found.crystals[: 10 * settings.structures]
    labels = distinct_structures(pool)
    crystals = [pool[row] for row in np.unique(labels, return_index=True)[1][: settings.structures]]
    if settings.random:
        atoms = np.bincount(found.crystals[0].numbers, minlength=95)[None]
        config = RandomSearchConfig(structures=settings.random, volume_factors=(0.6, 1.0))
        recipes = random_recipes(pack_compositions(atoms // np.gcd.reduce(atoms[0])), config, 0)
        none = ParentTable([], [], [], [])
        crystals += [crystal for crystal in try_expand(recipes, none) if crystal is not None]
    return crystals


def relax_all(groups: Sequence[Sequence[Crystal]], settings: Relaxing, told: Callable[[int], None]) -> list[tuple]:
    """(relaxed crystals, (n,) eV/atom, infinite where it failed) of each group."""
    flat = [crystal for group in groups for crystal in group]
    results = relaxed(settings.evaluator, flat, kept=settings.kept, progress=told)
    energies = np.nan_to_num(total_energies(results), nan=np.inf)
    crystals = list(crystals_from_batch(results))
    ends = np.cumsum([0, *map(len, groups)])
    return [(crystals[a:b], energies[a:b]) for a, b in pairwise(ends.tolist())]


def evaluated(found: Found, truth: KnownStructures, crystals: list[Crystal], energies: np.ndarray) -> Found:
    """crystals: relaxed, the lowest predicted first, the hidden one last."""
    right = [np.isfinite(e) and truth.find(c) is not None for c, e in zip(crystals[:-1], energies[:-1], strict=True)]
    lowest = int(np.argmin(energies[:-1]))
    return replace(
        found,
        first_right=bool(right[0]),
        any_right=any(right),
        lowest_right=bool(right[lowest]),
        judged=bool(energies[-1] <= energies[:-1].min() + SAME_ENERGY),
    )


# Figures


def shares(found: Sequence[Found], n_elements: Sequence[int]) -> dict:
    """n_elements: of all hidden compositions."""

    def of(part: Sequence[Found], n: int) -> dict:
        relaxed_ = [one for one in part if one.any_right is not None]
        possible = [one for one in relaxed_ if one.any_right or one.right.any()]

        def share(values: Iterable[object]) -> float | None:
            listed = [bool(value) for value in values]
            return float(np.mean(listed)) if listed else None

        return {
            "hidden": n,
            "ranked": len(part),
            "any_right_as_generated": share(one.right.any() for one in part),
            "lowest_predicted_right": share(one.right[0] for one in part),
            "relaxed": len(relaxed_),
            "lowest_predicted_right_relaxed": share(one.first_right for one in relaxed_),
            "any_right_relaxed": share(one.any_right for one in relaxed_),
            "lowest_right": share(one.lowest_right for one in relaxed_),
            "with_any_right": len(possible),
            "lowest_right_of_those": share(one.lowest_right for one in possible),
            "hidden_one_is_lowest_for_the_judge": share(one.judged for one in relaxed_),
        }

    by = {
        str(k): of([one for one in found if one.n_elements == k], n_elements.count(k)) for k in sorted(set(n_elements))
    }
    return {**of(found, len(n_elements)), "by_elements": by}


def by_generator(found: Sequence[Found], reached: dict[str, int], n_hidden: int) -> dict:
    """Compositions that each generator reaches, and the share of the ranked ones of which it makes the structure."""
    table = {}
    for name in GENERATORS:
        own = [np.array([maker == name for maker in one.makers]) for one in found]
        made = [one.right[mask].any() for one, mask in zip(found, own, strict=True) if mask.any()]
        table[name] = {"reached": reached[name] / n_hidden, "right_of_reached": float(np.mean(made)) if made else None}
    return table


def run(arguments: argparse.Namespace) -> dict:
    said = Said()
    rows = labelled_rows(arguments.file, "structural", "none")
    years = years_of(arguments.file, rows.ids)
    if arguments.quick:
        kept = np.isin(rows.ids, of_elements(rows, QUICK_ELEMENTS).ids)
        rows, years = rows.take(kept), None if years is None else years[kept]
    left, hidden = hide(rows, arguments.hide, years)
    rest = rows.take(left)
    hull = hull_of(rest)
    near = np.flatnonzero(hull.entry_e_above_hull()[: len(rest)] <= PARENTS_WITHIN)
    parents = ParentTable.from_crystals([rest.ids[i] for i in near], [rest.items[i] for i in near])
    hashes = composition_hashes(rows.compositions()[hidden])
    row_of = dict(zip(hashes.tolist(), hidden.tolist(), strict=True))
    said(f"{len(hidden)} compositions hidden, {len(rest)} crystals left, {len(parents)} of them parents")

    known = np.unique(composition_hashes(rest.compositions()))
    made = generate(parents, np.sort(hashes), known, arguments.saps_sites, arguments.others_share)
    names = {generator.code: name for name, generator in installed_generators().items()}
    makers = {
        key: {names[code] for code in table["generator"].unique().to_pylist()} for key, table in made.hidden.items()
    }
    reached = {name: sum(name in own for own in makers.values()) for name in GENERATORS}
    said(f"{sum(made.n_recipes.values())} recipes; {len(made.hidden)} hidden compositions reached, of "
         f"{made.n_others:.0f} others {len(made.others)} stand for all")  # fmt: skip

    model = EnsembleModel.load(pretrained_members("structural"))
    keys = sorted(made.hidden, key=lambda key: draw_of(rows.formulas[row_of[key]]))[: arguments.compositions]
    ranked = {
        key: c
        for key, c in zip(keys, candidates([made.hidden[k] for k in keys], parents, model), strict=True)
        if c.crystals
    }
    others = [c for c in candidates(list(made.others.values()), parents, model) if c.crystals]
    said(f"{len(ranked)} hidden and {len(others)} other compositions ranked")

    def above(part: Iterable[Candidates]) -> np.ndarray:
        part = list(part)
        atoms = np.array([np.bincount(c.crystals[0].numbers, minlength=95) for c in part])
        return np.array([c.e_form[0] for c in part]) - hull.e_hull(atoms)

    values, of_others = above(ranked.values()), above(others)
    n_all = made.n_others + len(made.hidden)
    found, truths = [], {}
    for key, own in ranked.items():
        row = row_of[key]
        truths[key] = KnownStructures([rows.items[row]])
        right = np.array([truths[key].find(crystal) is not None for crystal in own.crystals])
        found.append(Found(row, len(set(rows.items[row].numbers.tolist())), own.makers, right))
    said(f"the hidden structure is among the candidates of {sum(one.right.any() for one in found)}")

    evaluator = make_evaluator(arguments.evaluator, RelaxConfig(max_steps=MAX_STEPS))
    settings = Relaxing(evaluator, KeptBatches(arguments.out), arguments.structures, arguments.random)
    small = [key for key in ranked if rows.items[row_of[key]].n_sites <= arguments.relaxed_sites]
    chosen = small[: arguments.relaxed]
    groups = [[*to_relax(ranked[key], settings), rows.items[row_of[key]]] for key in chosen]
    said(f"{sum(map(len, groups))} crystals of {len(chosen)} compositions are relaxed by {evaluator.scale}")
    done = relax_all(groups, settings, said.relaxed)
    for key, (crystals, energies) in zip(chosen, done, strict=True):
        place = list(ranked).index(key)
        found[place] = evaluated(found[place], truths[key], crystals, energies)
    said("relaxed")

    n_elements = (rows.compositions()[hidden] > 0).sum(axis=1).tolist()
    return {
        "benchmark": "rediscovery",
        "file": Path(arguments.file).name,
        "hidden": len(hidden),
        "never_trained_on": sum(not is_train(rows.formulas[row]) for row in hidden) / len(hidden),
        "by": "hash" if years is None else "year",
        "parents": len(parents),
        "recipes": made.n_recipes,
        "compositions": round(n_all),
        "reached": len(made.hidden) / len(hidden),
        "within_50_mev": {"hidden": float((values <= 0.05).mean()), "others": float((of_others <= 0.05).mean())},
        "at": recalls(values, of_others, made.n_others / max(1, len(others)), n_all, len(made.hidden) / len(hidden)),
        "structures": shares(found, n_elements),
        "by_generator": by_generator(found, reached, len(hidden)),
        "evaluator": evaluator.scale,
        "relaxations": sum(map(len, groups)),
        "cpu_seconds": round(time.process_time()),
    }


class Said:
    """What a run says on the way, with the CPU seconds so far."""

    n = 0

    def __call__(self, what: str) -> None:
        print(f"{time.process_time():6.0f} s  {what}", file=sys.stderr, flush=True)

    def relaxed(self, n: int) -> None:
        self.n += n
        if self.n % 128 < n:
            self(f"{self.n} relaxed")


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--hide", type=float, default=0.1, metavar="SHARE", help="of the stable compositions")
    parser.add_argument("--quick", action="store_true", help="a dozen elements, few compositions: under a minute")
    parser.add_argument("--saps-sites", type=int, help="of the largest parents that SAPS is given")
    parser.add_argument("--others", type=float, dest="others_share", help="share of the others that stand for all")
    parser.add_argument("--compositions", type=int, help="hidden ones that are ranked")
    parser.add_argument("--relaxed", type=int, help="of these, that are relaxed")
    parser.add_argument("--relaxed-sites", type=int, default=24, help="of the largest hidden cells that are relaxed")
    parser.add_argument("--structures", type=int, default=4, help="of each, the lowest predicted")
    parser.add_argument("--random", type=int, default=1, help="random ones of each besides")
    parser.add_argument("--evaluator", default="embedded")
    parser.add_argument("--out", type=Path, help="folder where finished relaxations are kept")
    arguments = parser.parse_args()
    sizes = {"saps_sites": 4, "others_share": 3e-4, "compositions": 400, "relaxed": 100}
    if arguments.quick:
        sizes = {"saps_sites": 4, "others_share": 0.02, "compositions": 20, "relaxed": 3}
        arguments.structures = 2
    for name, size in sizes.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, size)
    print(json.dumps(run(arguments)))


if __name__ == "__main__":
    main()
