import re
import subprocess
import sys
import tomllib
from functools import reduce
from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel

from gnome_core.analysis.replay import ReplayConfig
from gnome_core.generation.config import SUBSTITUTION_RULE, GenerationConfig
from gnome_core.generation.oxidation import can_be_neutral
from gnome_core.potentials.default import DEFAULT
from pipelines.errors import UserError
from pipelines.potentials.config import PotentialConfig
from pipelines.rounds.config import (
    RoundConfig,
    derived_seed,
    load_config,
    load_round_config,
    parse_config,
    settled,
    with_absolute_paths,
)
from pipelines.rounds.driver import embedded_after
from pipelines.rounds.toml import config_toml, parse_settings
from pipelines.store.store import Store


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"selection": {"per_formula": 5, "clustered_per_formula": 3}},
            "selection.clustered_per_formula = 3 keeps; raise",
        ),
        ({"selection": {"polymorphs": 2, "cost_budget": 9.0}}, "leave it out, or them"),
        ({"framework": "both", "selection": {"random_polymorphs": 1}}, "set compositional.budget"),
        ({"scoring": {"over_volumes": "minimum"}}, 'set over_volumes = "median", or volume_jitter = 0'),
        ({"training": {"devices": 64}}, "raise the batch, or take fewer devices"),
        (
            {"framework": "compositional", "generation": {"random_search": {"structures": 5}}},
            "no composition would become a label; lower the first",
        ),
        ({"generation": {"compositions": {"formulas": ["LiCl"]}}}, "does not name; add it there"),
        ({"evaluation": {"evaluator": "chgnet", "pre_relax": "chgnet"}}, "leave pre_relax out"),
        ({"evaluation": {"evaluator": "espresso"}, "dft": {"emit": "flows"}}, 'espresso takes "folders" or "tar"'),
        ({"generation": {"species": "elements", "saps_charge_balance": True}}, "generation: saps_charge_balance needs"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line_with_a_remedy(values, message):
    with pytest.raises(UserError) as error:
        parse_config(values, "round.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("round.toml: ")
    assert "\n" not in str(error.value)
    assert "got {" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"scoring": {"over_volumes": "minimum"}, "training": {"volume_jitter": 0.0}},
        {"framework": "compositional", "selection": {"per_formula": 500}},  # selection's is of structures
        {"generation": {"random_search": {"structures": 5}}},
        {"generation": {"compositions": {"formulas": ["LiCl"]}, "generators": ["random_search"]}},
        {"framework": "both", "generation": {"compositions": {"formulas": ["LiCl"]}}},
    ],
)
def test_settings_that_go_together_are_taken(values):
    parse_config(values, "round.toml")


def test_what_a_round_may_evaluate_is_known_before_it_starts():
    selection = {"budget": 10, "random_baseline": 3, "polymorphs": 4, "random_polymorphs": 2}
    asked = parse_config({"selection": selection}, "round.toml").most_evaluations()
    assert asked == {"chosen": 10, "random": 3, "polymorphs": 60}
    assert RoundConfig().most_evaluations() == {"chosen": 100, "random": 10}
    values = {"framework": "compositional", "compositional": {"budget": 5}}
    assert parse_config(values, "round.toml").most_evaluations() == {"random structures": 500}


def sections(model: BaseModel, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], BaseModel]]:
    """Every table of the settings, with the values that its keys have when it is left out."""
    inner = [(name, getattr(model, name)) for name in type(model).model_fields]
    tables = [
        found for name, value in inner if isinstance(value, BaseModel) for found in sections(value, (*path, name))
    ]
    return [(path, model), *tables]


def nested(path: tuple[str, ...], values: dict) -> dict:
    for name in reversed(path):
        values = {name: values}
    return values


def at(model: BaseModel, path: tuple[str, ...]) -> BaseModel:
    return reduce(getattr, path, model)


@pytest.mark.parametrize("kind", [RoundConfig, PotentialConfig])
def test_keys_left_out_keep_the_documented_value_in_every_section(kind):
    """Each key of each table alone in its file: all others are as if the table were not there."""
    whole = kind()
    n = 0
    for path, section in sections(whole):
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            if isinstance(value, BaseModel):
                continue
            other = another(value, field)
            if other is None:
                continue
            made = parse_settings(kind, nested(path, {name: other}), "test")
            expected = at(whole, path).model_copy(update={name: getattr(at(made, path), name)})
            assert at(made, path) == expected, (path, name)
            assert at(made, path) != section
            for elsewhere, untouched in sections(whole):
                if elsewhere != path[: len(elsewhere)]:
                    assert at(made, elsewhere) == untouched
            n += 1
    assert n > {RoundConfig: 90, PotentialConfig: 35}[kind]


def another(value, field):
    """Another valid value of the key, None where there is none to be had easily."""
    bounds = {name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)}
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value - 1 if value - 1 >= bounds.get("ge", bounds.get("gt", 0) + 1) else value + 1
    if isinstance(value, float):
        return (value + bounds.get("ge", bounds.get("gt", 0))) / 2 or 1e-3
    if value is None and bounds:
        return 3
    return None


def test_the_first_of_the_sections_to_lose_its_own_defaults():
    training = parse_config({"compositional": {"training": {"patience": 5}}}, "test").compositional.training
    assert (training.epochs, training.batch_size, training.volume_jitter, training.patience) == (80, 128, 0.0, 5)
    network = parse_settings(PotentialConfig, {"model": {"layers": 2}}, "test").network((3, 8), 2)
    assert (network.layers, network.elements, network.levels) == (2, (3, 8), 2), "what was not given is still open"


@pytest.mark.parametrize("kind", [RoundConfig, PotentialConfig, ReplayConfig])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e23, -1e23])
def test_no_number_may_be_without_bounds(kind, value):
    n = 0
    for path, section in sections(kind()):
        for name, field in type(section).model_fields.items():
            kinds = {field.annotation, *get_args(field.annotation)}
            if not kinds & {int, float} or (kinds & {tuple}):
                continue
            with pytest.raises(UserError, match=re.escape(".".join((*path, name)))):
                parse_settings(kind, nested(path, {name: value}), "test")
            n += 1
    assert n > 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_numbers_in_lists_have_bounds_too(value):
    for kind, values in (
        (RoundConfig, nested(("generation", "random_search"), {"volume_factors": [0.4, value]})),
        (PotentialConfig, nested(("training",), {"drops": [0.5, value]})),
        (PotentialConfig, nested(("model",), {"elements": [3, value]})),
    ):
        with pytest.raises(UserError):
            parse_settings(kind, values, "test")


def test_the_rule_of_the_structural_framework_is_the_one_that_its_text_names():
    (field,) = (GenerationConfig.model_fields["oxidation_rule"],)
    assert f"the {SUBSTITUTION_RULE} oxidation-state rule" in field.description
    salt = np.zeros((1, 95), int)
    salt[0, [11, 17]] = 1, 2  # NaCl2: relaxed takes chlorine for a cation of up to +7
    assert [bool(can_be_neutral(salt, rule)[0]) for rule in ("relaxed", SUBSTITUTION_RULE)] == [True, False]


def test_unreadable_files_are_users_mistakes(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_config(str(tmp_path / "none.toml"))
    path = tmp_path / "round.toml"
    path.write_text("seed = = 3")
    with pytest.raises(UserError, match="not TOML"):
        load_config(str(path))
    path.write_bytes("seed = 3  # 5 Å".encode("latin-1"))
    with pytest.raises(UserError, match=r"not UTF-8 \(.* at byte 14\); save it as UTF-8"):
        load_config(str(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_settings_are_utf8_with_and_without_a_mark(encoding, tmp_path):
    path = tmp_path / "round.toml"
    path.write_text("seed = 3  # 5 Å", encoding=encoding)
    assert load_config(str(path)).seed == 3


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


def test_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p.npz", "s.parquet", "gnome.csv", "embedded"):
        (tmp_path / name).touch()
    (tmp_path / "cifs").mkdir()

    def stored(snapshot: str, evaluator: str = "embedded", pre_relax: str | None = None) -> tuple[str, str, str | None]:
        values = {"snapshot": snapshot, "evaluation": {"evaluator": evaluator, "pre_relax": pre_relax}}
        config = with_absolute_paths(parse_config(values, "x"))
        assert with_absolute_paths(config) == config
        return config.snapshot, config.evaluation.evaluator, config.evaluation.pre_relax

    potential = f"potential:{tmp_path}/p.npz"
    assert stored("s.parquet", "potential:p.npz") == (f"{tmp_path}/s.parquet", potential, None)
    assert stored("cifs", "espresso", "potential:./p.npz") == (f"{tmp_path}/cifs", "espresso", potential)
    assert stored("gnome-csv:gnome.csv")[0] == f"gnome-csv:{tmp_path}/gnome.csv"
    for name in ("embedded", "mp-api", "optimade:https://example.org", "none.parquet"):
        assert stored(name)[0] == name
    for name in ("embedded", "potential:pretrained", "potential:none.npz", "label:embedded"):
        assert stored("embedded", name)[1] == name
    assert with_absolute_paths(parse_config({"confirm": {"by": "potential:p.npz"}}, "x")).confirm.by == potential
    for given, kept in ((["shipped", "a.csv"], ("shipped", f"{tmp_path}/a.csv")), ("snapshot", "snapshot")):
        assert with_absolute_paths(parse_config({"generation": {"known": given}}, "x")).generation.known == kept


def test_rounds_keep_the_name_of_the_evaluator_that_embedded_stands_for():
    values = {"evaluation": {"evaluator": "vasp", "pre_relax": "embedded"}, "confirm": {"by": "label:embedded"}}
    given, asked = parse_config({}, "x"), parse_config(values, "x")
    assert settled(given).evaluation.evaluator == DEFAULT
    assert settled(asked).evaluation.pre_relax == DEFAULT
    assert settled(asked).confirm.by == f"label:{DEFAULT}"
    assert settled(settled(given)) == settled(given)


@pytest.mark.parametrize("written", ["embedded", "chgnet", "nequix-oam-1"])
def test_settings_of_earlier_versions_kept_the_word_when_it_stood_for_chgnet(written, tmp_path):
    store = Store(str(tmp_path))
    document = parse_config({}, "x").document()
    document["evaluation"]["evaluator"] = written
    store.start_round(0, document)
    assert load_round_config(store, 0).evaluation.evaluator == ("chgnet" if written == "embedded" else written)
    own = settled(parse_config({}, "x"), embedded_after(load_round_config(store, 0))).evaluation.evaluator
    assert own == (DEFAULT if written == "nequix-oam-1" else "chgnet"), "a store goes on with what it began with"


@pytest.mark.parametrize("known", ["shipped", [], [3], ["icsd"], {"shipped": 1}, [""]])
def test_lists_of_known_compositions_are_named_one_way(known):
    with pytest.raises(UserError, match=r"x: generation.known: .*(a list such as|nor the name of a .csv or .parquet)"):
        parse_config({"generation": {"known": known}}, "x")


def test_a_calculators_file_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    for given, kept in (
        ("ase:mine.py:make", f"ase:{tmp_path}/mine.py:make"),
        ("potential:ase:mine.py:make", f"potential:ase:{tmp_path}/mine.py:make"),
        ("ase:package.module:make", "ase:package.module:make"),
        ("nequix-oam-1", "nequix-oam-1"),
    ):
        config = RoundConfig(evaluation={"evaluator": given})
        assert with_absolute_paths(config).evaluation.evaluator == kept


def test_a_round_that_was_begun_goes_on_with_what_a_new_one_is_refused(tmp_path):
    store = Store(str(tmp_path))
    document = RoundConfig().document()
    document["scoring"]["over_volumes"] = "minimum"
    with pytest.raises(UserError, match="over_volumes"):
        parse_config(document, "round.toml")
    store.start_round(0, document)
    assert load_round_config(store, 0).scoring.over_volumes == "minimum"
