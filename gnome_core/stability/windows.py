"""The range of an element's chemical potential in which a phase is stable: its electrochemical window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gnome_core.stability.hull import Hull


class Window(NamedTuple):
    """Chemical potentials of one element, eV against its reference phase, between which a phase does not react with a
    reservoir of the element. For lithium, -low is the oxidation potential in V against Li/Li+, -high the reduction
    potential: a phase with high = 0 is stable in contact with lithium metal."""

    low: float
    high: float


def chemical_potential_window(hull: Hull, entry: int, element: int) -> Window:
    """The window of an entry that holds `element` (atomic number), as if it lay on the hull where it is above it.

    The planes that pass under all entries of the chemical system and through this one give each element a chemical
    potential; the window is the range over all of them, found by two linear programs (as in Ong et al., Chem. Mater.
    20, 1798, 2008). Raises ValueError where the entry lacks the element, MissingReference for missing references.
    """
    from scipy.optimize import linprog

    system, composition = hull.system_of(entry)
    if element not in system.elements:
        raise ValueError(f"entry {hull.ids[entry]} holds no element {element}, so no reservoir of it limits it")
    column = system.elements.index(element)
    point = composition[list(system.elements)] / composition.sum()
    energy = float(system.relative_energies(point[None])[0])
    objective = np.zeros(len(point))
    ends = []
    for sign in (1.0, -1.0):
        objective[column] = sign
        result = linprog(
            objective,
            A_ub=system.fractions,
            b_ub=system.energies,
            A_eq=point[None],
            b_eq=[energy],
            bounds=(None, None),
            method="highs",
        )
        if result.status != 0:
            raise RuntimeError(f"the window of entry {hull.ids[entry]} could not be found: {result.message}")
        ends.append(float(result.x[column]))
    return Window(*ends)
