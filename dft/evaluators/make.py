"""Making an evaluator of its name."""

from __future__ import annotations

from pkgutil import resolve_name

from dft.config import DftConfig
from dft.engines import make_engine
from dft.evaluators.evaluator import Evaluator
from dft.names import EVALUATORS, is_engine, is_potential, require_installed
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.default import meant


def make_evaluator(
    name: str, config: RelaxConfig, dft: DftConfig | None = None, folder: str | None = None
) -> Evaluator:
    """The evaluator of that name, ours or an installed package's. Raises ValueError naming the ones there are.

    dft, folder: settings of first-principles engines, and where their job folders are (needed to evaluate only).
    """
    name = meant(name)
    kind, _, potential = name.partition(":")
    if is_engine(name):
        from dft.evaluators.engine import JobEvaluator

        return JobEvaluator(make_engine(name, dft or DftConfig()), dft or DftConfig(), folder)
    if name in EVALUATORS:
        return resolve_name(EVALUATORS[name])(config)
    if not is_potential(name):
        return require_installed(name).load()(config)
    from dft.evaluators.potential import Labeller, PotentialEvaluator, StepLabeller

    if labeller := {"label": Labeller, "steps": StepLabeller}.get(kind):
        return labeller(potential, config)
    return PotentialEvaluator(potential if kind == "potential" else name, config, name)
