"""The names of all evaluators and where their code is: literals, since settings name one and are read in a moment."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

# Any package may add an evaluator of its own: a function that takes a RelaxConfig and returns an `Evaluator`.
ENTRY_POINT_GROUP = "gnome.evaluators"
EVALUATORS = {
    "embedded": "dft.evaluators.embedded:EmbeddedEvaluator",
    "chgnet": "dft.evaluators.embedded:EmbeddedEvaluator",
}
# Potentials of gnome_core.potentials.by_name that relax by their name alone.
POTENTIALS = ("chgnet-r2scan", "nequix-oam-1", "nequix-oam-1-pft", "pretrained")
# Each is made of its section of `DftConfig`, the wall time of a step and the corrections that one may have.
ENGINES = {"espresso": "dft.espresso.engine:EspressoEngine", "vasp": "dft.vasp.engine:VaspEngine"}
POTENTIAL_KINDS = ("potential", "label")  # followed by ":" and a name of gnome_core.potentials.by_name


def is_engine(name: str) -> bool:
    """Whether the evaluator runs in job folders, outside Beam, rather than in the workers."""
    return name in ENGINES


def installed(name: str) -> EntryPoint | None:
    """What an installed package offers under that name of an evaluator."""
    return next(iter(entry_points(group=ENTRY_POINT_GROUP, name=name)), None)


def check_name(name: str) -> str:
    """The name, or a ValueError that says which there are."""
    kind, _, potential = name.partition(":")
    known = (*EVALUATORS, *POTENTIALS, *ENGINES)
    if name in known or (kind in (*POTENTIAL_KINDS, "ase") and potential) or installed(name):
        return name
    offered = sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})
    raise ValueError(f"no evaluator {name!r}; there is: {', '.join((*known, *offered))}, potential:FILE.npz, ase:...")
