"""Relaxations that keep the cell, the symmetry or a pressure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dft.evaluators.evaluator import Evaluator
from dft.evaluators.potential import PotentialEvaluator
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.constraints import Constraints, Symmetry
from gnome_core.potentials.relax import relax
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_GPA
from pipelines.errors import UserError


def constrained(
    evaluator: Evaluator, pressure: float, cell: bool, symmetry: bool
) -> tuple[Callable[[Sequence[Crystal]], list] | None, dict[str, object] | None]:
    """(what relaxes so, what names these settings), both None without any. pressure: GPa.

    Raises UserError for evaluators that are no potentials.
    """
    if not pressure and cell and not symmetry:
        return None, None
    if not isinstance(evaluator, PotentialEvaluator):
        raise UserError(f"{evaluator.name} cannot keep the cell, the symmetry or a pressure; potentials can")

    def evaluate(crystals: Sequence[Crystal]) -> list:
        own = [
            Constraints(cell, pressure / EV_PER_CUBIC_ANGSTROM_IN_GPA, Symmetry.of(crystal) if symmetry else None)
            for crystal in crystals
        ]
        return relax(crystals, evaluator.potential, evaluator.config, constraints=own)

    return evaluate, {"pressure": pressure, "cell": cell, "symmetry": symmetry}
