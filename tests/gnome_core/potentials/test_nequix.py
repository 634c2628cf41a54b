"""Published Nequix potentials: their files, their answers beside the original's, corrections, and how they are got."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials import published
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.files import BadPotential
from gnome_core.potentials.nequix_potential import NequixPotential
from gnome_core.potentials.potential import UnknownElement
from tests.gnome_core.potentials.samples import ROCKSALT, SHARED, SKEWED

pytestmark = pytest.mark.usefixtures("quickly_compiled")

NAMES = ("nequix-oam-1", "nequix-oam-1-pft")


def weights(name: str) -> Path:
    path = SHARED / f"{name}.nqx"
    if not path.exists():
        pytest.skip(f"the published weights ({path.name}) are not beside the repository")
    return path


def write_small(path: Path, **changes) -> None:
    """A file of the published format with one layer of scalars, as its makers would write it."""
    settings = {
        "index_weights": False, "layer_norm": True, "n_layers": 1, "hidden_irreps": "4x0e", "lmax": 1, "cutoff": 4.0,
        "radial_polynomial_p": 6.0, "radial_basis_size": 8, "radial_mlp_size": 8, "radial_mlp_layers": 1,
        "avg_n_neighbors": 12.0, "scale": 1.5, "shift": -2.0, "atomic_numbers": [11, 17],
    }  # fmt: skip
    rng = np.random.default_rng(0)
    # Atoms, radial layers, linear before, linear after, self-connection, norm, read-out.
    shapes = [(2,), (8, 8), (8, 2), (2, 2), (2, 4), (2, 4), (4,), (4, 1)]
    with path.open("wb") as file:
        file.write(json.dumps(settings | changes).encode() + b"\n")
        for shape in shapes:
            np.save(file, rng.normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_the_original(name):
    potential = NequixPotential.load(weights(name), name)
    rows = pq.read_table(SHARED / f"{name}_reference.parquet").to_pylist()[:24]
    crystals = [
        Crystal(np.reshape(row["lattice"], (3, 3)), np.reshape(row["frac_coords"], (-1, 3)), row["numbers"])
        for row in rows
    ]
    for row, crystal, answer in zip(rows, crystals, potential.evaluate(crystals), strict=True):
        assert answer.energy / crystal.n_sites == pytest.approx(row["energy_per_atom_ev"], abs=1e-5)
        np.testing.assert_allclose(answer.forces.ravel(), row["forces_ev_a"], atol=1e-4)
        np.testing.assert_allclose(answer.stress.ravel(), row["stress_ev_a3"], atol=1e-5)


def test_the_stress_is_the_derivative_of_the_energy_by_strain():
    potential = NequixPotential.load(weights(NAMES[0]), NAMES[0])
    (answer,) = potential.evaluate([SKEWED])
    strain = np.array([[1.0, 0.3, 0.0], [0.3, -0.5, 0.2], [0.0, 0.2, 0.4]])
    ends = potential.evaluate(
        [
            Crystal(SKEWED.lattice @ (np.eye(3) + step * strain), SKEWED.frac_coords, SKEWED.numbers)
            for step in (1e-3, -1e-3)
        ]
    )
    slope = (ends[0].energy - ends[1].energy) / 2e-3
    assert slope == pytest.approx(SKEWED.volume * (answer.stress * strain).sum(), rel=2e-3)


def test_a_file_of_the_format_is_read_and_answers(tmp_path):
    write_small(tmp_path / "small.nqx")
    potential = make_potential(str(tmp_path / "small.nqx"))
    assert potential.scale == "small/mp2020"
    (answer,) = potential.evaluate([ROCKSALT])
    assert np.isfinite(answer.energy)
    with pytest.raises(UnknownElement, match="Ca, Ti"):
        potential.check(Crystal(SKEWED.lattice, SKEWED.frac_coords[:3], [20, 22, 11]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"no json\n"), "not a Nequix potential"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "not a Nequix potential"),
        (lambda path: write_small(path, index_weights=True), "a variant of Nequix"),
        (lambda path: write_small(path, hidden_irreps="8x0e"), "not a Nequix potential"),
        (lambda path: path.unlink(), "gnome potential get"),
    ],
    ids=["text", "cut", "variant", "shapes", "missing"],
)
def test_a_file_that_is_none_is_named(tmp_path, spoil, message):
    path = tmp_path / "small.nqx"
    write_small(path)
    spoil(path)
    with pytest.raises(BadPotential, match=message) as caught:
        make_potential(str(path)).evaluate([ROCKSALT])
    assert str(path) in str(caught.value)


def test_corrections_are_the_materials_projects():
    """Of MgO 0.687 eV an oxygen; of iron in an oxide more, since it is computed with a U; of a metal nothing."""
    iron_oxide = Crystal(ROCKSALT.lattice * 0.77, ROCKSALT.frac_coords, [26, 8])
    oxide = Crystal(ROCKSALT.lattice * 0.75, ROCKSALT.frac_coords, [12, 8])
    metal = Crystal(ROCKSALT.lattice, ROCKSALT.frac_coords, [26, 12])
    found = NequixPotential.corrections(None, [oxide, iron_oxide, metal])
    np.testing.assert_allclose(found.per_atom, [-0.687 / 2, (-0.687 - 2.256) / 2, 0], atol=1e-3)
    assert found.version.startswith("mp2020/require_bound/")


def test_a_published_file_is_checked_when_it_comes_and_when_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BadPotential, match="gnome potential get nequix-oam-1"):
        published.installed("nequix-oam-1")
    other = tmp_path / "other.nqx"
    write_small(other)
    with pytest.raises(BadPotential, match="not the published nequix-oam-1"):
        published.get("nequix-oam-1", other)
    path = published.get("nequix-oam-1", weights("nequix-oam-1"))
    assert published.installed("nequix-oam-1") == path
    assert published.get("nequix-oam-1") == path  # without the network
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadPotential, match="not the published"):
        published.installed("nequix-oam-1")


def test_an_address_that_does_not_answer_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    nowhere = published.PUBLISHED["nequix-oam-1"].__class__("http://127.0.0.1:9/x.nqx", "0" * 64, "", "")
    monkeypatch.setitem(published.PUBLISHED, "nequix-oam-1", nowhere)
    with pytest.raises(BadPotential, match=r"gnome potential get nequix-oam-1 FILE"):
        published.get("nequix-oam-1")
