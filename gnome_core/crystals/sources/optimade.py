"""Crystals of any database that answers the OPTIMADE protocol (Evans et al., Digital Discovery 3, 1509, 2024).

The protocol's pages are plain JSON linked by `links.next`, so the standard library is enough: the `optimade` client
brings a server's worth of packages to query many providers at once, which a snapshot of one database does not need.
"""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import numpy as np

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.crystals.entries import Entry, Rejected, SourceError, read_entry

_FIELDS = "lattice_vectors,cartesian_site_positions,species,species_at_sites,dimension_types,nsites,structure_features"
_NEEDED = ("lattice_vectors", "cartesian_site_positions", "species", "species_at_sites")
# What makes the sites less, or more, than the atoms of one ordered crystal.
_FEATURES = {
    "disorder": "partial_occupancy",
    "assemblies": "partial_occupancy",
    "implicit_atoms": "missing_atoms",
    "site_attachments": "missing_atoms",
}
_ATTEMPTS = 4
log = logging.getLogger(__name__)


def read_optimade(url: str, timeout: float = 60.0, first_pause: float = 1.0) -> Iterator[Entry | Rejected]:
    """All structures of a database (`https://host/path`, to which /v1/structures is added) or of one query
    (`https://host/path/v1/structures?filter=...`). OPTIMADE has no standard formation energy, so labels are None.

    timeout: seconds for one page; busy servers (429, 5xx) are asked 4 times, after pauses growing from `first_pause`.
    Raises SourceError when the server answers with an error or with no OPTIMADE.
    """
    page_url: str | None = _first_page(url)
    seen: set[str] = set()
    row = 0
    while page_url:
        if page_url in seen:
            raise SourceError(f"{page_url} links to itself as the next page; report it to the database's maintainers")
        seen.add(page_url)
        page = _fetch(page_url, timeout, first_pause)
        if not isinstance(page.get("data"), list):
            raise SourceError(f"{page_url} does not answer with a list of OPTIMADE structures; check the address")
        for structure in page["data"]:
            yield _read_structure(structure, f"{page_url}, row {row}")
            row += 1
        page_url = _next_page(page, page_url)


def _first_page(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SourceError(f"{url!r} is no web address; write optimade:https://...")
    path = parts.path.rstrip("/")
    if not path.endswith("/structures"):
        path += "/structures" if path.endswith(("/v0", "/v1")) else "/v1/structures"
    query = urllib.parse.parse_qs(parts.query) | {"response_fields": [_FIELDS]}
    return urllib.parse.urlunsplit(parts._replace(path=path, query=urllib.parse.urlencode(query, doseq=True)))


def _next_page(page: dict, current: str) -> str | None:
    link = (page.get("links") or {}).get("next")
    if isinstance(link, dict):
        link = link.get("href")
    if not link:
        return None
    link = urllib.parse.urljoin(current, link)
    parts = urllib.parse.urlsplit(link)
    if parts.scheme not in ("http", "https"):
        raise SourceError(f"{current} names {link!r} as the next page; report it to the database's maintainers")
    if "response_fields" in urllib.parse.parse_qs(parts.query):
        return link
    # Some servers leave it to the client to ask for the fields again, and send the rest as null.
    asked = urllib.parse.urlencode({"response_fields": _FIELDS})
    return urllib.parse.urlunsplit(parts._replace(query=f"{parts.query}&{asked}" if parts.query else asked))


def _fetch(url: str, timeout: float, pause: float) -> dict:
    request = urllib.request.Request(
        url, headers={"Accept": "application/vnd.api+json", "User-Agent": "gnome-flywheel"}
    )
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                page = json.load(response)
            break
        except urllib.error.HTTPError as error:
            problem, retry = f"HTTP {error.code} {error.reason}", error.code == 429 or error.code >= 500
        except (urllib.error.URLError, OSError, ValueError) as error:  # ValueError: a page cut off, or no JSON
            problem, retry = str(error), True
        if not retry or attempt == _ATTEMPTS:
            raise SourceError(f"{url}: {problem}; check the address or try again later")
        log.warning("%s: %s; asking again in %g s", url, problem, pause)
        time.sleep(pause)
        pause *= 2
    if not isinstance(page, dict):
        raise SourceError(f"{url} does not answer with OPTIMADE; check the address")
    return page


def _read_structure(structure: dict, where: str) -> Entry | Rejected:
    key = str(structure.get("id") or "") if isinstance(structure, dict) else ""
    return read_entry(
        key,
        f"{where} ({key})" if key else where,
        "optimade",
        lambda: crystal_of_structure(structure),
        None,
        lambda: json.dumps(structure).encode(),
    )


def crystal_of_structure(structure: dict) -> Crystal:
    """The crystal of one of OPTIMADE's structures. Raises InvalidCrystal."""
    try:
        attributes = structure["attributes"]
        if (attributes.get("dimension_types") or [1, 1, 1]) != [1, 1, 1]:
            raise InvalidCrystal("not_periodic", "periodic in fewer than three directions; leave it out of the query")
        for feature in attributes.get("structure_features") or ():
            if feature in _FEATURES:
                raise InvalidCrystal(_FEATURES[feature], f"the structure has {feature}; leave it out of the query")
        if missing := [name for name in _NEEDED if attributes.get(name) is None]:
            raise InvalidCrystal("malformed_row", f"the server sends no {', '.join(missing)}; report it")
        species = {one["name"]: one for one in attributes["species"]}
        numbers = [_number(species[name]) for name in attributes["species_at_sites"]]
        lattice = np.array(attributes["lattice_vectors"], float).reshape(3, 3)
        positions = np.array(attributes["cartesian_site_positions"], float).reshape(-1, 3)
        counts = {len(numbers), len(positions), attributes.get("nsites") or len(numbers)}
        if len(counts) > 1:
            raise InvalidCrystal("malformed_row", f"{sorted(counts)} sites in one structure; report it")
        frac_coords = np.linalg.solve(lattice.T, positions.T).T
    except InvalidCrystal:
        raise
    except np.linalg.LinAlgError as error:
        raise InvalidCrystal("bad_lattice", "the lattice vectors span no volume; report it to the database") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidCrystal("malformed_row", f"no complete OPTIMADE structure ({error!r}); report it") from error
    return Crystal(lattice, frac_coords, np.array(numbers, np.int64))


def _number(species: dict) -> int:
    symbols, concentration = species["chemical_symbols"], species.get("concentration") or [1.0]
    if species.get("attached"):
        message = f"species {species['name']!r} has atoms attached that have no sites; leave it out of the query"
        raise InvalidCrystal("missing_atoms", message)
    if len(symbols) != 1 or abs(concentration[0] - 1) > 1e-3:
        raise InvalidCrystal(
            "partial_occupancy", f"species {species['name']!r} is disordered; leave it out of the query"
        )
    if symbols[0] not in NUMBERS:
        raise InvalidCrystal("unknown_element", f"species {species['name']!r} is {symbols[0]!r}, no known element")
    return NUMBERS[symbols[0]]
