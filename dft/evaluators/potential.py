"""Potentials as evaluators: relaxations (by name, or `potential:FILE`), single-point labels (`label:NAME`), the first
steps of relaxations as labels (`steps:NAME`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.by_name import SHIPPED, make_potential, shipped_path
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.potential import Evaluation, Potential
from gnome_core.potentials.published import PUBLISHED
from gnome_core.potentials.relax import OPTIMIZER, Frame, Relaxation, RelaxationFailure, refusal, relax
from gnome_core.stability.corrections import Corrections

Outcome = Relaxation | RelaxationFailure


class PotentialEvaluator:
    """Relaxes with a potential of `gnome_core.potentials.by_name`. Crystals it cannot judge fail by name."""

    kind = "potential"

    def __init__(self, potential: str, config: RelaxConfig, name: str | None = None):
        """name: what the user called it, if not KIND:POTENTIAL."""
        self.potential_name, self.config = potential, config
        self.name = name or f"{self.kind}:{potential}"

    @property
    def scale(self) -> str:
        return self.potential.scale

    @property
    def protocol(self) -> Mapping[str, object]:
        return {
            "evaluator": self.kind,
            "scale": self.scale,
            "potential": self._identity,
            "optimizer": OPTIMIZER,
            "relax": self.config.model_dump(),
        }

    @cached_property
    def potential(self) -> Potential:
        """Loaded when it is first asked for."""
        return make_potential(self.potential_name)

    @cached_property
    def _identity(self) -> str:
        return _identity(self.potential_name)

    def corrections(self, crystals: Sequence[Crystal]) -> Corrections | None:
        """What is to be added to energies of relaxed crystals; None from potentials on a scale without corrections."""
        correct = getattr(self.potential, "corrections", None)
        return correct(crystals) if correct else None

    def evaluate(self, crystals: Sequence[Crystal], progress: Callable[[int], None] | None = None) -> list[Outcome]:
        return relax(crystals, self.potential, self.config, progress)


class Labeller(PotentialEvaluator):
    """One frame a crystal, as it is: what synthetic pre-training learns from."""

    kind = "label"

    @property
    def protocol(self) -> Mapping[str, object]:
        return {"evaluator": self.kind, "scale": self.scale, "potential": self._identity}

    def evaluate(self, crystals: Sequence[Crystal], progress: Callable[[int], None] | None = None) -> list[Outcome]:
        refused = [refusal(self.potential, crystal, []) for crystal in crystals]
        judged = [crystal for crystal, failure in zip(crystals, refused, strict=True) if failure is None]
        answers = iter(zip(judged, self.potential.evaluate(judged), strict=True))
        outcomes = [failure or _labelled(*next(answers)) for failure in refused]
        if progress:
            progress(len(crystals))
        return outcomes


class StepLabeller(PotentialEvaluator):
    """The first `config.max_steps` frames of each crystal's relaxation, which need not come to an end."""

    kind = "steps"

    def evaluate(self, crystals: Sequence[Crystal], progress: Callable[[int], None] | None = None) -> list[Outcome]:
        outcomes = super().evaluate(crystals, progress)
        unfinished = [isinstance(o, RelaxationFailure) and o.reason == "not_converged" for o in outcomes]
        return [Relaxation(o.frames, None) if cut else o for o, cut in zip(outcomes, unfinished, strict=True)]


def _labelled(crystal: Crystal, answer: Evaluation) -> Outcome:
    if np.isfinite(answer.energy) and np.isfinite(answer.forces).all():
        return Relaxation([Frame(0, crystal, answer.energy, answer.forces, answer.stress)], answer.magmoms)
    return RelaxationFailure("not_finite", "energy or forces are not finite", [])


def _identity(name: str) -> str:
    """The potential's name; a file by its content, so that retraining it changes every job."""
    if name in PUBLISHED:
        return PUBLISHED[name].sha256
    path = Path(shipped_path(name) if name in SHIPPED else name)
    if path.suffix not in (".npz", ".nqx") or not path.exists():
        return name
    digest = hashlib.blake2b(digest_size=16)
    digest.update(path.read_bytes())
    if path.suffix == ".npz":
        digest.update(path.with_suffix(".json").read_bytes())
    return digest.hexdigest()
