"""The Flex Template's parameters, and the page about Dataflow: options that exist, the table that the script prints."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from pipelines.beam import options  # noqa: F401  our own options
from pipelines.rounds.plan import stages_of

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "dataflow"
README = (FOLDER / "README.md").read_text()


@pytest.fixture(scope="module")
def parameters() -> dict[str, dict]:
    return {one["name"]: one for one in json.loads((FOLDER / "metadata.json").read_text())["parameters"]}


def beam_options() -> set[str]:
    parser = _BeamArgumentParser(allow_abbrev=False)
    for kind in {str(kind): kind for kind in PipelineOptions.__subclasses__()}.values():
        kind._add_argparse_args(parser)
    return {name.lstrip("-") for action in parser._actions for name in action.option_strings}


def test_template_parameters_are_the_launchers_and_beams(parameters):
    assert set(parameters) <= {"store", "stage"} | beam_options()
    for one in parameters.values():
        assert {"label", "helpText"} <= set(one)
        for pattern in one.get("regexes", []):
            re.compile(pattern)


def test_template_stages_are_the_drivers(parameters):
    stages = {option["value"] for option in parameters["stage"]["enumOptions"]}
    assert stages == {*stages_of(0), *stages_of(1)}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("store", "gs://my-bucket/campaign", "/tmp/store"),
        ("accelerator", "type:nvidia-l4;count:1;install-nvidia-driver", "nvidia-l4"),
        ("accelerator_min_ram", "32GB", "32"),
        ("sdk_container_image", "repository/gnome-gpu:0.1.0", "python:3.11"),
    ],
)
def test_template_parameters_refuse_what_would_fail_later(name, good, bad, parameters):
    (pattern,) = parameters[name]["regexes"]
    assert re.fullmatch(pattern, good)
    assert not re.fullmatch(pattern, bad)


def test_options_on_the_page_exist():
    with_underscores = set(re.findall(r"--([a-z]+(?:_[a-z]+)+)\b", README))
    assert with_underscores
    assert with_underscores <= beam_options()


def test_the_table_is_what_the_script_prints():
    specification = importlib.util.spec_from_file_location("cost", FOLDER / "cost.py")
    cost = importlib.util.module_from_spec(specification)
    sys.modules["cost"] = cost
    specification.loader.exec_module(cost)
    shown = README.partition("<!-- cost.py -->\n")[2].partition("\n<!-- /cost.py -->")[0]
    assert shown == cost.table()
    hours, dollars = cost.dollars(1e9, cost.Figures(), cost.Assumptions(), cost.Prices())
    ten = cost.dollars(1e10, cost.Figures(), cost.Assumptions(), cost.Prices())
    assert ten[0] == pytest.approx(10 * hours, rel=0.01), "what does not grow with the candidates is little"
    assert dollars > hours * cost.Prices().vcpu
