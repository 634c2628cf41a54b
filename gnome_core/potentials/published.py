"""Published potentials whose files are fetched, not shipped: where they are, whose they are, and what they must be."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gnome_core.caches import cache_folder
from gnome_core.files import write_file
from gnome_core.potentials.files import BadPotential


@dataclass(frozen=True)
class Published:
    """A file by its address and SHA-256."""

    url: str
    sha256: str
    licence: str
    citation: str


_NEQUIX = "https://github.com/atomicarchitects/nequix/raw/9c852a9c4cce69ae5e75bc5a2cf670be21ff8c28/models"
_LICENCE = "MIT (atomicarchitects/nequix); trained on OMat24 (CC BY 4.0), sAlex (CC BY 4.0) and MPtrj (MIT)"
_PAPER = "T. Koker, M. Kotak, T. Smidt, Training a foundation model for materials on a budget, arXiv:2508.16067 (2025)"

PUBLISHED = {
    "nequix-oam-1": Published(
        f"{_NEQUIX}/nequix-oam-1.nqx",
        "6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c",
        _LICENCE,
        _PAPER,
    ),
    "nequix-oam-1-pft": Published(
        f"{_NEQUIX}/nequix-oam-1-pft.nqx",
        "4ce693d68886512aab50c84ea2400efd68163e11155f7c7babe98e695177e809",
        f"{_LICENCE}, and on phonons",
        f"{_PAPER}; phonon fine-tuning: arXiv:2601.07742 (2026)",
    ),
}


def published_path(name: str) -> Path:
    """Where this user's copy of a published potential is, or would be."""
    return cache_folder() / "potentials" / Path(PUBLISHED[name].url).name


def installed(name: str) -> Path:
    """The checked file of a published potential. Raises BadPotential saying how to get it."""
    path = published_path(name)
    try:
        _check(name, _digest(path, path.stat().st_mtime_ns), str(path))
    except FileNotFoundError:
        raise BadPotential(f"{name} is not on this machine; `gnome potential get {name}` fetches it once") from None
    return path


def get(name: str, file: Path | None = None) -> Path:
    """Put a published potential into the cache, from its address or a copy at hand. Returns where it is.

    Raises BadPotential for a file that is not the published one, or an address that does not answer.
    """
    target = published_path(name)
    if file is None and target.is_file() and _digest(target, target.stat().st_mtime_ns) == PUBLISHED[name].sha256:
        return target
    data = file.read_bytes() if file else _fetched(name)
    _check(name, hashlib.sha256(data).hexdigest(), str(file or PUBLISHED[name].url))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, data)
    return target


def _fetched(name: str) -> bytes:
    url = PUBLISHED[name].url
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.read()
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise BadPotential(
            f"{url}: {reason}; where there is no network, bring the file and say `gnome potential get {name} FILE`"
        ) from error


def _check(name: str, digest: str, where: str) -> None:
    if digest != PUBLISHED[name].sha256:
        raise BadPotential(
            f"{where}: not the published {name}: SHA-256 {digest[:16]}..., not {PUBLISHED[name].sha256[:16]}...; "
            f"`gnome potential get {name}` fetches it"
        )


@cache
def _digest(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
