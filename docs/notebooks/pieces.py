# %% [markdown]
# # The library's pieces
#
# What a round is made of, one by one, on crystals at hand. [The library](../library.md) has ten more tasks.

# %%
from ase.build import bulk

import gnome_core

salt = gnome_core.to_structures(bulk("NaCl", "rocksalt", a=5.64))

# %% [markdown]
# **Candidates.** Whole ions exchanged, and a part of an ion's sites, one choice of each symmetry class (SAPS).

# %%
whole = gnome_core.substitutions(salt, elements=["Li", "K", "Br"])
partial = gnome_core.saps(salt * (2, 1, 1), elements=["K"], charge_balance=True)
[s.reduced_formula for s in whole], [s.reduced_formula for s in partial]

# %% [markdown]
# **Which of them are the same structure?** What pymatgen's StructureMatcher joins has one label, and one prototype.

# %%
labels = gnome_core.cluster([salt, salt * (1, 1, 2), *partial])
prototypes = gnome_core.prototypes([salt, *partial])

# %% [markdown]
# **Are they stable?** Distances (eV/atom) to a hull of formation energies, and to the Materials Project's as published.
# They mean something only if both are on one scale.

# %%
formulas, e_form = ["NaCl", "KNaCl2", "KCl"], [-2.10, -2.13, -2.24]
among_themselves = gnome_core.e_above_hull(formulas, e_form)
above_mp = gnome_core.e_above_hull(formulas, e_form, hull="mp")
