"""The names of evaluators, and where the code of ours is: literals, as settings name one and are read in a moment."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from gnome_core.potentials.default import EMBEDDED

# Any package may add an evaluator of its own: a function that takes a RelaxConfig and returns an `Evaluator`.
ENTRY_POINT_GROUP = "gnome.evaluators"
EVALUATORS = {"chgnet": "dft.evaluators.chgnet:CHGNetEvaluator"}
# Potentials of gnome_core.potentials.by_name that relax by their name alone.
POTENTIALS = (EMBEDDED, "chgnet-distilled", "chgnet-r2scan", "nequix-oam-1", "nequix-oam-1-pft", "pretrained")
# Each is made of its section of `DftConfig`, the wall time of a step and the corrections that one may have.
ENGINES = {"espresso": "dft.espresso.engine:EspressoEngine", "vasp": "dft.vasp.engine:VaspEngine"}
POTENTIAL_KINDS = ("potential", "label", "steps")  # followed by ":" and a name of gnome_core.potentials.by_name
NEWEST = "potential:newest"  # the last one that rounds of the store have trained


def is_engine(name: str) -> bool:
    """Whether the evaluator runs in job folders, outside Beam, rather than in the workers."""
    return name in ENGINES


def is_potential(name: str) -> bool:
    """Whether it names a potential of gnome_core.potentials.by_name, by its name alone or as KIND:POTENTIAL."""
    kind, _, potential = name.partition(":")
    return name in POTENTIALS or (kind in (*POTENTIAL_KINDS, "ase") and bool(potential))


def require_installed(name: str) -> EntryPoint:
    """What an installed package offers under that name, or a ValueError that says which evaluators there are."""
    offered = entry_points(group=ENTRY_POINT_GROUP)
    if name not in offered.names:
        known = ", ".join((*POTENTIALS, *EVALUATORS, *ENGINES, *sorted(offered.names)))
        raise ValueError(f"no evaluator {name!r}; there is: {known}, potential:FILE.npz, ase:...")
    return offered[name]


def check_name(name: str) -> str:
    """The name, or a ValueError that says which there are."""
    if name not in EVALUATORS and not is_engine(name) and not is_potential(name):
        require_installed(name)
    return name
