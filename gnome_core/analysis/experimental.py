"""Stable crystals that a folder of experimental CIF files holds too."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.compositions.formulas import Composition, composition_key, reduced_formula
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.cif import parse_rounded_cif
from gnome_core.crystals.cif_blocks import decode_cif
from gnome_core.crystals.cif_dates import stated_year
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import InvalidCrystal
from gnome_core.matching.prototypes import protostructure_label

SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("status", pa.string()),  # "no such composition", "other structure", "tolerant", "match", or why unread
        pa.field("formula", pa.string()),  # of the nearest whole numbers of atoms
        pa.field("ordered", pa.bool_()),  # false: partial occupancies were rounded
        pa.field("entries", pa.int32()),  # stable crystals of that composition
        pa.field("id", pa.string()),  # the one that matches, else the first of the composition
        pa.field("rms", pa.float64()),  # of matched sites over (V / n)^(1/3)
        pa.field("label", pa.string()),  # protostructure of the file
        pa.field("entry_label", pa.string()),
        pa.field("year", pa.int32()),  # of the earliest publication that the file names, else of its first writing
    ]
)


def analyse(entries: pa.Table, folder: str | Path, track: Track = untracked, *, since: int | None = None) -> Analysis:
    """Each CIF file of a folder against the stable crystals of its composition.

    entries: ENTRY_SCHEMA and on_hull. A file's composition is that of the nearest whole numbers of atoms, partial
    occupancies rounded site by site. Two settings of pymatgen's StructureMatcher: its defaults, and a tolerant one
    that allows supercells and subsets. since: the year from which on files count as new, such as that of the snapshot
    (GNoME: 736 matches, 184 of them published since the project began). Raises ValueError for a folder without CIF
    files.
    """
    from pymatgen.core.structure_matcher import StructureMatcher

    files = sorted(Path(folder).glob("*.cif"))
    if not files:
        raise ValueError(f"{folder} holds no .cif files")
    stable = entries.filter(entries["on_hull"])
    held: dict[Composition, list[int]] = defaultdict(list)
    for row, numbers in enumerate(stable["numbers"].to_pylist()):
        held[composition_key(numbers)].append(row)
    strict, tolerant = StructureMatcher(), StructureMatcher(attempt_supercell=True, allow_subset=True)
    rows = []
    for file in track(files, "experimental structures"):
        try:
            text = decode_cif(file.read_bytes())
            crystal, ordered = parse_rounded_cif(text)
        except InvalidCrystal as error:
            rows.append({"file": file.name, "status": error.reason})
            continue
        found = held.get(composition_key(crystal.numbers), [])
        row = {
            "file": file.name,
            "status": "other structure" if found else "no such composition",
            "formula": reduced_formula(crystal.numbers),
            "ordered": ordered,
            "entries": len(found),
            "label": protostructure_label(crystal),
            "year": stated_year(text),
        }
        candidates = crystals_from_batch(stable.take(found)) if found else []
        structure = to_structure(crystal)
        for status, matcher in (("tolerant", tolerant), ("match", strict)):
            for position, candidate in zip(found, candidates, strict=True):
                other = to_structure(candidate)
                if matcher.fit(structure, other):
                    distance = strict.get_rms_dist(structure, other)
                    row |= {
                        "status": status,
                        "id": stable["id"][position].as_py(),
                        "rms": distance and float(distance[0]),
                        "entry_label": protostructure_label(candidate),
                    }
                    break
        if found and "id" not in row:
            row |= {"id": stable["id"][found[0]].as_py(), "entry_label": protostructure_label(candidates[0])}
        rows.append(row)
    table = pa.Table.from_pylist(rows, SCHEMA)
    statuses = table["status"].to_pylist()
    composition = [status for status in statuses if status in ("other structure", "tolerant", "match")]
    readable = len(composition) + statuses.count("no such composition")
    years = table.filter(pc.equal(table["status"], "match"))["year"]
    recent = {}
    if since is not None:
        recent = {
            f"of these since {since}": int(pc.sum(pc.greater_equal(years, since)).as_py() or 0),
            "of these without a year": years.null_count,
        }
    return Analysis(
        "experimental",
        "Experimental matches",
        {"files": table},
        {
            "files": len(files),
            "readable": readable,
            "composition found": len(composition),
            "structure found, tolerant": statuses.count("tolerant") + statuses.count("match"),
            "structure found, default": len(years),
            **recent,
            "stable crystals": len(stable),
        },
        (
            "Partial occupancies are rounded site by site, so a disordered file is compared as its nearest ordered "
            "crystal. Tolerant: supercells and subsets allowed; it is a superset of the default. Years are those of "
            "the earliest publication that a file names, else of its first writing.",
        ),
    )
