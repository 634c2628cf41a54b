# %% [markdown]
# # My calculator
#
# Any ASE calculator can judge. Here it is ASE's EMT for metals, since it needs nothing; MACE goes in the same way
# ([my model](../my-model.md)).

# %%
from pathlib import Path

from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

import gnome_core

ordered = bulk("Cu", cubic=True)
ordered.symbols[0] = "Au"  # Cu3Au
metals = [bulk("Cu"), bulk("Au"), bulk("Al"), ordered]

# %% [markdown]
# From Python a calculator is given as it is. What comes back are Atoms with energy, forces and stress.

# %%
relaxed = gnome_core.relax(metals, EMT(), fmax=0.01)
copper, gold, _, alloy = (atoms.get_potential_energy() / len(atoms) for atoms in relaxed)
mixing = alloy - (3 * copper + gold) / 4  # eV/atom

# %% [markdown]
# For commands and rounds, a file has a function that returns it. `identity` is whatever tells this model from the next
# one: it is part of the energies' scale, and results on two scales never mix.

# %%
Path("emt.py").write_text(
    """
from ase.calculators.emt import EMT

def make():
    calculator = EMT()
    calculator.identity = "EMT of ASE"
    return calculator
"""
)
write("metals.extxyz", metals)

# %% [markdown]
#     gnome relax metals.extxyz -o relaxed.parquet --evaluator ase:emt.py:make
#
# relaxes a file, formation energies included, and
#
#     gnome init metals --snapshot metals.extxyz --evaluator ase:emt.py:make
#     gnome round run metals
#
# make a store whose hull is EMT's. The same relaxation by the file's function:

# %%
from dft.evaluators.make import make_evaluator
from gnome_core.potentials.config import RelaxConfig

evaluator = make_evaluator("ase:emt.py:make", RelaxConfig(fmax=0.01))
evaluator.scale
