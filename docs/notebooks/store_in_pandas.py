# %% [markdown]
# # A store in pandas
#
# `campaign` is a store in which a round has ended; a bucket (`gs://BUCKET/PATH`) opens in the same way. Nothing is
# written.

# %%
import gnome_core
import pipelines

store = pipelines.open_store("campaign")
found = store.stable()  # the discoveries, those that lower the hull most first
found[["formula", "e_form_per_atom", "e_above_hull_others", "e_above_mp_hull", "novelty", "generator"]]

# %% [markdown]
# Are the models better than chance? Hits are crystals at or below the hull as it was before their round.

# %%
rounds = store.rounds()
rounds[["round", "chosen", "hit_rate", "chosen_by_chance", "hit_rate_by_chance", "mae"]]

# %% [markdown]
# Every entry, and what lies close to the hull.

# %%
entries = store.entries()
close = entries[(entries["round"] > 0) & (entries["e_above_hull"] < 0.05)]
by_system = entries.groupby("chemsys").agg(entries=("id", "size"), stable=("on_hull", "sum"))

# %% [markdown]
# Tables of crystals go as they are into every function of `gnome_core`, and become structures of pymatgen or ASE.

# %%
structures = gnome_core.to_structures(close)
labels = gnome_core.cluster(close) if len(close) else []
