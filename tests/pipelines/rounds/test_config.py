import subprocess
import sys
import tomllib

import pytest

from pipelines.errors import UserError
from pipelines.rounds.config import RoundConfig, derived_seed, load_config, parse_config
from pipelines.rounds.toml import config_toml


def test_the_printed_config_is_the_default_and_explains_every_key():
    text = config_toml(RoundConfig())
    assert parse_config(tomllib.loads(text), "printed") == RoundConfig()
    unexplained = [line for line in text.splitlines() if "=" in line and "#" not in line]
    assert unexplained == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"selection": {"treshold": 1}},
            "unknown key selection.treshold; did you mean selection.threshold?",
        ),
        ({"budget": 3}, "round.toml: unknown key budget; did you mean selection.budget?"),
        ({"scoring": {"members": 0}}, "scoring.members: input should be greater than or equal to 1 (got 0)"),
        ({"xyzzy": 1}, "`gnome config` prints the valid keys"),
        ({"selection": 3}, "round.toml: selection:"),
    ],
)
def test_mistakes_name_file_key_and_remedy(values, message):
    with pytest.raises(UserError) as error:
        parse_config(values, "round.toml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_users_mistakes(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_config(str(tmp_path / "none.toml"))
    path = tmp_path / "round.toml"
    path.write_text("seed = = 3")
    with pytest.raises(UserError, match="not TOML"):
        load_config(str(path))


def test_seeds_differ_by_purpose_and_fit_63_bits():
    config = RoundConfig(seed=7)
    seeds = {derived_seed(config, "train", r, m) for r in range(20) for m in range(20)}
    assert len(seeds) == 400
    assert max(seeds) < 2**63
    assert derived_seed(config, "a", 1) != derived_seed(RoundConfig(seed=8), "a", 1)


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("pipelines.rounds.config", ("jax", "apache_beam", "pymatgen", "scipy", "pyarrow")),
        (
            "pipelines.cli.status_text, pipelines.rounds.driver, pipelines.report.collect",
            ("jax", "apache_beam", "pymatgen"),
        ),
    ],
)
def test_reading_settings_and_status_loads_nothing_heavy(modules, heavy):
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
