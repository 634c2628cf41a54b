"""What `--json` prints is what docs/json.md says, and the numbers are those of the library."""

import json
import shutil

import pytest
from jsonschema import Draft202012Validator, ValidationError
from typer.main import get_command
from typer.testing import CliRunner

import pipelines
from gnome_core.crystals.arrow import crystals_from_batch
from pipelines.beam.job_servers import runner_states
from pipelines.cli.app import app
from pipelines.cli.json_text import print_json
from pipelines.store.store import Store
from tests.pipelines.cli.json_page import SCHEMAS, check


def asked(*arguments: str, code: int = 0) -> dict:
    """The document of a command, with all that goes to stdout being it."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def with_json(command, words=()) -> list[str]:
    found = [" ".join(words)] if any("--json" in option.opts for option in command.params) else []
    return found + [w for name, c in getattr(command, "commands", {}).items() for w in with_json(c, (*words, name))]


def test_every_command_with_the_option_has_a_schema():
    described = {" ".join(word for word in command.split() if word.islower()) for command in SCHEMAS}
    assert described == set(with_json(get_command(app)))
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_a_property_more_or_less_does_not_pass():
    document = {"store": "S", "whole": False, "complaints": [{"path": "a", "what": "b"}]}
    check("verify STORE", document)
    with pytest.raises(ValidationError):
        check("verify STORE", {**document, "more": 1})
    with pytest.raises(ValidationError):
        check("verify STORE", {**document, "complaints": [{"path": "a"}]})


def test_no_number_is_null(capsys):
    print_json({"mae": float("nan"), "gain": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"mae": None, "gain": [None, 1.5]}


def test_top_has_the_discoveries_of_the_library(two_rounds):
    store, stable = str(two_rounds), pipelines.open_store(two_rounds).stable(arrow=True).to_pylist()
    document = asked("top", store)
    check("top STORE", document)
    assert document["store"] == store
    assert len(stable) == document["discoveries"]["on_hull"] == len(document["crystals"]) > 0
    for row, found in zip(stable, document["crystals"], strict=True):
        assert {name: row[name] for name in found if name in row} == {
            name: value for name, value in found.items() if name in row
        }
        assert found["sites"] == len(row["numbers"])
    assert asked("top", store, "-n", "1")["crystals"] == document["crystals"][:1]


def test_status_has_the_rounds_of_the_library(two_rounds):
    document = asked("round", "status", str(two_rounds))
    check("round status STORE", document)
    rounds = {row["round"]: row for row in pipelines.open_store(two_rounds).rounds(arrow=True).to_pylist()}
    assert [row["round"] for row in document["rounds"]] == [0, 1, 2]
    assert document["rounds"][0]["evaluated"] is None
    for row in document["rounds"][1:]:
        found = row["evaluated"]
        assert found["chosen"] > 0
        expected = {name: rounds[row["round"]][name] for name in found}
        assert found == {name: value if value == value else None for name, value in expected.items()}
    stages = [stage for row in document["rounds"] for stage in row["stages"]]
    assert {stage["state"] for stage in stages} == {"committed"}
    for stage in stages:
        lost = sum(stage["rejected"].values()) + sum(stage["dead"].values())
        assert stage["in"] == stage["out"] + lost


def test_status_of_an_open_round(scored):
    document = asked("round", "status", str(scored))
    check("round status STORE", document)
    assert document["discoveries"] is None
    assert [row["closed"] for row in document["rounds"]] == [True, False]
    states = [stage["state"] for stage in document["rounds"][1]["stages"]]
    assert states == ["committed"] * 2 + ["to run"] * 6
    refused = CliRunner().invoke(app, ["round", "status", str(scored), "--json", "--watch"])
    assert "choose one" in str(refused.exception)


def test_show_explains_entries_and_origins(two_rounds):
    store, entries = str(two_rounds), pipelines.open_store(two_rounds).entries(arrow=True)
    rows = entries.to_pylist()
    elements, compounds = ([row for row in rows if ("-" in row["chemsys"]) is flag] for flag in (False, True))
    chosen = [
        next(row for row in elements if row["on_hull"]),
        next(row for row in compounds if row["on_hull"] and row["round"] > 0),
        max(compounds, key=lambda row: row["e_above_hull"]),
    ]
    for row in chosen:
        document = asked("show", store, row["id"])
        check("show STORE ID", document)
        assert {name: row[name] for name in document if name in row} == {
            name: value for name, value in document.items() if name in row
        }
        assert sum(phase["atom_fraction"] for phase in document["stable_phases"]) == pytest.approx(1)
        place = [row["id"] for row in rows].index(row["id"])
        (crystal,) = crystals_from_batch(entries.slice(place, 1))
        assert document["structure"]["lattice"] == crystal.lattice.tolist()
        assert len(document["structure"]["symbols"]) == crystal.n_sites
        assert bool(document["reaction"]) == ("-" in row["chemsys"])
        assert document["ancestry"][0]["id"] == row["id"]
        assert [step["made_by"] is None for step in document["ancestry"]] == [
            step["round"] == 0 for step in document["ancestry"]
        ]
    origins = asked("show", store)
    check("show STORE", origins)
    assert sum(root["discoveries"] for root in origins["roots"]) == origins["discoveries"]["on_hull"]
    assert sum(made["last_step"] for made in origins["generators"]) == origins["discoveries"]["on_hull"]


def test_verify_says_whether_a_store_is_whole(initialised, tmp_path):
    document = asked("verify", str(initialised))
    check("verify STORE", document)
    assert (document["whole"], document["complaints"]) == (True, [])
    damaged = tmp_path / "damaged"
    shutil.copytree(initialised, damaged)
    commit = Store(str(damaged)).commit(0, "hull")
    (damaged / commit.files[0].path).unlink()
    document = asked("verify", str(damaged), code=1)
    check("verify STORE", document)
    assert not document["whole"]
    assert commit.files[0].path in [complaint["path"] for complaint in document["complaints"]]


def test_runners():
    document = asked("runners")
    check("runners", document)
    assert document["runners"] == [vars(state) for state in runner_states()]
