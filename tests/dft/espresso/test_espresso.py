"""Quantum ESPRESSO: inputs, outputs that a real run left, failures as pw.x words them, and a real run of two atoms."""

import gzip
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from dft.config import DftConfig, EspressoConfig
from dft.espresso import pseudopotentials
from dft.espresso.engine import SAFER, EspressoEngine
from dft.espresso.inputs import magnetic_fractions, magnetic_moments, pw_input, standard_cell
from dft.espresso.outputs import band_gap, read_frames, read_moments
from dft.evaluators.make import make_evaluator
from dft.jobs.engine import EngineMissing, OutputError, StepFailed, read_job
from dft.jobs.folders import JobFolders, State
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.relax import Relaxation
from tests.dft.fake_pw import MGO_RUN, write_program

FCC = np.ones((3, 3)) - np.eye(3)
MGO = Crystal(FCC * 2.15, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])
O2 = Crystal(np.diag([6.0, 6.0, 6.0]), [[0, 0, 0], [0.2, 0, 0]], [8, 8])


def lines(crystal: Crystal, step: str, **options) -> dict[str, str]:
    text = pw_input(crystal, step, EspressoConfig(), "PSEUDO", options.pop("fractions", {}), options).decode()
    pairs = (line.split("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs} | {"text": text}


def test_inputs_follow_the_protocol():
    relax, static = lines(MGO, "relax2"), lines(MGO, "static")
    assert (relax["calculation"], static["calculation"]) == ("'vc-relax'", "'scf'")
    for settings in (relax, static):
        assert float(settings["ecutwfc"]) == 90
        assert (settings["occupations"], settings["smearing"]) == ("'smearing'", "'gauss'")
        assert "nspin" not in settings
    assert "K_POINTS automatic\n9 9 9" in relax["text"]
    assert "K_POINTS automatic\n10 10 10" in static["text"]


def test_iron_and_oxygen_molecules_have_spins_and_oxides_have_none():
    assert magnetic_moments(MGO) == {}
    assert magnetic_moments(O2) == {"O": 1.0}
    rust = Crystal(np.diag([4.0, 4.0, 4.0]), [[0, 0, 0], [0.5, 0.5, 0.5]], [26, 8])
    assert magnetic_moments(rust) == {"Fe": 5.0}
    settings = lines(rust, "relax1", fractions={"Fe": 0.3125})
    assert settings["nspin"] == "2"
    assert float(settings["starting_magnetization(1)"]) == 0.3125


def test_symmetry_that_nearly_holds_is_made_exact_and_set_along_the_axes():
    """Twice the primitive cell, turned and shaken: pw.x would find next to no symmetry."""
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    double = np.diag([2, 1, 1]) @ MGO.lattice @ turn + rng.normal(0, 1e-4, (3, 3))
    sites = [[0, 0, 0], [0.25, 0.5, 0.5], [0.5, 0, 0], [0.75, 0.5, 0.5]] + rng.normal(0, 1e-5, (4, 3))
    made = standard_cell(Crystal(double, sites, [12, 8, 12, 8]), 0.01)
    assert made.n_sites == 2
    assert made.volume == pytest.approx(MGO.volume, rel=1e-3)
    np.testing.assert_allclose(made.lattice, FCC * 2.15, rtol=1e-3)
    far = Crystal(MGO.lattice, [[0, 0, 0], [0.45, 0.52, 0.5]], [12, 8])
    assert standard_cell(far, 0.01).n_sites == 2


def test_a_real_relaxation_is_read_step_by_step():
    result = EspressoEngine(EspressoConfig()).read("relax1", MGO_RUN)
    assert result.failure == ""
    assert len(result.frames) == 4
    volumes = [frame.crystal.volume for frame in result.frames]
    assert volumes[0] == pytest.approx(MGO.volume, rel=1e-5)
    assert (2 * volumes[-1] * 2) ** (1 / 3) == pytest.approx(4.253, abs=0.002)  # Å, the cubic cell
    assert result.frames[-1].energy == pytest.approx(-152.10260662 * 13.605693, abs=1e-3)  # Ry
    stress = result.frames[0].stress
    assert np.trace(stress) / 3 == pytest.approx(46.39 / 1602.1766, abs=1e-4), "stretched: tension, positive"
    assert result.magnetization == 0.0
    assert result.band_gap == pytest.approx(4.5, abs=0.2)  # eV, PBE


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (lambda text: text[: len(text) // 2], "crashed"),
        (lambda text: text.replace("bfgs converged", "bfgs went on").replace("End of BFGS", ""), "bfgs_failed"),
        (lambda text: text + "\n Maximum CPU time exceeded\n", "wall_time"),
        (lambda text: text + "\n convergence NOT achieved after 100 iterations: stopping\n", "scf_not_converged"),
        (lambda text: text + "\n No space left on device\n", "no_space"),
        (lambda text: text + "\n Error in routine cdiaghg (159):\n S matrix not positive definite\n", "engine_error"),
    ],
)
def test_failures_are_told_apart(cut, reason, tmp_path):
    shutil.copytree(MGO_RUN, tmp_path / "run")
    text = gzip.decompress((MGO_RUN / "pw.out.gz").read_bytes()).decode()
    (tmp_path / "run/pw.out.gz").write_bytes(gzip.compress(cut(text).encode()))
    result = EspressoEngine(EspressoConfig()).read("relax1", tmp_path / "run")
    assert result.failure == reason
    assert result.frames, "what was computed is kept"


def test_missing_and_damaged_files_are_named(tmp_path):
    engine = EspressoEngine(EspressoConfig())
    with pytest.raises(OutputError, match=r"has no pw\.out"):
        engine.read("relax1", tmp_path)
    shutil.copytree(MGO_RUN, tmp_path / "run")
    (tmp_path / "run/pw.xml.gz").write_bytes(gzip.compress(b"<espresso><output>"))
    with pytest.raises(OutputError, match=r"pw\.xml\.gz is no whole XML"):
        engine.read("relax1", tmp_path / "run")
    (tmp_path / "run/pw.out.gz").write_bytes((MGO_RUN / "pw.out.gz").read_bytes()[:3000])
    with pytest.raises(OutputError, match="cannot be unpacked"):
        read_frames(tmp_path / "run/pw.out.gz")


def espresso_run(folder: Path, xml=lambda text: text, out=lambda text: text) -> Path:
    """The real run with its files changed, uncompressed."""
    folder.mkdir()
    for name, change in (("pw.xml", xml), ("pw.out", out)):
        (folder / name).write_text(change(gzip.decompress((MGO_RUN / f"{name}.gz").read_bytes()).decode()))
    return folder


def as_version(version: str, schema: str, *changes: tuple[str, str]):
    """A change of pw.xml into what another version writes of a state without spin."""

    def change(xml: str) -> str:
        xml = re.sub(r"\n\s*<total>0\.0+e0</total>", "", xml).replace("6.7MaX", version).replace("qes_030920", schema)
        for before, after in changes:
            assert before in xml
            xml = xml.replace(before, after)
        return xml

    return change


NO_SPINORBIT = "<spinorbit>false</spinorbit>"


@pytest.mark.parametrize(
    "change",
    [
        lambda xml: xml,
        as_version("7.0", "qes_210716"),  # which names an older schema than its own
        as_version("7.1", "qes_211101", ("<absolute>0.000000000000000e0</absolute>", "")),
        as_version("7.5", "qes_250521", (NO_SPINORBIT, f"{NO_SPINORBIT}<do_magnetization>false</do_magnetization>")),
    ],
    ids=["6.7", "7.0", "7.1", "7.5"],
)
def test_every_version_of_the_xml_is_read(change, tmp_path):
    result = EspressoEngine(EspressoConfig()).read("relax1", espresso_run(tmp_path / "run", change))
    assert (result.failure, result.magnetization) == ("", 0.0)
    assert result.frames[-1].energy == pytest.approx(-2069.4612078, abs=1e-5)
    assert result.band_gap == pytest.approx(4.487, abs=1e-3)
    assert result.scale == "pbe/pseudodojo-0.4/90ry/espresso"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("<lsda>false</lsda>", "<lsda>true</lsda>", "has no output/magnetization/total"),
        ("<noncolin>false</noncolin>", "<noncolin>true</noncolin>", "has noncollinear spins"),
        ("fermi_energy>", "highestOccupiedLevel>", "has no output/band_structure/fermi_energy"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_version(before, after, message, tmp_path):
    folder = espresso_run(tmp_path / "run", as_version("7.3", "qes_230310", (before, after)))
    with pytest.raises(OutputError, match=f"pw.x 7.3 {message}") as caught:
        EspressoEngine(EspressoConfig()).read("relax1", folder)
    assert caught.value.reason == "unknown_output"


@pytest.mark.parametrize(
    "table",
    [
        "     atom:    {}    charge:    6.4123    magn:  {}    constr:    0.0000\n",  # to 6.7
        "     atom {:3d} (R=0.357)  charge= 12.0000  magn= {}\n",  # since 6.8
        "     atom {:3d} (R=0.357)  charge=112.0000  magn={}\n",
    ],
)
def test_moments_of_atoms_are_read_in_the_words_of_every_version(table, tmp_path):
    early = "".join(table.format(i, "0.0000") for i in (1, 2))
    last = "".join(table.format(i, moment) for i, moment in ((1, "2.2011"), (2, "-2.1999")))
    assert read_moments(early + last, 2).tolist() == [2.2011, -2.1999]
    assert read_moments(early, 3) is None


def test_the_wall_time_is_of_the_step_and_not_of_every_start(tmp_path):
    """A pw.x that takes 2 s and never reaches self-consistency: four starts would fit into 4 * 3 s."""
    program = write_program(tmp_path, failures=99, seconds=2)
    config = EspressoConfig(command=str(program), pseudopotentials=str(tmp_path))
    folder, begun = tmp_path / "relax1", time.monotonic()
    with pytest.raises(StepFailed) as caught:
        EspressoEngine(config, wall_time=3).run("relax1", MGO, None, folder)
    assert caught.value.reason == "wall_time"
    assert time.monotonic() - begun < 5
    assert int((folder / "calls").read_text()) == 2
    given = [float(re.search(r"max_seconds\s*=\s*(\S+)", (folder / f"pw.{n}.given").read_text())[1]) for n in (1, 2)]
    assert given[0] == pytest.approx(0.95 * 3, abs=0.2)
    assert given[1] < 0.95 * 1.1, "what the first start left"
    assert not (folder / "pw.save").exists(), "a killed step is cleaned up too"
    assert (folder / "pw.out.gz").exists()
    assert len(EspressoEngine(config).read("relax1", folder).frames) >= 4, "and what it computed can be read"


def test_gaps_are_between_bands_and_zero_where_one_crosses():
    insulator = np.array([[-2.0, -1.0, 2.0], [-2.5, -0.5, 2.5]])
    assert band_gap([insulator], 0.0) == 2.5
    metal = np.array([[-2.0, -1.0, 0.5], [-2.5, 0.3, 2.5]])
    assert band_gap([metal], 0.0) == 0.0
    assert band_gap([insulator, insulator - 0.2], 0.0) == pytest.approx(2.3), "the lowest empty of either spin"


@pytest.mark.parametrize(("failures", "converged"), [(2, True), (9, False)])
def test_self_consistency_is_tried_again_with_safer_mixing(failures, converged, tmp_path):
    program = write_program(tmp_path, failures)
    engine = EspressoEngine(EspressoConfig(command=str(program), pseudopotentials=str(tmp_path)))
    folder = tmp_path / "relax1"
    if not converged:
        with pytest.raises(StepFailed, match="self-consistency") as caught:
            engine.run("relax1", MGO, None, folder)
        assert caught.value.reason == "scf_not_converged"
        assert int((folder / "calls").read_text()) == 1 + len(SAFER)
        return
    engine.run("relax1", MGO, None, folder)
    result = engine.read("relax1", folder)
    assert (result.failure, len(result.fixes)) == ("", 2)
    assert "mixing_beta = 0.1" in result.fixes[1]
    assert "local-TF" in (folder / "pw.3.given").read_text()
    assert len(result.frames) == 12, "the steps of every try are kept"
    assert not (folder / "pw.save").exists()


def test_a_program_that_does_not_stop_is_stopped(tmp_path):
    program = tmp_path / "pw.x"
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(0o755)
    engine = EspressoEngine(EspressoConfig(command=str(program), pseudopotentials=str(tmp_path)), wall_time=1)
    with pytest.raises(StepFailed) as caught:
        engine.run("relax1", MGO, None, tmp_path / "relax1")
    assert caught.value.reason == "wall_time"


def test_what_is_missing_is_said_before_anything_runs(tmp_path):
    dft = DftConfig(espresso=EspressoConfig(command="no-such-pw.x", pseudopotentials=str(tmp_path / "none")))
    evaluator = make_evaluator("espresso", RelaxConfig(), dft, str(tmp_path / "jobs"))
    with pytest.raises(EngineMissing, match=r"no-such-pw\.x is not on PATH; install it \(Debian: apt-get"):
        evaluator.evaluate([MGO])
    assert "gnome dft setup-espresso" in evaluator.engine.library_problem()


needs_espresso = pytest.mark.skipif(
    shutil.which("pw.x") is None or not (pseudopotentials.default_folder() / "Mg.upf").is_file(),
    reason="needs pw.x (apt-get install quantum-espresso) and `gnome dft setup-espresso`",
)


@needs_espresso
def test_magnesium_oxide_for_real(tmp_path):
    """Two atoms, all three calculations, at settings that take seconds: few k-points, not few plane waves."""
    folder = pseudopotentials.default_folder()
    assert magnetic_fractions(O2, folder) == {"O": pytest.approx(1 / 6)}
    espresso = EspressoConfig(reciprocal_density=4, static_reciprocal_density=6)
    dft = DftConfig(espresso=espresso, wall_time=300)
    evaluator = make_evaluator("espresso", RelaxConfig(), dft, str(tmp_path / "jobs"))
    near = MGO.scaled_to_volume((4.27**3) / 4)
    (outcome,) = evaluator.evaluate([near])
    assert isinstance(outcome, Relaxation), outcome
    assert (4 * outcome.crystal.volume) ** (1 / 3) == pytest.approx(4.25, rel=0.01)
    folders = JobFolders(tmp_path / "jobs")
    (id_,) = folders.ids()
    assert folders[id_].state is State.CONVERGED
    calculation = read_job(folders[id_], evaluator.engine)
    assert calculation.calculations[-1] == "static"
    assert calculation.band_gap > 3
    assert evaluator.evaluate([near])[0].energy_per_atom == outcome.energy_per_atom
    assert len(folders[id_].attempts) == 1, "what has ended is read, not run"
