"""Compiled programs on disk: whole or compiled again, and not without bound."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.beam.compiled import SUFFIX, CheckedPrograms

PROGRAM = """
from pipelines.beam.environment import set_up
set_up(verbose=False)
import jax, jax.numpy as jnp
compiled = jax.jit(lambda x: jnp.sin(x @ x.T).sum() + jnp.linalg.norm(x))
print(float(compiled(jnp.arange(400.0).reshape(20, 20))))
"""


def run(folder: Path, **variables: str) -> str:
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder), **variables}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_flipped_bit_changes_no_number(tmp_path):
    expected = run(tmp_path)
    programs = contents(tmp_path)
    assert programs
    assert all(name.endswith(SUFFIX) for name in programs), "none that jax would read unchecked"
    for part in (0.0, 0.5, 0.99):
        for name, content in programs.items():
            damaged = bytearray(content)
            damaged[int(part * len(content))] ^= 16
            (tmp_path / name).write_bytes(damaged)
        before = contents(tmp_path)
        assert run(tmp_path) == expected
        after = contents(tmp_path)
        assert after.keys() == programs.keys()
        assert all(after[name] != before[name] for name in programs), "each was made anew"
        programs = after
    assert run(tmp_path) == expected
    assert contents(tmp_path) == programs, "whole ones are used"


def test_none_are_kept_where_that_is_turned_off(tmp_path):
    run(tmp_path / "none", JAX_ENABLE_COMPILATION_CACHE="false")
    assert not (tmp_path / "none").exists()


def test_another_key_s_program_is_not_taken(tmp_path):
    programs = CheckedPrograms(str(tmp_path))
    programs.put("one", b"program")
    (tmp_path / f"one{SUFFIX}").rename(tmp_path / f"two{SUFFIX}")
    assert programs.get("two") is None
    assert programs.get("one") is None
    assert list(tmp_path.iterdir()) == []


def test_the_longest_unused_make_room(tmp_path):
    programs = CheckedPrograms(str(tmp_path), limit=350)
    now = time.time()
    for age, key in enumerate("abc"):
        programs.put(key, key.encode() * 84)
        os.utime(tmp_path / f"{key}{SUFFIX}", (now - 100 + age, now - 100 + age))
    assert programs.get("a") == b"a" * 84
    programs.put("d", b"d" * 84)
    assert [programs.get(key) is not None for key in "abcd"] == [True, False, True, True]
    programs.put("e", b"e" * 1_000)
    assert list(tmp_path.iterdir()) == [], "one that is larger than all may be is not kept either"


def test_many_at_once(tmp_path):
    def work(number: int) -> None:
        programs = CheckedPrograms(str(tmp_path), limit=3_000)
        for turn in range(50):
            key = f"{(number + turn) % 7}"
            programs.put(key, key.encode() * 1_000)
            assert programs.get(key) in (None, key.encode() * 1_000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    programs = CheckedPrograms(str(tmp_path / "file" / "programs"))
    programs.put("key", b"program")
    assert programs.get("key") is None


def test_another_jax_keeps_none():
    code = """
import jax
from jax._src import compilation_cache
from pipelines.beam.compiled import check_programs

del compilation_cache.get_file_cache
check_programs()
assert not jax.config.jax_enable_compilation_cache
"""
    subprocess.run([sys.executable, "-c", code], check=True)
