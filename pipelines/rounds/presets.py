"""Settings to begin with, by the machine that is there: `gnome config --preset NAME`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gnome_core.models.config import PAPER
from gnome_core.training.members.config import PAPER_TRAINING
from pipelines.errors import UserError
from pipelines.rounds.config import RoundConfig, parse_config


@dataclass(frozen=True)
class Preset:
    """What a preset is for, and the settings in which it differs from the defaults."""

    purpose: str
    values: dict[str, Any]


# Models of a first round know no unbalanced compositions and take them for deep discoveries.
_BALANCED = {"oxidation_rule": True}
# Of both frameworks.
_NETWORK = PAPER.model_dump(exclude_defaults=True)
_TRAINING = {"first": "scratch", "init": "scratch", **PAPER_TRAINING.model_dump(exclude_unset=True)}

PRESETS = {
    "tiny": Preset(
        "whether all works: a round of one chemical system (`gnome init STORE --chemsys Li-P-S-Cl`) in a minute or two",
        {
            "generation": {**_BALANCED, "max_recipes_per_parent": 5, "max_sites": 8},
            "scoring": {"members": 2, "max_candidates": 2_000, "cascade": {"refine": 40}},
            "selection": {"budget": 8, "random_baseline": 4, "clustered_per_formula": 3},
            "evaluation": {"max_steps": 100},
            "training": {"fine_tune_epochs": 2},
        },
    ),
    "laptop": Preset(
        "rounds of minutes on a few cores: a part of the periodic table (--chemsys, snapshot_elements), small cells",
        {
            "generation": {**_BALANCED, "max_recipes_per_parent": 20, "max_sites": 16},
            "scoring": {"members": 4, "max_candidates": 24_000, "cascade": {"refine": 400}},
            "selection": {"budget": 50, "random_baseline": 20, "clustered_per_formula": 3},
            "evaluation": {"max_steps": 150},
            "training": {"fine_tune_epochs": 5},
        },
    ),
    "cluster": Preset(
        "large rounds on a Beam runner with many workers: all elements, all recipes, tables in many files",
        {
            "part_files": 32,
            "generation": _BALANCED,
            "scoring": {"members": 10, "max_candidates": 10_000_000, "cascade": {"refine": 25_000}},
            "selection": {"budget": 5_000, "random_baseline": 500},
            "training": {"epochs": 200},
        },
    ),
    "paper": Preset(
        "what GNoME did (Nature 624, 80, 2023, Methods) where the paper says it: ten members of width 256 trained from "
        "nothing for 1,000 epochs, both frameworks, 20 volumes, VASP; budgets are ours. It wants accelerators and a "
        "supercomputer",
        {
            "framework": "both",
            "recompute": True,
            "shipped_candidates": False,
            "part_files": 32,
            "generation": {"random_search": {"structures": 100, "volume_factors": [0.4, 1.2]}},
            "model": _NETWORK,
            "scoring": {
                "members": 10,
                "over_volumes": "minimum",
                "max_candidates": 1_000_000_000,
                "cascade": {"enabled": False},
            },
            "selection": {
                "threshold": 0.05,
                "clustered_per_formula": 100,
                "budget": 10_000,
                "parents_within": 0.0,
            },
            "evaluation": {"evaluator": "vasp"},
            "training": _TRAINING,
            "compositional": {
                "members": 10,
                "threshold": 0.05,
                "budget": 10_000,
                "least_converged": 10,
                "snapshot_labels": False,
                "model": {**_NETWORK, "ratio": "weight"},
                "training": _TRAINING,
            },
        },
    ),
}


def preset(name: str) -> RoundConfig:
    """The settings of a preset. Raises UserError naming those there are."""
    if name not in PRESETS:
        raise UserError(f"--preset {name}: there is {', '.join(PRESETS)}")
    return parse_config(PRESETS[name].values, f"preset {name}")
