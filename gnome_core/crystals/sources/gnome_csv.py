"""GNoME's release: `stable_materials_summary.csv` with a zip of CIF files beside it."""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from gnome_core.crystals.entries import Entry, Rejected, SourceError
from gnome_core.crystals.sources.cif_file import read_cif_bytes

_ID, _LABEL = "MaterialId", "Formation Energy Per Atom"
_ZIPS = {"by_id": _ID, "by_reduced_formula": "Reduced Formula"}  # zip and folder in it -> the column naming its files


def read_gnome_csv(path: Path) -> Iterator[Entry | Rejected]:
    """Rows of the summary with their structures, read from the zip (`by_id.zip` or `by_reduced_formula.zip`) in place.

    Raises SourceError when the table, its columns or the zip are missing or the zip is damaged as a whole.
    """
    name = next((name for name in _ZIPS if (path.parent / f"{name}.zip").is_file()), None)
    if not path.is_file() or name is None:
        wanted = " or ".join(f"{name}.zip" for name in _ZIPS)
        raise SourceError(f"{path} needs {wanted} of GNoME's release beside it; download both into one folder")
    try:
        archive = zipfile.ZipFile(path.parent / f"{name}.zip")
    except zipfile.BadZipFile as error:
        raise SourceError(f"{path.parent / name}.zip is damaged ({error}); download it again") from error
    with archive, path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.DictReader(file)
        if missing := {_ID, _LABEL, _ZIPS[name]} - set(rows.fieldnames or ()):
            raise SourceError(f"{path} lacks the columns {sorted(missing)}; give GNoME's stable_materials_summary.csv")
        for row in rows:
            yield _read_row(row, f"{path}, line {rows.line_num}", archive, name)


def _read_row(row: dict, where: str, archive: zipfile.ZipFile, folder: str) -> Entry | Rejected:
    key = row[_ID] or where

    def rejected(reason: str, message: str) -> Rejected:
        return Rejected(key, reason, f"{where}: {message}", json.dumps(row, default=str).encode())

    if not row[_ID] or not row[_ZIPS[folder]]:
        return rejected("missing_id", f"no {_ID} or {_ZIPS[folder]}; the table is truncated, download it again")
    member = f"{folder}/{row[_ZIPS[folder]]}.CIF"
    try:
        content = archive.read(member)
    except KeyError:
        return rejected("missing_structure", f"{member} is not in {folder}.zip; take table and zip of one release")
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        return rejected("unreadable_file", f"{member} in {folder}.zip is damaged ({error}); download it again")
    return read_cif_bytes(key, f"{where} ({member})", "gnome", content, row[_LABEL])
