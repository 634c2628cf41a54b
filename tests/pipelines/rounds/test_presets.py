"""`gnome config --preset`: settings that are read again, and are what the presets are for."""

import tomllib

import pytest
from typer.testing import CliRunner

from gnome_core.models.config import PAPER
from gnome_core.training.members.config import PAPER_TRAINING
from pipelines.cli.app import app
from pipelines.rounds.config import RoundConfig, load_config, parse_config
from pipelines.rounds.presets import PRESETS, preset
from tests.conftest import ROOT


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_printed_is_the_preset(name):
    printed = CliRunner().invoke(app, ["config", "--preset", name])
    assert printed.exit_code == 0
    assert printed.output.startswith(f"# Settings of a round, preset {name}: ")
    assert parse_config(tomllib.loads(printed.output), "printed") == preset(name) != RoundConfig()


def test_rounds_grow_from_one_preset_to_the_next():
    sizes = [preset(name).selection.budget for name in ("tiny", "laptop", "cluster", "paper")]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", ["tiny", "laptop", "cluster"])
def test_candidates_are_balanced_and_of_unknown_composition(name):
    generation = preset(name).generation
    assert generation.oxidation_rule
    assert generation.known_lists


def test_the_paper_s_is_that_of_configs():
    settings = preset("paper")
    structural = load_config(str(ROOT / "configs" / "structural-paper.toml"))
    compositional = load_config(str(ROOT / "configs" / "compositional-paper.toml"))
    assert settings.model == structural.model
    assert settings.model == PAPER
    assert settings.training == structural.training
    assert (settings.scoring, settings.selection.parents_within) == (
        structural.scoring.model_copy(update={"max_candidates": settings.scoring.max_candidates}),
        structural.selection.parents_within,
    )
    assert not settings.compositional.snapshot_labels
    assert settings.compositional.model.ratio == "weight"
    assert settings.training.settings() == PAPER_TRAINING
    assert (settings.scoring.members, settings.scoring.over_volumes) == (10, "minimum")
    assert settings.compositional.model == compositional.compositional.model
    assert settings.compositional.training == compositional.compositional.training
    assert settings.compositional.snapshot_labels == compositional.compositional.snapshot_labels
    assert settings.generation.random_search == compositional.generation.random_search


def test_a_name_that_there_is_not():
    result = CliRunner().invoke(app, ["config", "--preset", "huge"])
    assert str(result.exception) == "--preset huge: there is tiny, laptop, cluster, paper"
