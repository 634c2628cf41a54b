"""Seeds for those who have AIRSS: `buildcell < SEED.cell` then makes what `random_search.py` makes here.

Tags as in the buildcell manual (airss-docs.github.io). Every atom of the formula unit has a line of its own, so that
#TARGVOL is the volume of the formula unit whatever the composition.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from gnome_core.compositions.formulas import SYMBOLS, Composition, formula_of_composition
from gnome_core.generation.config import RandomSearchConfig
from gnome_core.generation.separations import spheres

POINT_OPERATIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 48)  # what buildcell knows for crystals


def seed_cell(key: Composition, config: RandomSearchConfig) -> str:
    """The text of a commented .cell seed for a reduced composition ((Z, count), ...).

    Separations are those of the smallest volume factor, at which the atoms are still to be packed.
    Raises ValueError when the formula unit has more than `config.max_sites` atoms.
    """
    model, formula = spheres(key), formula_of_composition(key)
    atoms = [(SYMBOLS[z], count) for z, count in key]
    unit = sum(count for _, count in atoms)
    if unit > config.max_sites:
        raise ValueError(f"{formula}: {unit} atoms in the formula unit, max_sites is {config.max_sites}; raise it")
    volume = float(model.volumes @ [count for _, count in atoms])
    smallest, largest = (factor * volume for factor in config.volume_factors)
    edge = volume ** (1 / 3)
    nearest = config.volume_factors[0] ** (1 / 3) * model.separations
    every_pair = combinations_with_replacement(range(len(atoms)), 2)
    pairs = [f"{atoms[i][0]}-{atoms[j][0]}={nearest[i, j]:.2f}" for i, j in every_pair]
    units = min(config.max_formula_units, config.max_sites // unit)
    operations = [n for n in POINT_OPERATIONS if n <= config.max_operations]
    lines = [
        f"## Random structures of {formula}. buildcell reads the tags behind one #; two make a comment.",
        "%BLOCK LATTICE_CART",
        *(" ".join(f"{edge if i == j else 0:.6f}" for j in range(3)) for i in range(3)),
        "%ENDBLOCK LATTICE_CART",
        "",
        f"## Volume of the formula unit in cubic angstroms: {config.volume_factors[0]:g} to "
        f"{config.volume_factors[1]:g} times the sum of atomic volumes, {volume:.2f}.",
        f"#TARGVOL={smallest:.2f}-{largest:.2f}",
        "",
        "%BLOCK POSITIONS_FRAC",
        *(f"{symbol} 0.0 0.0 0.0 # {symbol}{i} % NUM=1" for symbol, count in atoms for i in range(1, count + 1)),
        "%ENDBLOCK POSITIONS_FRAC",
        "",
        "## Formula units in the cell.",
        f"#NFORM={_choice(range(1, units + 1))}",
        "## Point operations of the space group.",
        f"#SYMMOPS={_choice(operations)}",
        "## Shortest distances in angstroms at the smallest volume; the first is for pairs that are not listed.",
        f"#MINSEP={np.min(nearest):.2f} {' '.join(pairs)}",
        "## Push the atoms apart, as soft spheres, until they keep these distances.",
        "#SLACK=0.25",
        "#OVERLAP=0.1",
        "## Niggli-reduce the cell; give up a cell that will not pack after a second.",
        "#COMPACT",
        "#MAXTIME=1",
    ]
    return "\n".join(lines) + "\n"


def _choice(values) -> str:
    """A range or set as buildcell reads it: "3", "1-4", "{1,2,4}"."""
    values = list(values)
    if len(values) == 1:
        return str(values[0])
    if values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}-{values[-1]}"
    return "{" + ",".join(map(str, values)) + "}"
