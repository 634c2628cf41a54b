"""The data blocks of a CIF file, read by gemmi: what `cif` looks up, under one spelling of each name."""

from __future__ import annotations

import re
from typing import cast

from gnome_core.crystals.crystal import InvalidCrystal

Block = dict[str, list[str]]  # data name, lower case, its dots as "_" -> values without quotes; "?" and "." stay

_WANTED = re.compile(r"_(cell|symmetry|space_group|atom_site|chemical_formula_sum$)")
_UNWANTED = re.compile(r"_(cell_measurement|atom_site_(aniso|moment|fourier))")
UNKNOWN = ("?", ".", "")


def decode_cif(content: bytes) -> str:
    """The text of a CIF file: UTF-8, or UTF-16 as some Windows editors write; bytes of other encodings become U+FFFD,
    which only comments and free text hold.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    if len(content) > 1 and (content[0] == 0) != (content[1] == 0):  # ASCII in two bytes a character, without a mark
        return content.decode("utf-16-be" if content[0] == 0 else "utf-16-le", errors="replace")
    return content.decode("utf-8-sig", errors="replace")


def read_blocks(text: str) -> list[Block]:
    """The data blocks of CIF text. Names of CIF 1.1 and of DDLm dictionaries (`_atom_site.label`) become the same.

    Raises InvalidCrystal (unreadable_file) for text that is no CIF, or that gives one name two values.
    """
    from gemmi import cif

    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").rstrip("\x1a\x00")
    try:
        # Level 0: a name of no interest may be repeated or lack its value.
        document = cif.read_string(text, check_level=0)
    except (ValueError, RuntimeError) as error:
        where = re.sub(r"^string:(\d+):\d+\(\d+\)", r"line \1", str(error))
        raise InvalidCrystal("unreadable_file", f"not a complete CIF ({where}); export it again") from error
    blocks = []
    for found in document:
        block: Block = {}
        for item in found:
            if item.pair is not None:
                tag, value = cast(tuple[str, str], item.pair)
                _add(block, tag, [value])
            elif item.loop is not None:
                for tag in item.loop.tags:
                    if _name(tag) is not None:
                        _add(block, tag, list(found.find_loop(tag)))
        blocks.append(block)
    return blocks


def _name(tag: str) -> str | None:
    name = tag.lower().replace(".", "_")
    return name if _WANTED.match(name) and not _UNWANTED.match(name) else None


def _add(block: Block, tag: str, raw: list[str]) -> None:
    from gemmi.cif import as_string

    name = _name(tag)
    if name is None:
        return
    values = [value if value in UNKNOWN else as_string(value).strip() for value in raw]
    if block.setdefault(name, values) != values:
        raise InvalidCrystal("unreadable_file", f"{tag} is given twice, with different values; keep one")


def number(text: str) -> float:
    """The value of a CIF number such as 3.905(2); NaN where it is none."""
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d*\))?", text)
    return float(match[1]) if match else float("nan")


def first(block: Block, *names: str) -> str | None:
    """The first known value of the first of the names that has one."""
    for name in names:
        for value in block.get(name, ()):
            if value not in UNKNOWN:
                return value
    return None
