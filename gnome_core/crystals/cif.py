"""One crystal from the text of a CIF file, and back."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np

from gnome_core.compositions.formulas import NUMBERS, SYMBOLS, composition_key, reduced_formula
from gnome_core.crystals.convert import from_structure
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal

if TYPE_CHECKING:
    from pymatgen.core import Structure

_CELL = [f"_cell_{name}" for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")]
_COORDINATES = ["_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"]


def parse_cif(text: str) -> Crystal:
    """The one ordered crystal that a CIF describes, its symmetry expanded, its sites grouped by element.

    Raises InvalidCrystal: unreadable_file, multiple_structures, no_sites, partial_occupancy, formula_mismatch (sites
    are missing) or what `check_crystal` raises.
    """
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen's notes on roundings and missing tags, one a site
        try:
            parser = CifParser(io.StringIO(text))
            blocks = list(parser.as_dict().values())
        except (ValueError, KeyError, IndexError, TypeError, ZeroDivisionError) as error:
            raise InvalidCrystal("unreadable_file", f"not a complete CIF ({error}); export it again") from error
        _check_block(blocks)
        try:
            # check_occu=False keeps the sum of two atoms on one site, which would be "rescaled" to one otherwise.
            (structure,) = parser.parse_structures(primitive=False, check_occu=False, on_error="raise")
        except Exception as error:  # pymatgen raises anything from AttributeError to its own types on odd symmetry
            raise InvalidCrystal("unreadable_file", f"pymatgen cannot read it ({error}); export it again") from error
    for site in structure:
        if site.species.num_atoms > 1.001:
            raise InvalidCrystal(
                "overlapping_atoms", f"{site.species.num_atoms:g} atoms on one site; remove the copies"
            )
    crystal = from_structure(structure)
    check_crystal(crystal)
    _check_formula(blocks, structure, crystal)
    return crystal


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


def _check_block(blocks: list[dict]) -> None:
    """Find, in the raw tags, what pymatgen would skip over, merge or report in words only."""
    with_sites = [block for block in blocks if _COORDINATES[0] in block]
    if not with_sites:
        if any(tag in block for block in blocks for tag in _CELL):
            raise InvalidCrystal("no_sites", "the CIF lists no atom sites; export it with its atoms")
        raise InvalidCrystal("unreadable_file", "no crystal structure in it; give a CIF with a cell and atom sites")
    if len(with_sites) > 1:
        raise InvalidCrystal("multiple_structures", f"{len(with_sites)} structures in one file; split it, one a file")
    block = with_sites[0]
    for tag in _CELL:
        if tag in block and not _number(block[tag]) > 0:
            raise InvalidCrystal("bad_lattice", f"{tag} is {block[tag]!r}; it must be a positive number")
    if not any(tag in block for tag in _CELL):
        raise InvalidCrystal("bad_lattice", "the CIF gives no cell lengths and angles; add the _cell_ tags")
    # The square of cell volume / product of lengths; pymatgen fails on flat cells in ways that do not say so.
    cosines = np.cos(np.radians([_number(block.get(tag, "90")) for tag in _CELL[3:]]))
    if 1 + 2 * cosines.prod() - cosines @ cosines < 1e-4:
        raise InvalidCrystal("bad_lattice", "the cell angles enclose no volume; check the _cell_angle_ tags")
    symbols = block.get("_atom_site_type_symbol") or block.get("_atom_site_label") or []
    if not symbols:
        raise InvalidCrystal("no_sites", "the CIF lists no atom sites; export it with its atoms")
    exact = "_atom_site_type_symbol" in block
    for row, symbol in enumerate(symbols, 1):
        if not _is_element(symbol, exact):
            raise InvalidCrystal("unknown_element", f"site {row} is {symbol!r}, no known element; correct the symbol")
    for tag in _COORDINATES:
        values = block.get(tag, [])
        for row, value in enumerate(values, 1):
            if not np.isfinite(_number(value)):
                raise InvalidCrystal("not_finite", f"{tag} of site {row} is {value!r}; write a number")
        if len(values) != len(symbols):
            raise InvalidCrystal("unreadable_file", f"{len(values)} values of {tag} for {len(symbols)} sites")
    for row, value in enumerate(block.get("_atom_site_occupancy", []), 1):
        if abs(_number(value) - 1) > 1e-3 and value not in ("?", "."):
            raise InvalidCrystal(
                "partial_occupancy",
                f"site {row} ({symbols[row - 1]}) has occupancy {value}; use an ordered approximant",
            )


def _check_formula(blocks: list[dict], structure: Structure, crystal: Crystal) -> None:
    """A file cut off between two sites is still a legal CIF; its formula tells."""
    from pymatgen.core import Composition

    stated = next((block["_chemical_formula_sum"] for block in blocks if "_chemical_formula_sum" in block), None)
    try:
        formula = Composition(stated).reduced_composition if stated else None
    except ValueError:
        return  # "?" and free text say nothing about the sites
    found = structure.composition.element_composition.reduced_composition
    if formula and not formula.almost_equals(found, rtol=0.01, atol=0.01):
        raise InvalidCrystal(
            "formula_mismatch",
            f"the sites are {reduced_formula(crystal.numbers)}, _chemical_formula_sum says {stated!r}; "
            "the file is truncated or lacks sites: export it again",
        )


def _number(text: str) -> float:
    """The value of a CIF number such as 3.905(2); NaN where it is none."""
    try:
        return float(re.sub(r"\(.*", "", text))
    except ValueError:
        return np.nan


def _is_element(symbol: str, exact: bool) -> bool:
    """Whether a type symbol ("Fe3+", exact) or a site label ("FE1A", its first one or two letters) is an element."""
    letters = re.sub(r"[^A-Za-z].*", "", symbol).capitalize()
    spellings = (letters,) if exact else (letters[:2], letters[:1])
    return any(one in NUMBERS or one in ("D", "T") for one in spellings)
