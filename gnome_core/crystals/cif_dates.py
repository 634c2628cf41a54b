"""When what a CIF file describes was published, as far as it says."""

from __future__ import annotations

import re

_PUBLISHED = ("_journal_year", "_citation_year", "_citation.year")
_WRITTEN = ("_audit_creation_date", "_audit.creation_date")
_YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")


def stated_year(text: str) -> int | None:
    """The earliest year of the publications that a CIF names; where it names none, that of the file's first writing.

    None for text that is no CIF or says neither.
    """
    from gemmi import cif

    try:
        document = cif.read_string(text, check_level=0)
    except (ValueError, RuntimeError):
        return None
    for tags in (_PUBLISHED, _WRITTEN):
        values = (value for block in document for tag in tags for value in block.find_values(tag))
        if years := [int(match[1]) for value in values if (match := _YEAR.search(value))]:
            return min(years)
    return None
