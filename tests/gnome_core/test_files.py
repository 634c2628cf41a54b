"""Files come whole or not at all, whatever the disk says and whoever writes at the same time."""

import errno
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gnome_core import files
from gnome_core.files import NoHardLinks, create_file, replacing, write_all, write_file


@pytest.fixture
def limited():
    """A process that may write 1,000 bytes to a file, as a disk that gets full: SIGXFSZ is ignored by Python."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, limited):
    path = tmp_path / "report.html"
    path.write_bytes(b"old")
    for write in (lambda: write_file(path, b"x" * 4_000), lambda: create_file(tmp_path / "end.json", b"x" * 4_000)):
        with pytest.raises(OSError, match="large") as caught:
            write()
        assert Path(caught.value.filename).name in ("report.html", "end.json")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("report.html", b"old")]


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    write_all(tmp_path / "job.json", b"0123456789" * 10)
    assert (tmp_path / "job.json").read_bytes() == b"0123456789" * 10


def test_an_error_in_the_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"new", None])
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_links_lead_to_the_file_and_modes_stay(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_pipes_and_devices_get_the_bytes(tmp_path):
    code = "from gnome_core.files import write_file; write_file('/dev/stdout', b'here')"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert piped.stdout == b"here"
    with open(tmp_path / "out", "wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"here"
    with pytest.raises(OSError, match="No space") as caught:
        write_file("/dev/full", b"x")
    assert caught.value.filename == "/dev/full"


def test_of_many_that_create_one_does(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: create_file(tmp_path / "x", b"%d" % n), range(32)))
    assert made.count(True) == 1
    assert (tmp_path / "x").read_bytes() == b"%d" % made.index(True)
    assert len(list(tmp_path.iterdir())) == 1


def test_without_hard_links_the_error_says_so(tmp_path, monkeypatch):
    def link(*names):
        raise OSError(errno.EPERM, "Operation not permitted", names[0], None, names[1])

    monkeypatch.setattr(files.os, "link", link)
    with pytest.raises(NoHardLinks, match=r"x: this file system has no hard links"):
        create_file(tmp_path / "x", b"")
    assert list(tmp_path.iterdir()) == []


def test_folders_in_the_way_are_named(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_file(tmp_path / "d", b"x")
    assert caught.value.filename == str(tmp_path / "d")
    assert [p.name for p in tmp_path.iterdir()] == ["d"]
