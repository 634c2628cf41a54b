"""The names of all evaluators and where their code is: literals, since settings name one and are read in a moment."""

from __future__ import annotations

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


def check_name(name: str) -> str:
    """The name, or a ValueError that says which there are."""
    kind, _, potential = name.partition(":")
    known = (*EVALUATORS, *POTENTIALS, *ENGINES)
    if name not in known and not (kind in (*POTENTIAL_KINDS, "ase") and potential):
        raise ValueError(f"no evaluator {name!r}; there is: {', '.join(known)}, potential:FILE.npz, ase:...")
    return name
