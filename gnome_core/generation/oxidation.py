"""The relaxed oxidation-state rule: which compositions can be neutral."""

from __future__ import annotations

from functools import cache

import numpy as np

from gnome_core.crystals.formulas import SYMBOLS

N_COLUMNS = 95  # compositions are (n, 95) atom counts by atomic number


@cache
def _elements() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(95,) each: lowest and highest charge, highest negative charge, Pauling electronegativity; NaN where unknown."""
    import smact

    low, high, anionic, electronegativity = np.full((4, N_COLUMNS), np.nan)
    for z in range(1, N_COLUMNS):
        element = smact.Element(SYMBOLS[z])
        states = list(element.oxidation_states_smact14 or [])
        if SYMBOLS[z] in smact.metals:
            states.append(0)
        if states:
            low[z], high[z] = min(states), max(states)
            anionic[z] = max([q for q in states if q < 0], default=high[z])
        electronegativity[z] = element.pauling_eneg or np.nan
    return low, high, anionic, electronegativity


def can_be_neutral(compositions: np.ndarray) -> np.ndarray:
    """(n,) whether compositions (n, 95, atom counts by atomic number) pass the relaxed oxidation-state rule.

    Every element takes charges between its lowest and its highest common state (SMACT's list of 2014), metals also
    zero; the most electronegative element is an anion if it can be; the total must reach zero. All-metal compositions
    pass as intermetallics. The rule of GNoME's compositional pipeline (Nature 624, 80, Methods) lets elements sit
    between two adjacent states, which makes every total between the extremes reachable.
    """
    low, high, anionic, electronegativity = _elements()
    compositions = np.asarray(compositions)
    known = np.isfinite(low)
    present = compositions > 0
    strongest = np.where(present & np.isfinite(electronegativity), electronegativity, -np.inf).argmax(axis=1)
    rows = np.arange(len(compositions))
    lowest = compositions[:, known] @ low[known]
    highest = compositions[:, known] @ high[known]
    highest = highest + compositions[rows, strongest] * np.nan_to_num(anionic - high)[strongest]
    return (lowest <= 0) & (highest >= 0) & ~present[:, ~known].any(axis=1)
