"""What evaluates jobs: crystals in, relaxations or the reasons for their failure out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from dft.config import DftConfig

if TYPE_CHECKING:  # settings name their evaluator, and are read in a moment
    from dft.engine import Engine
    from gnome_core.crystals.crystal import Crystal
    from gnome_core.potentials.config import RelaxConfig
    from gnome_core.potentials.relax import Relaxation, RelaxationFailure


class Evaluator(Protocol):
    """scale: energy scale of the answers. protocol: every setting that decides them; part of the job digest."""

    name: str

    @property
    def scale(self) -> str: ...

    @property
    def protocol(self) -> Mapping[str, object]: ...

    def evaluate(
        self, crystals: Sequence[Crystal], progress: Callable[[int], None] | None = None
    ) -> list[Relaxation | RelaxationFailure]:
        """One outcome a crystal, in order. Equal lists give equal bits. progress hears of every few that finish."""
        ...


def make_evaluator(
    name: str, config: RelaxConfig, dft: DftConfig | None = None, folder: str | None = None
) -> Evaluator:
    """The evaluator of that name. Raises ValueError naming the ones there are.

    dft, folder: settings of first-principles engines, and where their job folders are (needed to evaluate only).
    """
    kind, _, potential = check_name(name).partition(":")
    if name in ENGINES:
        from dft.job_evaluator import JobEvaluator

        return JobEvaluator(make_engine(name, dft or DftConfig()), dft or DftConfig(), folder)
    if kind in POTENTIAL_KINDS:
        from dft.potential import Labeller, PotentialEvaluator

        return (PotentialEvaluator if kind == "potential" else Labeller)(potential, config)
    return EVALUATORS[name](config)


def make_engine(name: str, dft: DftConfig) -> Engine:
    """The first-principles engine of that name. Raises ValueError naming the ones there are."""
    if name not in ENGINES:
        raise ValueError(f"no first-principles engine {name!r}; there is: {', '.join(ENGINES)}")
    return ENGINES[name](dft)


def is_engine(name: str) -> bool:
    """Whether the evaluator runs in job folders, outside Beam, rather than in the workers."""
    return name in ENGINES


POTENTIAL_KINDS = ("potential", "label")  # followed by ":" and a name of gnome_core.potentials.named


def check_name(name: str) -> str:
    """The name, or a ValueError that says which there are."""
    kind, _, potential = name.partition(":")
    if name not in EVALUATORS and name not in ENGINES and not (kind in POTENTIAL_KINDS and potential):
        raise ValueError(f"no evaluator {name!r}; there is: {', '.join((*EVALUATORS, *ENGINES))}, potential:FILE.npz")
    return name


def _embedded(config: RelaxConfig) -> Evaluator:
    from dft.embedded import EmbeddedEvaluator

    return EmbeddedEvaluator(config)


def _espresso(dft: DftConfig) -> Engine:
    from dft.espresso import EspressoEngine

    return EspressoEngine(dft.espresso, dft.wall_time, dft.max_errors)


def _vasp(dft: DftConfig) -> Engine:
    from dft.vasp import VaspEngine

    return VaspEngine(dft.vasp, dft.wall_time, dft.max_errors)


EVALUATORS: dict[str, Callable[[RelaxConfig], Evaluator]] = {"embedded": _embedded}
ENGINES: dict[str, Callable[[DftConfig], Engine]] = {"espresso": _espresso, "vasp": _vasp}
