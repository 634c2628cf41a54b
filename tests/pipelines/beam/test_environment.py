"""Set-ups that would give other numbers are refused in one line, before anything is computed."""

from importlib import metadata

import pytest

from pipelines.beam import environment
from pipelines.errors import UserError
from tests.pipelines.conftest import gnome_process


@pytest.mark.parametrize("package", ["jax", "jaxlib"])
def test_the_version_that_computes_wrong_numbers_is_refused(package, monkeypatch):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.10.2" if name == package else version(name))
    with pytest.raises(UserError, match=f"{package} 0.10.2 computes wrong numbers.*pip install"):
        environment.prepare(verbose=False)


@pytest.mark.parametrize("value", ["1", "True", "on"])
def test_double_precision_that_only_this_process_would_have_is_refused(value, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", value)
    with pytest.raises(UserError, match=r"JAX_ENABLE_X64 is set: .*unset it"):
        environment.prepare(verbose=False)


def test_the_command_line_says_so_in_one_line(tmp_path):
    ended = gnome_process("init", str(tmp_path / "store"), JAX_ENABLE_X64="1")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "store").exists()
