"""Settings that are each valid and make no sense together, and what to do instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.rounds.config import RoundConfig


def contradictions(config: RoundConfig) -> Iterator[str]:
    """What is wrong, with its remedy; nothing where the settings go together."""
    structural = "structural" in config.frameworks
    if structural:
        yield from _of_structures(config)
    if config.searches:
        yield from _of_compositions(config)
    elif config.generation.compositions.formulas and "random_search" not in config.generation.generators:
        yield (
            "generation.compositions.formulas are searched by random_search, which generation.generators does not "
            "name; add it there, or take the formulas out"
        )
    evaluation = config.evaluation
    if evaluation.pre_relax == evaluation.evaluator:
        yield (
            f"evaluation.pre_relax = {evaluation.pre_relax} is the evaluator itself, which would relax everything "
            "twice; leave pre_relax out, or name a cheaper one"
        )
    if config.dft.emit == "flows" and evaluation.evaluator == "espresso":
        yield 'dft.emit = "flows" is for vasp; espresso takes "folders" or "tar"'


def _of_structures(config: RoundConfig) -> Iterator[str]:
    selection, training = config.selection, config.training
    if selection.per_formula > selection.clustered_per_formula:
        yield (
            f"selection.per_formula = {selection.per_formula} asks for more structures of a composition than "
            f"selection.clustered_per_formula = {selection.clustered_per_formula} keeps; raise the latter"
        )
    if config.scoring.over_volumes == "minimum" and training.volume_jitter > 0:
        yield (
            f"scoring.over_volumes = minimum picks the errors of members trained with training.volume_jitter = "
            f'{training.volume_jitter:g}; set over_volumes = "median", or volume_jitter = 0 with training.first = '
            '"scratch"'
        )
    if training.devices > training.batch_size:
        yield (
            f"training.batch_size = {training.batch_size} cannot be divided among training.devices = "
            f"{training.devices}; raise the batch, or take fewer devices"
        )


def _of_compositions(config: RoundConfig) -> Iterator[str]:
    least, structures = config.compositional.least_converged, config.generation.random_search.structures
    if least > structures:
        yield (
            f"compositional.least_converged = {least} can never be reached with "
            f"generation.random_search.structures = {structures}, so no composition would become a label; lower the "
            "first, or raise the second"
        )
