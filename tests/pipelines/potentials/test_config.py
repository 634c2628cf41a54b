"""potential.toml: the published settings have files."""

import pytest

from gnome_core.models.config import PAPER_NEQUIP
from gnome_core.training.potential.config import PAPER_POTENTIAL, PAPER_ROBUSTNESS
from pipelines.potentials.config import load_potential_config
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("file", "training"), [("potential-paper", PAPER_POTENTIAL), ("potential-robustness", PAPER_ROBUSTNESS)]
)
def test_the_papers_settings_have_their_files(file, training):
    settings = load_potential_config(str(ROOT / "configs" / f"{file}.toml"))
    assert settings.training == training
    assert settings.model == PAPER_NEQUIP
    assert settings.network((3, 8)) == PAPER_NEQUIP, "all its elements, whatever the frames hold"
