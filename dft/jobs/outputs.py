"""Files that engines wrote, compressed or not."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable
from pathlib import Path

from dft.jobs.engine import OutputError
from gnome_core.files import replacing


def find(folder: Path, name: str) -> Path:
    """The file, or its .gz. Raises OutputError (missing_output)."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise OutputError("missing_output", f"{folder} has no {name}; run the job again or put the file there")


def read_text(path: Path) -> str:
    """Raises OutputError (truncated_output) for a damaged .gz."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError) as error:
        raise OutputError("truncated_output", f"{path} cannot be unpacked ({error}); copy it again") from error
    return data.decode(errors="replace")


def compress(folder: Path, names: Iterable[str]) -> None:
    """Put .gz files in place of those of the names that are there."""
    for name in names:
        path = folder / name
        if path.is_file():
            with (
                open(path, "rb") as source,
                replacing(f"{path}.gz") as file,
                gzip.open(file, "wb", compresslevel=6) as target,
            ):
                shutil.copyfileobj(source, target)
            path.unlink()
