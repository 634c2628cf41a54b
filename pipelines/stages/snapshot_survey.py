"""What a snapshot is and what is to be done with it, said before anything is evaluated."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from dft.evaluators.evaluator import Evaluator
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.readers import SCALE, Rejected
from pipelines.beam.progress import rough_duration
from pipelines.stages.snapshot_entries import elements_alone, lacking_symbols, missing_reference
from pipelines.stages.snapshot_sources import Source

# CPU seconds of a relaxation for each atom of the cell, by scale: of `gnome judge EVALUATOR`, whose 396 crystals have
# 2,984 atoms.
CPU_SECONDS = {
    SCALE: 0.013,
    "chgnet-0.3.0": 0.016,
    "nequix-oam-1/mp2020": 0.12,  # by FIRE, which takes twice the steps
}
NAMED = 6  # elements of a system whose binaries are named, and binaries that are


def survey(
    sources: Sequence[Source],
    crystals: pa.Table,
    kept: pa.Table,
    added: pa.Table,
    evaluator: Evaluator,
    elements: Collection[str] | None,
) -> list[str]:
    """Lines: what of each source's energies is used, how much of the system there is, which elements lack references,
    what is to be evaluated and how long that takes.

    crystals: to be evaluated; kept: entries; added: references of the package. elements: the system, if asked for.
    """
    numbers = [*crystals["numbers"].to_pylist(), *kept["numbers"].to_pylist()]
    return [
        *(_source_line(source, evaluator) for source in sources),
        _system_line(numbers, elements),
        *_reference_lines(numbers, [*numbers, *added["numbers"].to_pylist()]),
        *_work_lines(crystals["numbers"].to_pylist(), evaluator),
    ]


def _source_line(source: Source, evaluator: Evaluator) -> str:
    n, left_out = len(source.crystals), sum(isinstance(item, Rejected) for item in source.items)
    said = [f"{source.name}: {n:,} crystals"]
    if source.entries is not None:
        said.append(f"their energies are on {evaluator.scale} and are used")
    else:
        labelled = sum(entry.e_form_per_atom is not None for entry in source.crystals)
        said.append(f"without energies on {evaluator.scale}, which {evaluator.name} computes")
        if labelled:
            said.append(f"formation energies of {labelled:,} are kept beside, for comparison")
        unused = Counter(name for entry in source.crystals for name in entry.unused_energies)
        said += [f"{name} of {k:,} is not used, for its scale is not said" for name, k in sorted(unused.items())]
    if source.outside:
        said.append(f"{source.outside:,} of other elements are left out")
    if left_out:
        said.append(f"{left_out:,} rows cannot be read")
    return "; ".join(said)


def _system_line(numbers: Sequence[Sequence[int]], asked: Collection[str] | None) -> str:
    present = {SYMBOLS[z] for row in numbers for z in row}
    system = list(asked) if asked is not None else sorted(present)
    counts = Counter(frozenset(SYMBOLS[z] for z in row) for row in numbers)
    pairs = [frozenset(pair) for pair in itertools.combinations(system, 2)]
    empty = ["-".join(pair) for pair in itertools.combinations(system, 2) if frozenset(pair) not in counts]
    name = "-".join(system) if len(system) <= NAMED else f"{len(system)} elements"
    line = f"{name}: {len(numbers):,} crystals, {sum(counts[pair] for pair in pairs):,} of them binaries"
    if not pairs:
        return line
    line += f", in {len(pairs) - len(empty)} of {len(pairs)} binary systems"
    return f"{line}; none in {', '.join(empty)}" if 0 < len(empty) <= NAMED else line


def _reference_lines(numbers: Sequence[Sequence[int]], everything: Sequence[Sequence[int]]) -> list[str]:
    elements = elements_alone(everything)
    without = [row for row in numbers if missing_reference(row, elements)]
    if not without:
        return []
    lacking = sorted(SYMBOLS[z] for z in set().union(*without) - elements)
    return [
        f"no reference of {', '.join(lacking)}: {len(without):,} crystals that hold them are left out; a crystal of "
        "the element alone would be one"
    ]


def lost_references(dead: Mapping[str, int], numbers: Sequence[Sequence[int]]) -> list[str]:
    """A line on the elements that no crystal gave a reference of, though one of them alone was evaluated.

    dead: the stage's counts; numbers: of the crystals that were evaluated.
    """
    alone = {SYMBOLS[z] for z in elements_alone(numbers)}
    lost = {reason: symbols & alone for reason in dead if (symbols := lacking_symbols(reason))}
    left_out = sum(dead[reason] for reason, symbols in lost.items() if symbols)
    if not left_out:
        return []
    names = ", ".join(sorted(set().union(*lost.values())))
    return [
        f"no reference of {names}: what the evaluator made of the element alone cannot be used, and {left_out:,} "
        "crystals that hold it are left out; another crystal of it would be one"
    ]


def _work_lines(numbers: Sequence[Sequence[int]], evaluator: Evaluator) -> list[str]:
    if not numbers:
        return []
    n_sites = sum(map(len, numbers))
    line = f"{len(numbers):,} crystals ({n_sites:,} atoms) to be evaluated by {evaluator.name}"
    rate = CPU_SECONDS.get(evaluator.scale)
    if rate is None:
        return [f"{line}; how long that takes is seen once the first are done"]
    return [f"{line}: about {rough_duration(rate * n_sites)} of one core, at {rate:.2g} s an atom"]
