"""JSON files that say what a store's data is: each carries a digest of itself, so that no edit goes unseen."""

from __future__ import annotations

import json

from pipelines.errors import StoreError
from pipelines.store.digests import json_digest

FORMAT = 2  # of the store's own files; 1 had no seals
SEAL = "seal"


def sealed(document: dict) -> bytes:
    """The document of the current format with its digest."""
    document = {**document, "format": FORMAT}
    return (json.dumps({**document, SEAL: json_digest(document)}, sort_keys=True, indent=1) + "\n").encode()


def unsealed(data: bytes, where: str, root: str) -> dict:
    """What was sealed. Raises StoreError for damage, for an older format, and for one of a newer version of ours.

    where: the file, and root: its store, as the message names them.
    """
    document = json_document(data, where)
    found = document.pop("format", None)
    if found == FORMAT - 1 and SEAL not in document:
        raise StoreError(f"{where} is of format {found}; `gnome migrate {root}` brings the store to format {FORMAT}")
    if isinstance(found, int) and found > FORMAT:
        raise StoreError(f"{where} is of format {found}, this version reads up to {FORMAT}; install a newer version")
    if document.pop(SEAL, None) != json_digest({**document, "format": found}) or found != FORMAT:
        raise StoreError(f"{where} has been changed since it was written; restore it from a copy")
    return document


def json_document(data: bytes, where: str) -> dict:
    """Raises StoreError for what is not a JSON object."""
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise StoreError(f"{where} is damaged: it does not hold the JSON it was written with; restore it from a copy")
    return document
