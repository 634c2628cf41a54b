"""Compositions to search: every stoichiometry of two to six elements that obeys an oxidation rule, or a given list.

A batch of compositions is (n, 12) uint8: six atomic numbers, ascending, and the atoms of each, 0 padded; reduced, so
that no two rows are the same composition. The work is cut by ranges of chemical systems (or of list positions): any
range can be enumerated on any worker, and what it yields does not depend on where ranges end.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from gnome_core.compositions.packed import MAX_ELEMENTS, given_compositions, unpack_compositions
from gnome_core.generation.config import CompositionConfig
from gnome_core.generation.oxidation import OxidationRule, can_be_neutral, systems_pass

BLOCK_SYSTEMS = 256  # chemical systems looked at together


def n_items(config: CompositionConfig, elements: Sequence[int]) -> int:
    """How many chemical systems of the elements there are to enumerate; of a given list, its distinct compositions."""
    if config.formulas:
        return len(given_compositions(config.formulas))
    return sum(math.comb(len(elements), k) for k, _ in _sizes(config))


def compositions(
    start: int,
    stop: int,
    config: CompositionConfig,
    elements: Sequence[int],
    counts: Counter[str] | None = None,
) -> Iterator[np.ndarray]:
    """Batches (n, 12) of the compositions of items [start, stop) that pass the rule.

    elements: atomic numbers, ascending. counts collects what was looked at and what passed, by number of elements, as
    "compositions_3" and "compositions_3_passed".
    """
    counts = Counter() if counts is None else counts
    for k, n, passed in _passing(start, stop, config, elements, config.rule):
        counts[f"compositions_{k}"] += n
        counts[f"compositions_{k}_passed"] += len(passed)
        if len(passed):
            yield passed


def pass_shares(
    config: CompositionConfig, elements: Sequence[int], rules: Sequence[OxidationRule]
) -> dict[int, tuple[int, dict[OxidationRule, int]]]:
    """By number of elements: how many compositions there are, and how many of them pass each rule."""
    totals: Counter[int] = Counter()
    passes: Counter[tuple[int, OxidationRule]] = Counter()
    for rule in rules:
        totals.clear()
        for k, n, passed in _passing(0, n_items(config, elements), config, elements, rule):
            totals[k] += n
            passes[k, rule] += len(passed)
    return {k: (totals[k], {rule: passes[k, rule] for rule in rules}) for k in sorted(totals)}


def _passing(
    start: int, stop: int, config: CompositionConfig, elements: Sequence[int], rule: OxidationRule
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(number of elements, compositions looked at, those that pass (n, 12)) of pieces of the items [start, stop)."""
    if config.formulas:
        given = given_compositions(config.formulas)[start:stop]
        passed = can_be_neutral(unpack_compositions(given), rule)
        sizes = (given[:, :MAX_ELEMENTS] > 0).sum(axis=1)
        for k in np.unique(sizes).tolist():
            yield k, int((sizes == k).sum()), given[passed & (sizes == k)]
        return
    first = 0  # item of the first system of k elements
    for k, max_count in _sizes(config):
        counts = stoichiometries(k, max_count, config.max_atoms)
        n_systems = math.comb(len(elements), k)
        begin, end = (min(max(item - first, 0), n_systems) for item in (start, stop))
        first += n_systems
        for block in range(begin, end, BLOCK_SYSTEMS):
            systems = chemical_systems(np.arange(block, min(block + BLOCK_SYSTEMS, end)), k, elements)
            system, stoichiometry = np.nonzero(systems_pass(systems, counts, rule))
            packed = np.zeros((len(system), 2 * MAX_ELEMENTS), np.uint8)
            packed[:, :k] = systems[system]
            packed[:, MAX_ELEMENTS : MAX_ELEMENTS + k] = counts[stoichiometry]
            yield k, len(systems) * len(counts), packed


def chemical_systems(ranks: np.ndarray, k: int, elements: Sequence[int]) -> np.ndarray:
    """(n, k) atomic numbers, ascending, of the chemical systems of k elements with these ranks (n,), from 0.

    Combinatorial number system: rank = C(c_1, 1) + ... + C(c_k, k) for positions c_1 < ... < c_k, so that no range
    costs more to reach than another.
    """
    ordered, left = np.sort(np.asarray(elements, np.int64)), np.asarray(ranks, np.int64)
    systems = np.empty((len(left), k), np.int64)
    for size in range(k, 0, -1):
        smaller = np.array([math.comb(position, size) for position in range(len(ordered) + 1)])
        position = np.searchsorted(smaller, left, side="right") - 1
        systems[:, size - 1] = ordered[position]
        left = left - smaller[position]
    return systems


def _sizes(config: CompositionConfig) -> list[tuple[int, int]]:
    """(number of elements, largest count of one) of what is enumerated."""
    return [(k, n) for k, n in enumerate(config.max_counts, start=2) if n]


@lru_cache(maxsize=16)
def stoichiometries(k: int, max_count: int, max_atoms: int) -> np.ndarray:
    """(m, k) int64: k counts from 1 to max_count without common divisor, at most max_atoms together."""
    counts = np.array([c for c in itertools.product(range(1, max_count + 1), repeat=k) if sum(c) <= max_atoms])
    counts = counts.reshape(-1, k)
    return counts[np.gcd.reduce(counts, axis=1) == 1] if len(counts) else counts
