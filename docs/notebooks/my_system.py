# %% [markdown]
# # My system
#
# Mg-Ca-O-S without a store: known crystals, candidates made of them, the ensemble's opinion, relaxations of the best.
# A campaign does the same at scale, learns, and keeps all of it ([tutorial](../tutorial.md)). Run it in a clone of
# the repository.

# %%
import gnome_core

known = gnome_core.to_structures("examples/mg-ca-o-s")
[structure.reduced_formula for structure in known]

# %% [markdown]
# Ions are exchanged where Hautier's statistics make it likely.

# %%
candidates = gnome_core.substitutions(known, elements=["Mg", "Ca", "O", "S"])
small = [candidate for candidate in candidates if len(candidate) <= 4]
len(candidates), len(small)

# %% [markdown]
# Formation energies by the shipped ensemble, and how far above the Materials Project's hull they are (eV/atom).

# %%
table = gnome_core.predictions(small, hull="mp")
table["formula"] = [structure.reduced_formula for structure in small]
best = table.nsmallest(2, "e_above_hull")
best[["formula", "e_above_hull"]]

# %% [markdown]
# The evaluator has the last word: `chgnet-distilled` relaxes them. `nequix-oam-1` is dearer and far more accurate
# ([judges](../judges.md)).

# %%
relaxed = gnome_core.relax([small[row] for row in best.index], "embedded", fmax=0.1)
[(r.reduced_formula, round(r.properties["energy_per_atom"], 3), round(r.volume / len(r), 2)) for r in relaxed if r]
