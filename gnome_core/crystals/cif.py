"""One crystal from the text of a CIF file, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gnome_core.compositions.formula_parser import BadFormula, parse_formula
from gnome_core.compositions.formulas import SYMBOLS, composition, composition_key, reduced_formula
from gnome_core.crystals.cif_blocks import UNKNOWN, Block, first, number, read_blocks
from gnome_core.crystals.cif_elements import site_elements
from gnome_core.crystals.cif_symmetry import IDENTITY, Symmetry, stated_symmetries
from gnome_core.crystals.crystal import MAX_COORDINATE, MAX_LENGTH, MAX_SITES, Crystal, InvalidCrystal, check_crystal

_LENGTHS = [f"_cell_length_{name}" for name in "abc"]
_ANGLES = [f"_cell_angle_{name}" for name in ("alpha", "beta", "gamma")]
_CELL = [*_LENGTHS, *_ANGLES]
_COORDINATES = ["_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"]
# Å: images of a site this close are one atom on a special position, written with few decimals.
SAME_SITE = 0.1


def parse_cif(text: str) -> Crystal:
    """The one ordered crystal that a CIF describes, its symmetry expanded, its sites grouped by element.

    Raises InvalidCrystal: unreadable_file, multiple_structures, no_sites, partial_occupancy, unknown_symmetry,
    too_many_operations, missing_hydrogens, formula_mismatch (sites are missing) or what `check_crystal` raises.
    """
    sites = _read_sites(text)
    for row, (name, occupancy) in enumerate(zip(sites.names, sites.occupancies, strict=True), 1):
        if abs(occupancy - 1) > 1e-3:
            raise InvalidCrystal(
                "partial_occupancy", f"site {row} ({name}) has occupancy {occupancy:g}; use an ordered approximant"
            )
    return _only_reading(sites)


def parse_rounded_cif(text: str) -> tuple[Crystal, bool]:
    """(the nearest ordered crystal of a CIF, whether it is ordered as it stands): each site holds its most frequent
    element if that is there more often than not, else nothing; one half counts where several share the site.

    Raises InvalidCrystal as `parse_cif`, but for partial_occupancy and formula_mismatch.
    """
    sites = _read_sites(text)
    sites.formula = None  # which is that of the disordered crystal
    apart = sites.coordinates[:, None] - sites.coordinates[None]
    same = np.linalg.norm((apart - np.rint(apart)) @ sites.lattice, axis=-1) < SAME_SITE
    kept = []
    for row in range(len(same)):
        together = np.flatnonzero(same[row])
        share = sites.occupancies[together] / max(1.0, sites.occupancies[together].sum())
        best = together[share.argmax()]
        if best == row and (share.max() > 0.5 or (share.max() == 0.5 and len(together) > 1)):
            kept.append(row)
    ordered = len(kept) == len(same) and bool((np.abs(sites.occupancies - 1) < 1e-3).all())
    if not kept:
        raise InvalidCrystal("no_sites", "no site is more than half occupied; nothing can be compared")
    sites.coordinates, sites.elements = sites.coordinates[kept], sites.elements[kept]
    return _only_reading(sites), ordered


@dataclass
class _Sites:
    """What a block lists: n sites of the asymmetric unit, and what the file says of their symmetry."""

    lattice: np.ndarray  # (3, 3) Å
    coordinates: np.ndarray  # (n, 3)
    elements: np.ndarray  # (n,)
    occupancies: np.ndarray  # (n,)
    names: list[str]  # n labels or type symbols
    symmetries: list[Symmetry]
    formula: dict[int, Fraction] | None  # _chemical_formula_sum
    formula_text: str | None
    n_formulas: float  # _cell_formula_units_Z; NaN where it is not given


def _read_sites(text: str) -> _Sites:
    block = _structure_block(read_blocks(text))
    lattice = _lattice(block)
    rows = _atom_rows(block)
    types, labels = (_column(block, name, rows) for name in ("_atom_site_type_symbol", "_atom_site_label"))
    if not rows or not any(name in block for name in ("_atom_site_type_symbol", "_atom_site_label")):
        raise InvalidCrystal("no_sites", "the CIF lists no atom sites; export it with its atoms")
    if len(rows) > MAX_SITES:
        raise InvalidCrystal("too_many_sites", f"{len(rows)} atoms are listed, at most {MAX_SITES}; use a smaller cell")
    formula_text = first(block, "_chemical_formula_sum")
    try:
        formula = parse_formula(formula_text) if formula_text else None
    except BadFormula:
        formula = None  # free text says nothing about the sites
    elements = site_elements(types, labels, formula)
    coordinates = np.array([_numbers(block, tag, rows, "not_finite") for tag in _COORDINATES]).T
    if np.abs(coordinates).max() > MAX_COORDINATE:
        raise InvalidCrystal("bad_coordinates", f"a coordinate is {np.abs(coordinates).max():g}; correct it")
    occupancies = np.ones(len(rows))
    if "_atom_site_occupancy" in block:
        occupancies = np.array(_numbers(block, "_atom_site_occupancy", rows, "partial_occupancy", unknown=1.0))
    for row, value in zip(rows, _column(block, "_atom_site_attached_hydrogens", rows), strict=True):
        if number(value) > 0:
            raise InvalidCrystal(
                "missing_hydrogens", f"site {row + 1} has {value} hydrogens without coordinates; add them"
            )
    return _Sites(
        lattice,
        coordinates,
        np.array(elements),
        occupancies,
        [kind if label in UNKNOWN else label for kind, label in zip(types, labels, strict=True)],
        stated_symmetries(block, lattice),
        formula,
        formula_text,
        number(first(block, "_cell_formula_units_z") or ""),
    )


def _structure_block(blocks: list[Block]) -> Block:
    """The one block that lists atoms; journals put others before it, powder measurements behind it."""
    with_sites = [block for block in blocks if _COORDINATES[0] in block]
    known = [block for block in with_sites if any(value not in UNKNOWN for value in block[_COORDINATES[0]])]
    if len(known) > 1:
        raise InvalidCrystal("multiple_structures", f"{len(known)} structures in one file; split it, one a file")
    if known or with_sites:
        return (known or with_sites)[0]
    if any(tag in block for block in blocks for tag in _CELL):
        raise InvalidCrystal("no_sites", "the CIF lists no atom sites; export it with its atoms")
    raise InvalidCrystal("unreadable_file", "no crystal structure in it; give a CIF with a cell and atom sites")


def _lattice(block: Block) -> np.ndarray:
    """(3, 3) Å, a along x, b in the plane of x and y. Angles left out are 90 degrees, as the dictionary of CIF says."""
    if not any(tag in block for tag in _CELL):
        raise InvalidCrystal("bad_lattice", "the CIF gives no cell lengths and angles; add the _cell_ tags")
    values = []
    for tag in _CELL:
        (text, *_) = block.get(tag) or ["."]
        value = 90.0 if text == "." and tag in _ANGLES else number(text)
        if not 0 < value <= (180 if tag in _ANGLES else MAX_LENGTH):
            limits = "between 0 and 180" if tag in _ANGLES else f"positive and at most {MAX_LENGTH:g}"
            raise InvalidCrystal("bad_lattice", f"{tag} is {text!r}; it must be a number, {limits}")
        values.append(value)
    a, b, c = values[:3]
    cosines = np.cos(np.radians(values[3:]))
    # The square of cell volume / product of lengths.
    flatness = 1 + 2 * cosines.prod() - cosines @ cosines
    if flatness < 1e-4:
        raise InvalidCrystal("bad_lattice", "the cell angles enclose no volume; check the _cell_angle_ tags")
    cos_alpha, cos_beta, cos_gamma = cosines.round(15)  # the cosine of 90 degrees is 6e-17
    sin_gamma = np.sqrt(1 - cos_gamma**2)
    third = [cos_beta, (cos_alpha - cos_beta * cos_gamma) / sin_gamma, np.sqrt(flatness) / sin_gamma]
    return np.array([[a, 0, 0], [b * cos_gamma, b * sin_gamma, 0], [c * x for x in third]])


def _atom_rows(block: Block) -> list[int]:
    """Rows of the loop of sites that are atoms, not dummies of a refinement."""
    n_rows = len(block[_COORDINATES[0]])
    for tag, values in block.items():
        if tag.startswith("_atom_site_fract") and len(values) != n_rows:
            raise InvalidCrystal("unreadable_file", f"{len(values)} values of {tag} for {n_rows} sites")
    flags = block.get("_atom_site_calc_flag", [])
    return [row for row in range(n_rows) if not (row < len(flags) and flags[row].lower() == "dum")]


def _column(block: Block, tag: str, rows: Sequence[int]) -> list[str]:
    values = block.get(tag, [])
    return [values[row] if row < len(values) else "?" for row in rows]


def _numbers(block: Block, tag: str, rows: Sequence[int], reason: str, unknown: float | None = None) -> list[float]:
    """unknown: what "?" and "." stand for. Raises InvalidCrystal of the reason for what is no number."""
    numbers = []
    for row, text in zip(rows, _column(block, tag, rows), strict=True):
        value = unknown if text in UNKNOWN and unknown is not None else number(text)
        if not np.isfinite(value):
            raise InvalidCrystal(reason, f"{tag} of site {row + 1} is {text!r}; write a number")
        numbers.append(value)
    return numbers


def _only_reading(sites: _Sites) -> Crystal:
    """The crystal of the sites under the symmetry that is stated; of two origins the one that makes a crystal.

    Raises InvalidCrystal where none does, or both.
    """
    listed = [symmetry for symmetry in sites.symmetries if symmetry.explicit]
    if listed:
        return _as_listed(sites, listed[0])
    if not sites.symmetries:
        crystal = _expanded(sites, IDENTITY)
        _check(sites, crystal)
        if _n_atoms(sites) not in (None, crystal.n_sites):
            raise InvalidCrystal(
                "unknown_symmetry",
                f"no symmetry is stated, and {crystal.n_sites} sites are not the {_n_atoms(sites)} atoms of "
                f"{sites.n_formulas:g} formulas {sites.formula_text!r}; list the operations",
            )
        return crystal
    good, errors = [], []
    for symmetry in sites.symmetries:
        try:
            crystal = _expanded(sites, symmetry)
            _check(sites, crystal)
            good.append(crystal)
        except InvalidCrystal as error:
            errors.append(error)
    if not good:
        raise errors[0]
    if len(good) > 1:
        whole = [crystal for crystal in good if crystal.n_sites == _n_atoms(sites)]
        if len(whole) != 1:
            raise InvalidCrystal(
                "unknown_symmetry",
                f"{sites.symmetries[0].name} may have its origin at either of two places; write ':1' or ':2' behind "
                "the symbol, or list the operations",
            )
        good = whole
    return good[0]


def _as_listed(sites: _Sites, listed: Symmetry) -> Crystal:
    """The listed operations count. Where the symbol has more of them, they must not add atoms: a list of x,y,z alone
    below F m -3 m is right only if all atoms are listed.
    """
    crystal = _expanded(sites, listed)
    _check(sites, crystal)
    larger = [symmetry for symmetry in sites.symmetries if not symmetry.explicit and len(symmetry) > len(listed)]
    if larger and not any(_has_symmetry(crystal, symmetry) for symmetry in larger):
        raise InvalidCrystal(
            "unknown_symmetry",
            f"{larger[0].name} has {len(larger[0])} operations, of which {len(listed)} are listed, and they make "
            "another crystal; list all, or write 'P 1'",
        )
    return crystal


def _has_symmetry(crystal: Crystal, symmetry: Symmetry) -> bool:
    """Whether the operations move every atom onto one of its element."""
    for site, element in zip(crystal.frac_coords, crystal.numbers, strict=True):
        images = symmetry.rotations @ site + symmetry.translations
        apart = images[:, None] - crystal.frac_coords[crystal.numbers == element]
        distances = np.linalg.norm((apart - np.rint(apart)) @ crystal.lattice, axis=-1)
        if distances.min(axis=1).max() > SAME_SITE:
            return False
    return True


def _n_atoms(sites: _Sites) -> int | None:
    """Atoms of the cell by formula and number of formulas, or None where the file lacks one of them."""
    if sites.formula is None or not np.isfinite(sites.n_formulas):
        return None
    return round(float(sum(sites.formula.values())) * sites.n_formulas)


def _expanded(sites: _Sites, symmetry: Symmetry) -> Crystal:
    """All atoms of the cell, elements by atomic number. Sites near a special position are moved onto it."""
    rotations, translations = symmetry.rotations, symmetry.translations
    coordinates, elements = [], []
    n_atoms = 0
    for site, element in zip(sites.coordinates, sites.elements.tolist(), strict=True):
        images = rotations @ site + translations
        if len(images) > 1:
            shifts = images - site
            shifts -= np.rint(shifts)
            fixed = np.linalg.norm(shifts @ sites.lattice, axis=1) < SAME_SITE
            if fixed.sum() > 1:
                images = _distinct(rotations @ (site + shifts[fixed].mean(axis=0)) + translations, sites.lattice)
        n_atoms += len(images)
        if n_atoms > MAX_SITES:
            raise InvalidCrystal("too_many_sites", f"more than {MAX_SITES} atoms; use the primitive cell")
        coordinates.append(images)
        elements += [element] * len(images)
    order = np.argsort(elements, kind="stable")
    wrapped = np.concatenate(coordinates)[order] % 1.0
    wrapped[wrapped > 1 - 1e-12] = 0.0
    return Crystal(sites.lattice, wrapped, np.array(elements)[order])


def _distinct(images: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """The first of each set of images that are the same place."""
    kept, left = [], images
    while len(left):
        kept.append(left[0])
        apart = left - left[0]
        left = left[np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=1) >= SAME_SITE]
    return np.array(kept)


def _check(sites: _Sites, crystal: Crystal) -> None:
    """Raises InvalidCrystal for a crystal that is none, or of another formula than the file states: a file cut off
    between two sites is still a legal CIF.
    """
    check_crystal(crystal)
    if not sites.formula:
        return
    total = float(sum(sites.formula.values()))
    stated = {z: float(amount) / total for z, amount in sites.formula.items()}
    found = {z: count / crystal.n_sites for z, count in composition(crystal.numbers)}
    if stated.keys() != found.keys() or any(abs(found[z] - x) > 0.02 * x for z, x in stated.items()):
        raise InvalidCrystal(
            "formula_mismatch",
            f"the sites are {reduced_formula(crystal.numbers)}, _chemical_formula_sum says {sites.formula_text!r}; "
            "the file is truncated or lacks sites: export it again",
        )


def format_cif(crystal: Crystal, name: str) -> str:
    """The crystal as CIF text, every site written (space group P 1), block `data_<name>`.

    Lattice parameters and coordinates keep 10 decimals; the orientation of the cell is not part of the format.
    """
    lengths = np.linalg.norm(crystal.lattice, axis=1)
    unit = crystal.lattice / lengths[:, None]
    cosines = np.clip([unit[1] @ unit[2], unit[2] @ unit[0], unit[0] @ unit[1]], -1, 1)
    cell = [*lengths, *np.degrees(np.arccos(cosines))]
    # Blocks are named by one word without blanks, at most 75 characters.
    lines = [f"data_{re.sub(r'[^A-Za-z0-9_.+-]', '_', name)[:74]}", "_symmetry_space_group_name_H-M   'P 1'"]
    lines += [f"{tag}   {value:.10f}" for tag, value in zip(_CELL, cell, strict=True)]
    lines += ["_symmetry_Int_Tables_number   1", f"_chemical_formula_structural   {reduced_formula(crystal.numbers)}"]
    formula = " ".join(f"{SYMBOLS[z]}{count}" for z, count in composition_key(crystal.numbers))
    lines += [f"_chemical_formula_sum   '{formula}'", f"_cell_volume   {crystal.volume:.8f}"]
    lines += ["loop_", " _symmetry_equiv_pos_site_id", " _symmetry_equiv_pos_as_xyz", "  1  'x, y, z'"]
    lines += ["loop_", " _atom_site_type_symbol", " _atom_site_label", " _atom_site_symmetry_multiplicity"]
    lines += [f" {tag}" for tag in _COORDINATES] + [" _atom_site_occupancy"]
    for index, (z, (x, y, z_coord)) in enumerate(zip(crystal.numbers, crystal.frac_coords, strict=True)):
        lines.append(f"  {SYMBOLS[z]}  {SYMBOLS[z]}{index}  1  {x:.10f}  {y:.10f}  {z_coord:.10f}  1")
    return "\n".join(lines) + "\n"
