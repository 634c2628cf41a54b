"""Wrong names and settings are refused before a round starts, and leave the store as it was."""

import shutil

import pytest

from gnome_core.errors import GnomeError
from pipelines.cli.config import round_config
from pipelines.errors import UserError
from pipelines.rounds import driver
from pipelines.rounds.config import parse_config
from pipelines.rounds.preflight import check_round
from pipelines.store.store import Store
from tests.pipelines.conftest import gnome

WRONG = [
    ({"evaluation": {"evaluator": "label:x"}}, r"evaluation.evaluator: label:x .*no potential 'x'"),
    ({"evaluation": {"evaluator": "potential:nofile.npz"}}, "evaluation.evaluator: .*nofile.npz"),
    ({"evaluation": {"evaluator": "potential:ase:nomodule:emt"}}, "evaluation.evaluator: .*nomodule"),
    ({"evaluation": {"evaluator": "potential:ase:math:sin"}}, "evaluation.evaluator: "),
    ({"evaluation": {"evaluator": "potential:nowhere"}}, "evaluation.evaluator: .*there are"),
    ({"evaluation": {"evaluator": "potential:pretrained"}}, "evaluation.evaluator: .* computes on .*nequip"),
    ({"evaluation": {"evaluator": "espresso"}}, "evaluation.evaluator: espresso computes on "),
    ({"evaluation": {"pre_relax": "potential:nofile.npz"}}, "evaluation.pre_relax: .*nofile.npz"),
    ({"generation": {"generators": ["substitution", "homolog"]}}, "'homolog' is not installed; there is: .*saps"),
    ({"generation": {"generators": []}}, "generation.generators: name at least one"),
    ({"generation": {"elements": ["Mg", "Sj"]}}, "generation.elements: no such element 'Sj'"),
    ({"generation": {"elements": ["Mg-Si"]}}, "generation.elements: no such element 'Mg-Si'"),
    ({"generation": {"elements": []}}, "generation.elements: names no element"),
    ({"generation": {"elements": ["P", "Xe"]}}, "no elemental reference of P, Xe"),
    ({"generation": {"known": ["shipped", "icsd.csv"]}}, r"generation.known: .*icsd.csv: no such file"),
    ({"framework": "compositional"}, "trained no compositional members"),
    ({"framework": "both"}, "trained no compositional members"),
    ({"model": {"width": 16}}, "training.init = fine_tune goes with the .model. of round 0"),
]


@pytest.fixture
def store(initialised, tmp_path) -> Store:
    shutil.copytree(initialised, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def changed(config, change: dict):
    document = config.document()
    for key, value in change.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return parse_config(document, "test")


@pytest.mark.parametrize(("change", "complaint"), WRONG, ids=[str(change) for change, _ in WRONG])
def test_a_wrong_name_starts_nothing(change, complaint, store):
    before = store.storage.files("")
    config = driver.load_round_config(store, 0)
    with pytest.raises(UserError, match=complaint):
        driver.start_round(store, changed(config, change))
    assert store.storage.files("").keys() == before.keys()
    assert driver.start_round(store, config) == 1, "the next right command goes on"


def test_the_command_line_says_it_in_one_line(store):
    ended = gnome("round", "run", store.root, "--evaluator", "label:x")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("gnome: evaluation.evaluator: label:x cannot be used: no potential 'x'")
    assert store.rounds() == [0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("composition\nMgO\n", r"known.csv has no column `formula`; it has \['composition'\]"),
        (
            "formula\nMgO\nMgXx2\nNaxCl\n",
            r"generation.known: .*known.csv, row 1: 'MgXx2' holds 'Xx', .* \(and 1 more such rows\); mend the rows",
        ),
    ],
)
def test_a_list_of_known_compositions_is_read_before_the_round(text, complaint, store, tmp_path):
    (tmp_path / "known.csv").write_text(text)
    change = {"generation": {"known": [str(tmp_path / "known.csv")]}}
    with pytest.raises(GnomeError, match=complaint):
        driver.start_round(store, changed(driver.load_round_config(store, 0), change))
    assert store.rounds() == [0]


@pytest.mark.parametrize("change", [{"model": {"width": 16}}, {"compositional": {"model": {"width": 8}}}])
def test_members_of_the_package_want_their_network(change, tmp_path):
    with pytest.raises(UserError, match=r"training\.first = pretrained goes with the"):
        check_round(Store(str(tmp_path)), 0, changed(round_config(None), {"framework": "both", **change}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"generation": {"elements": ["Li", "Po"]}},
            r"generation\.elements: the embedded snapshot holds nothing of Po",
        ),
        (
            {"snapshot_elements": ["Li", "Rn", "Fr"]},
            r"snapshot_elements: the embedded snapshot holds nothing of Rn, Fr",
        ),
        ({"snapshot_elements": ["Li,P"]}, r"snapshot_elements: no such element 'Li,P'; write symbols"),
        ({"snapshot_elements": [""]}, r"snapshot_elements: no such element ''; write symbols"),
        ({"snapshot_elements": []}, "snapshot_elements: names no element; leave the key out"),
        (
            {"snapshot_elements": ["Li", "S"], "generation": {"elements": ["Li", "Cl"]}},
            r"generation\.elements: Cl is not in snapshot_elements, Li, S; add it there",
        ),
    ],
    ids=["candidates", "snapshot", "symbol", "empty", "none", "outside"],
)
def test_elements_that_the_snapshot_lacks_are_named(settings, complaint, tmp_path):
    """Its rounds used to reject all candidates that hold one, and ended as if nothing were wrong."""
    with pytest.raises(UserError, match=complaint):
        driver.init_store(str(tmp_path / "store"), changed(round_config(None), settings))
    assert not (tmp_path / "store").exists()


def test_settings_that_an_open_round_cannot_take_are_refused(store):
    config = driver.load_round_config(store, 0)
    other = changed(config, {"selection": {"budget": 4}})
    assert driver.open_or_start_round(store, other) == 1
    assert driver.open_or_start_round(store, None) == 1
    assert driver.open_or_start_round(store, other) == 1, "the same settings again ask for nothing else"
    with pytest.raises(UserError, match=r"round 1 is open, with other settings; .*resume .*drop"):
        driver.open_or_start_round(store, config)
    assert driver.load_round_config(store, 1) == other


def test_a_store_is_begun_again_while_nothing_is_committed(store, tiny, tmp_path):
    config = driver.load_round_config(store, 0)
    root = str(tmp_path / "new")
    with pytest.raises(UserError, match="no such element"):
        driver.init_store(root, changed(config, {"generation": {"elements": ["Sj"]}}))
    assert Store(root).rounds() == []
    driver.init_store(root, changed(config, {"seed": 9}))
    made = driver.init_store(root, config)
    assert driver.load_round_config(made, 0) == config
    with pytest.raises(UserError, match="is a store already"):
        driver.init_store(store.root, config)
    store.storage.delete("rounds/r0000/ROUND.json")
    with pytest.raises(UserError, match=r"another configuration \(seed\)"):
        driver.init_store(store.root, changed(config, {"seed": 9}))
