"""MADE: closed loops of 50 evaluations in ten ternary systems (Malik et al., arXiv 2601.20996).

A loop begins with the Materials Project's crystals of the system within 0.1 eV/atom of the hull, relaxed by the judge.
It proposes crystals of at most 20 atoms, one after the other; the judge relaxes each, and it joins the hull. A find
is within the tolerance of the hull as it then stands, plausible by SMACT (where all elements are metals, every
composition is), and new: pymatgen's StructureMatcher with its defaults fits it to nothing that the loop began with or
found before.

Policies: `random` is their baseline (compositions drawn evenly from all of at most 20 atoms, lengths U(3, 15) Å, angles
U(60, 120) degrees, coordinates U(0, 1)); `substitution` draws from what substitution makes of the snapshot's crystals;
`ensemble` takes, of 1,000 of these, those that the shipped ensemble puts lowest above the hull, one of each structure.

EF: discoveries over the baseline's at the last query. AF: queries of the baseline over the policy's for as many
discoveries as the baseline ends with. AUDC: area under the curve of discoveries over that of one a query. Curves are
means over episodes, factors and areas means over systems; factors of systems where the baseline finds something.

    python benchmarks/made.py --out made [--episodes 5] [--systems 10] [--judge embedded]   # goes on where it stopped
    python benchmarks/made.py --quick                                        # one system, one episode, six queries
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice
from smact.screening import smact_validity

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS, reduced_formula
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.crystals.readers import embedded_entries
from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import get_generator, parent_shards, try_expand
from gnome_core.generation.parents import ParentTable
from gnome_core.matching.clusters import cluster_structures, representatives
from gnome_core.models.shipped import pretrained_members
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.relax import Relaxation, relax
from gnome_core.stability.hull import Hull
from gnome_core.stability.references import ElementalReferences

MAX_ATOMS = 20
TOLERANCES = (0.1, 0.01)  # eV/atom: theirs, and where others lose their lead
NEAR = 0.1  # eV/atom above the hull: known crystals that a loop begins with
POLICIES = ("random", "substitution", "ensemble")
POOL = 1_000  # candidates of a system that an episode draws, for the ensemble to rank
TOGETHER = 25  # crystals relaxed at once
SYSTEMS = (  # the paper's ternaries, in its order
    "Mg-Sn-Sr",
    "Au-K-Tb",
    "Co-Mg-Na",
    "Hf-Ni-Zr",
    "Co-Dy-W",
    "Ga-Pt-Tm",
    "Ga-Ho-Lu",
    "Al-Li-V",
    "Al-V-Zn",
    "Co-Pd-Tl",
)
PUBLISHED = {  # AF, EF, AUDC of the paper's table 1, ternary systems; their judge is ORB v3
    "random": (1.0, 1.0, 0.115),
    "Chemeleon": (1.72, 1.70, 0.192),
    "Chemeleon + MLIP": (6.4, 5.3, 0.42),
    "LLM orchestrator": (5.4, 6.0, 0.401),
}


class Judge:
    """Relaxes crystals of one system, and knows those that a loop begins with: formation energies in eV/atom."""

    def __init__(self, name: str, elements: Sequence[int], max_steps: int):
        self.potential, self.config = make_potential(name), RelaxConfig(fmax=0.05, max_steps=max_steps)
        entries = embedded_entries([SYMBOLS[z] for z in elements])
        near = Hull.from_table(entries).entry_e_above_hull() <= NEAR
        relaxed = [one for one in self._relaxed(crystals_from_batch(entries.filter(pa.array(near)))) if one]
        self.known = [crystal for crystal, _ in relaxed]
        numbers, energies = [crystal.numbers for crystal in self.known], np.array([energy for _, energy in relaxed])
        self.references = ElementalReferences.lowest(numbers, energies, self.potential.scale)
        self.known_e_form = self.references.formation_energy_per_atom(numbers, energies)

    def judge(self, crystals: Sequence[Crystal]) -> list[tuple[Crystal, float] | None]:
        """Relaxed crystals and their formation energies; None of those that could not be relaxed."""
        found = self._relaxed(crystals)
        return [
            one and (one[0], float(self.references.formation_energy_per_atom([one[0].numbers], np.array([one[1]]))[0]))
            for one in found
        ]

    def hull(self, found: Sequence[tuple[Crystal, float]] = ()) -> Hull:
        """Of what a loop began with and these, in this order."""
        crystals = [*self.known, *(crystal for crystal, _ in found)]
        energies = np.append(self.known_e_form, [energy for _, energy in found])
        ids = [str(place) for place in range(len(crystals))]
        return Hull.from_entries(ids, atom_counts([one.numbers for one in crystals]), energies, self.potential.scale)

    def _relaxed(self, crystals: Sequence[Crystal]) -> list[tuple[Crystal, float] | None]:
        order = sorted(range(len(crystals)), key=lambda row: crystals[row].n_sites)
        found: list[tuple[Crystal, float] | None] = [None] * len(crystals)
        for rows in [order[k : k + TOGETHER] for k in range(0, len(order), TOGETHER)]:
            for row, result in zip(
                rows, relax([crystals[row] for row in rows], self.potential, self.config), strict=True
            ):
                if isinstance(result, Relaxation):
                    found[row] = result.crystal, result.energy_per_atom
        return found


def random_crystals(elements: Sequence[int], n: int, rng: np.random.Generator) -> list[Crystal]:
    """Their baseline."""
    counts = itertools.product(range(MAX_ATOMS + 1), repeat=len(elements))
    compositions = [c for c in counts if sum(c) <= MAX_ATOMS and sum(k > 0 for k in c) > 1]
    found = []
    for row in rng.integers(len(compositions), size=n):
        numbers = np.repeat(elements, compositions[row])
        lattice = Lattice.from_parameters(*rng.uniform(3, 15, 3), *rng.uniform(60, 120, 3))
        found.append(Crystal(lattice.matrix, rng.random((len(numbers), 3)), numbers))
    return found


@cache
def parents() -> ParentTable:
    """The snapshot's crystals of at most MAX_ATOMS atoms."""
    entries = embedded_entries()
    return ParentTable.from_entries(entries.filter(pc.less_equal(pc.list_value_length(entries["numbers"]), MAX_ATOMS)))


def substituted(elements: Sequence[int], n_parents: int | None) -> list[Crystal]:
    """All that substitution makes of the snapshot within a system, compounds only. n_parents: of a quick run."""
    symbols = tuple(SYMBOLS[z] for z in elements)
    config = GenerationConfig(elements=symbols, max_sites=MAX_ATOMS, max_elements=len(symbols))
    generator, found = get_generator("substitution"), []
    for shard in parent_shards("substitution", min(len(parents()), n_parents or len(parents())), config):
        for batch in generator.recipes(shard, parents(), config, Counter()):
            found += try_expand(batch, parents())
    return [one for one in found if one and invalid_reason(one) is None and _is_compound(one, elements)]


def _is_compound(crystal: Crystal, elements: Sequence[int]) -> bool:
    own = set(crystal.numbers.tolist())
    return len(own) > 1 and own <= set(elements)


@cache
def ensemble() -> EnsembleModel:
    """The shipped one."""
    return EnsembleModel.load(pretrained_members("structural"))


def proposals(policy: str, elements: Sequence[int], judge: Judge, pool: Sequence[Crystal], n: int, seed: int):
    """The n crystals of an episode, in their order."""
    rng = np.random.default_rng([seed, *elements])
    if policy == "random":
        return random_crystals(elements, n, rng)
    drawn = [pool[row] for row in rng.permutation(len(pool))[:POOL]]
    if policy == "substitution":
        return drawn[:n]
    predicted = ensemble().predict(drawn, volume_factors=(0.95, 1.0, 1.05), over_volumes="median").median
    above = judge.hull().e_above_hull(atom_counts([one.numbers for one in drawn]), predicted)
    # What a loop begins with comes first, so that nothing equal to it stands for its cluster.
    both = [*judge.known, *drawn]
    order = np.concatenate([np.full(len(judge.known), above.min() - 1), above])
    new = [row - len(judge.known) for row in representatives(cluster_structures(both, order), order)]
    new = sorted((row for row in new if row >= 0), key=lambda row: above[row])
    return [drawn[row] for row in new[:n]]


def discoveries(judge: Judge, found: Sequence[tuple[Crystal, float] | None]) -> dict[float, list[int]]:
    """Tolerance -> how many were discovered after each query."""
    matcher, known = StructureMatcher(), [to_structure(one) for one in judge.known]
    new, curves, so_far = [], {tolerance: [] for tolerance in TOLERANCES}, []
    for one in found:
        if one is not None:
            structure = to_structure(one[0])
            so_far.append(one)
            new.append(
                not any(matcher.fit(structure, other) for other in known)
                and bool(smact_validity(reduced_formula(one[0].numbers)))
            )
            known += [structure] * new[-1]
        above = judge.hull(so_far).entry_e_above_hull()[len(judge.known) :]
        for tolerance, curve in curves.items():
            curve.append(int((np.array(new, bool) & (above <= tolerance)).sum()))
    return curves


def episode(policy: str, judge: Judge, elements: Sequence[int], pool: Sequence[Crystal], n: int, seed: int) -> dict:
    began = time.process_time()
    asked = proposals(policy, elements, judge, pool, n, seed)
    found = judge.judge(asked)
    found += [None] * (n - len(found))  # a pool that has no more
    curves = discoveries(judge, found)
    return {
        "system": "-".join(SYMBOLS[z] for z in elements),
        "policy": policy,
        "seed": seed,
        "asked": len(asked),
        "relaxed": sum(one is not None for one in found),
        "cpu_s": round(time.process_time() - began, 1),
        "curves": {str(tolerance): curve for tolerance, curve in curves.items()},
    }


def summary(episodes: Sequence[dict], tolerance: float) -> dict[str, dict[str, float]]:
    """Policy -> AF, EF, AUDC and discoveries at the last query."""
    curves: dict[tuple[str, str], list[list[int]]] = {}
    for one in episodes:
        curves.setdefault((one["policy"], one["system"]), []).append(one["curves"][str(tolerance)])
    means = {key: np.concatenate([[0.0], np.mean(own, axis=0)]) for key, own in curves.items()}
    found = {}
    for policy in POLICIES:
        own = {system: curve for (name, system), curve in means.items() if name == policy}
        baseline = {system: means["random", system] for system in own if means["random", system][-1] > 0}
        factors = [(own[s], base, int(np.argmax(base >= base[-1]))) for s, base in baseline.items()]
        reached = [
            asked / int(np.argmax(curve >= base[-1])) if curve[-1] >= base[-1] else 0.0
            for curve, base, asked in factors
        ]
        found[policy] = {
            "AF": round(float(np.mean(reached)), 2) if reached else float("nan"),
            "EF": round(float(np.mean([curve[-1] / base[-1] for curve, base, _ in factors])), 2)
            if factors
            else float("nan"),
            "AUDC": round(float(np.mean([2 * np.trapezoid(c) / (len(c) - 1) ** 2 for c in own.values()])), 3),
            "found": round(float(np.mean([curve[-1] for curve in own.values()])), 1),
            "without_baseline": len(own) - len(baseline),
        }
    return found


def table(found: dict[float, dict[str, dict[str, float]]]) -> str:
    """Markdown, ours and the published."""
    rows = ["| policy | tolerance (eV/atom) | AF | EF | AUDC | discoveries |", "|---|---|---|---|---|---|"]
    for tolerance, policies in found.items():
        rows += [
            f"| {name} | {tolerance} | {own['AF']} | {own['EF']} | {own['AUDC']} | {own['found']} |"
            for name, own in policies.items()
        ]
    rows += [f"| {name}, published | 0.1 | {af} | {ef} | {audc} | |" for name, (af, ef, audc) in PUBLISHED.items()]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the episodes; those that are there are not run again")
    parser.add_argument("--systems", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--judge", default="embedded")
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.systems, args.episodes, args.queries, args.max_steps = 1, 1, 6, 20
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        for system in SYSTEMS[: args.systems]:
            run(system, out, args)
        episodes = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    found = {tolerance: summary(episodes, tolerance) for tolerance in TOLERANCES}
    print(table(found))
    settings = {"systems": args.systems, "episodes": args.episodes, "queries": args.queries, "judge": args.judge}
    spent = round(sum(one["cpu_s"] for one in episodes))
    print(
        json.dumps({"benchmark": "made", **settings, "cpu_s": spent, "result": {str(t): f for t, f in found.items()}})
    )


def run(system: str, out: Path, args: argparse.Namespace) -> None:
    """The episodes of a system that are not in the folder yet."""
    elements = sorted(NUMBERS[symbol] for symbol in system.split("-"))
    missing = [
        (policy, seed, path)
        for policy, seed in itertools.product(POLICIES, range(args.episodes))
        if not (path := out / f"{system}_{policy}_{seed}.json").exists()
    ]
    if not missing:
        return
    judge = Judge(args.judge, elements, args.max_steps)
    pool = substituted(elements, 2_000 if args.quick else None)
    for policy, seed, path in missing:
        one = episode(policy, judge, elements, pool, args.queries, seed)
        path.write_text(json.dumps(one))
        last = {tolerance: curve[-1] for tolerance, curve in one["curves"].items()}
        print(
            f"{path.stem}: {one['relaxed']} of {one['asked']} relaxed, found {last}, {one['cpu_s']} CPU s", flush=True
        )


if __name__ == "__main__":
    main()
