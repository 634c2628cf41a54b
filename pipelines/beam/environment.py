"""What a process is given before Beam and jax are loaded: where logs go, where compiled programs are kept.

Workers inherit it: environment variables as they are, logs by `pipelines.beam.worker`.
"""

from __future__ import annotations

import hashlib
import locale
import logging
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from gnome_core.caches import cache_folder
from pipelines.beam.compiled import check_programs
from pipelines.errors import UserError
from pipelines.logs import write_json_lines

VERBOSE = "GNOME_VERBOSE"
WRONG_JAX = ("0.10.2",)
TRUE = ("1", "y", "yes", "t", "true", "on")  # as jax reads its variables
UTF8_MODE = "PYTHONUTF8"
TUNABLES = "GLIBC_TUNABLES"  # read by the C library when a process starts
# Pages of 2 MB; one heap that takes blocks of any size, and keeps up to 1 GiB that was freed.
ALLOCATOR = ":".join(
    f"glibc.malloc.{name}" for name in ("hugetlb=1", "arena_max=1", "mmap_max=0", f"trim_threshold={2**30}")
)


def set_up(verbose: bool) -> None:
    """Show errors only, or with `verbose` all that Beam, jax and XLA report; keep compiled programs on disk.

    What the user's environment says of either stands. Raises UserError where numbers would be wrong, or not those of
    others.
    """
    _refuse_other_numbers()
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compilation_cache())
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    check_programs()
    if verbose:
        os.environ[VERBOSE] = "1"
    else:
        # XLA reports at "error" what it then does without; what stops it raises in Python.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.setLevel(level)  # of what goes to the terminal, whatever else is written down
    write_json_lines()


def prepare(verbose: bool) -> None:
    """What a command that computes begins with."""
    if Path(sys.argv[0]).name == "gnome":
        take_allocator()
    set_up(verbose)


def speak_utf8() -> None:
    """Run the same command line again, in this process, where Python would take texts and names for another encoding.

    Settings, tables, pages and names of files are UTF-8 whatever the locale is. Workers inherit it.
    """
    told = sys.flags.utf8_mode or os.environ.get(UTF8_MODE) == "1"  # in vain where Python ignores its variables
    if locale.getencoding().lower() != "utf-8" and not told:
        os.environ[UTF8_MODE] = "1"
        _restart()


def take_allocator() -> None:
    """Run the same command line again, in this process, with an allocator that keeps the memory it has.

    XLA takes and gives back its temporary memory at every call: as the C library begins, the kernel clears all of it
    each time, 40 % of what evaluations by chgnet-distilled took. Does nothing where it was done, where the user has
    tunables set, or off Linux.
    """
    if sys.platform == "linux" and TUNABLES not in os.environ:
        os.environ[TUNABLES] = ALLOCATOR
        _restart()


def _restart() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _refuse_other_numbers() -> None:
    for package in ("jax", "jaxlib"):
        if metadata.version(package) in WRONG_JAX:
            raise UserError(
                f"{package} {metadata.version(package)} computes wrong numbers on processors (jax-ml/jax#39103); "
                "`pip install 'jax==0.10.1'` has the version that this package is tested with"
            )
    if os.environ.get("JAX_ENABLE_X64", "").lower() in TRUE:
        raise UserError(
            "JAX_ENABLE_X64 is set: predictions would not be those of the same round without it; unset it "
            "(`env -u JAX_ENABLE_X64 gnome ...`)"
        )


def compilation_cache() -> Path:
    """Folder of programs compiled for this machine's kind of processor."""
    return cache_folder() / "jax" / hashlib.blake2b(_processor().encode(), digest_size=4).hexdigest()


def _processor() -> str:
    """What a program is compiled for: home folders are shared by machines that cannot run each other's programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "|".join([platform.machine(), platform.processor(), *features[:2]])
