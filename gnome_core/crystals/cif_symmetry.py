"""The symmetry that a CIF states, as operations. What is not understood is refused: one atom in the place of eight is
a crystal too, and nobody would notice."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gnome_core.crystals.cif_blocks import UNKNOWN, Block, first
from gnome_core.crystals.crystal import InvalidCrystal

if TYPE_CHECKING:
    from gemmi import SpaceGroup

MAX_OPERATIONS = 1000  # a space group has 192 in its conventional cell, more in supercells
MAX_DENOMINATOR = 100_000  # common one of all translations
_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_MAGNETIC = (
    "_space_group_symop_magn_operation_xyz",
    "_space_group_symop_magn_operation_bns_xyz",
    "_space_group_symop_magn_xyz",
)
_CENTRINGS = ("_space_group_symop_magn_centering_xyz",)
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_HERMANN_MAUGUIN = (
    "_space_group_name_h-m_alt",
    "_space_group_name_h-m_ref",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m",
    "_symmetry_space_group_name_h-m",
)
_NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
_CODE = "_space_group_it_coordinate_system_code"


@dataclass(frozen=True)
class Symmetry:
    """A space group in one setting. rotations: (m, 3, 3); translations: (m, 3), of fractional coordinates as columns:
    x' = R x + t. name: how the file states it. explicit: the operations themselves are listed.
    """

    rotations: np.ndarray
    translations: np.ndarray
    name: str
    explicit: bool = False

    def __len__(self) -> int:
        return len(self.rotations)

    def fits(self, lattice: np.ndarray) -> bool:
        """Whether every operation keeps the cell: lengths within about 2 %, angles within about 2 degrees."""
        metric = lattice @ lattice.T
        scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
        turned = np.swapaxes(self.rotations, 1, 2) @ metric @ self.rotations
        return bool((np.abs(turned - metric) <= 0.04 * scale).all())


IDENTITY = Symmetry(np.eye(3)[None], np.zeros((1, 3)), "no symmetry")


def stated_symmetries(block: Block, lattice: np.ndarray) -> list[Symmetry]:
    """What the block may mean: none where it says nothing of symmetry; the operations that it lists (explicit), if any;
    and what a Hall name, a Hermann-Mauguin symbol or the number in the International Tables stands for, which are two
    where it leaves the origin open.

    lattice: (3, 3) Å. Raises InvalidCrystal: unknown_symmetry, too_many_operations.
    """
    listed = _listed(block)
    if listed is not None and not listed.fits(lattice):
        raise InvalidCrystal(
            "unknown_symmetry", f"the {len(listed)} operations do not fit the cell; correct the cell or the operations"
        )
    try:
        named = _named(block, lattice)
    except InvalidCrystal:
        if listed is None:
            raise
        named = []
    fitting = [symmetry for symmetry in named if symmetry.fits(lattice)]
    if listed is not None:
        return [listed, *fitting]
    if named and not fitting:
        raise InvalidCrystal(
            "unknown_symmetry", f"{named[0].name} does not fit the cell; correct it or list the operations"
        )
    if not named:
        hints = [name for name in block if re.match(r"_(space_group|symmetry)", name)]
        if hints:
            raise InvalidCrystal(
                "unknown_symmetry",
                f"{hints[0]} is {block[hints[0]][:1]}, which says no symmetry; list the operations, or write 'P 1' "
                "where all atoms are listed",
            )
    return fitting


def _listed(block: Block) -> Symmetry | None:
    magnetic = _values(block, _MAGNETIC)
    texts = magnetic or _values(block, _OPERATIONS)
    if not texts:
        return None
    centrings = _values(block, _CENTRINGS) if magnetic else ()
    n_operations = len(texts) * max(1, len(centrings))
    if n_operations > MAX_OPERATIONS:
        raise InvalidCrystal(
            "too_many_operations", f"{n_operations:,} symmetry operations, at most {MAX_OPERATIONS:,}; correct the file"
        )
    return _group(texts, centrings)


def _values(block: Block, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        values = tuple(value for value in block.get(name, ()) if value not in UNKNOWN)
        if values:
            return values
    return ()


@lru_cache(maxsize=512)
def _group(texts: tuple[str, ...], centrings: tuple[str, ...]) -> Symmetry:
    operations = dict.fromkeys(_operation(text) for text in texts)
    if centrings:
        shifts = [_operation(text) for text in centrings]
        operations = dict.fromkeys(
            (rotation, tuple((a + b) % 1 for a, b in zip(translation, shift, strict=True)))
            for rotation, translation in operations
            for _, shift in shifts
        )
    rotations = np.array([rotation for rotation, _ in operations]).reshape(-1, 3, 3)
    denominator = math.lcm(*(part.denominator for _, translation in operations for part in translation))
    steps = np.array([[int(part * denominator) for part in translation] for _, translation in operations])
    if denominator > MAX_DENOMINATOR or not _is_group(rotations, steps, denominator):
        raise InvalidCrystal(
            "unknown_symmetry",
            f"the {len(operations)} symmetry operations are no group: some are missing or wrong; export the file again",
        )
    return Symmetry(rotations.astype(float), steps / denominator, f"{len(operations)} operations", explicit=True)


_TERM = re.compile(r"([+-]?)(?:(\d+\.?\d*|\.\d+)(?:/(\d+))?)?\*?([xyz]?)")


@lru_cache(maxsize=1 << 14)
def _operation(text: str) -> tuple[tuple[int, ...], tuple[Fraction, ...]]:
    """ "-y+1/2, x-y, z" -> (9 numbers of the rotation, 3 of the translation in [0, 1)); a time reversal is left out."""
    parts = re.sub(r"\s", "", text).lower().split(",")
    if len(parts) == 4 and re.fullmatch(r"[+-]?1|m|-m", parts[3]):
        parts.pop()
    rows, shifts = [], []
    for part in parts:
        row, shift, end = [0, 0, 0], Fraction(0), 0
        while end < len(part):
            match = _TERM.match(part, end)
            if match is None or match.end() == end or not (match[2] or match[4]) or (end and not match[1]):
                raise _unreadable(text)
            # Decimals such as 0.3333 stand for thirds.
            size = Fraction(match[2]).limit_denominator(48) if match[2] else Fraction(1)
            size = size / int(match[3]) if match[3] and int(match[3]) else size
            size = -size if match[1] == "-" else size
            if match[4]:
                if size.denominator != 1:
                    raise _unreadable(text)
                row["xyz".index(match[4])] += int(size)
            else:
                shift += size
            end = match.end()
        rows.append(row)
        shifts.append(shift % 1)
    if len(rows) != 3 or abs(round(float(np.linalg.det(np.array(rows, float))))) != 1:
        raise _unreadable(text)
    return tuple(value for row in rows for value in row), tuple(shifts)


def _unreadable(text: str) -> InvalidCrystal:
    return InvalidCrystal("unknown_symmetry", f"{text[:60]!r} is no symmetry operation; write one as '-x, y+1/2, z'")


def _is_group(rotations: np.ndarray, steps: np.ndarray, denominator: int) -> bool:
    """Whether the products of all operations are among them, up to whole cells.

    rotations: (m, 3, 3) integers; steps: (m, 3) integers, the translations times their common denominator.
    """
    by_rotation: dict[bytes, list[int]] = {}
    for row, matrix in enumerate(rotations.astype(np.int64)):
        by_rotation.setdefault(matrix.tobytes(), []).append(row)
    pure = by_rotation.get(np.eye(3, dtype=np.int64).tobytes(), [])
    if not pure or any(len(rows) != len(pure) for rows in by_rotation.values()):
        return False
    weights = np.array([denominator**2, denominator, 1])
    shifts = np.sort(steps[pure] % denominator @ weights)

    def all_are_shifts(moves: np.ndarray) -> bool:
        return bool(np.isin(moves % denominator @ weights, shifts).all())

    representatives = [rows[0] for rows in by_rotation.values()]
    if len(pure) > 1:
        cosets = all(all_are_shifts(steps[rows] - steps[rows[0]]) for rows in by_rotation.values())
        sums = all(all_are_shifts(steps[pure] + steps[row]) for row in pure)
        if not (cosets and sums and all_are_shifts(np.einsum("rij,sj->rsi", rotations[representatives], steps[pure]))):
            return False
    moves = []
    for row in representatives:
        for other in representatives:
            product = by_rotation.get((rotations[row] @ rotations[other]).tobytes())
            if product is None:
                return False
            moves.append(rotations[row] @ steps[other] + steps[row] - steps[product[0]])
    return all_are_shifts(np.array(moves))


def _named(block: Block, lattice: np.ndarray) -> list[Symmetry]:
    """The settings that a name or number stands for. Raises InvalidCrystal for one that is not understood."""
    if hall := first(block, *_HALL):
        symmetry = _of_hall(hall)
        if symmetry is not None:
            return [symmetry]
    symbol, number, code = first(block, *_HERMANN_MAUGUIN), first(block, *_NUMBER), first(block, _CODE)
    axes = _is_rhombohedral(lattice)
    groups = _space_groups(symbol, code, axes) if symbol else ()
    numbered = _space_groups(number, code, axes) if number and number.isdigit() else ()
    stated = symbol or number or hall
    if stated is None:
        return []
    groups = groups or (() if symbol else numbered)
    if not groups:
        raise InvalidCrystal(
            "unknown_symmetry", f"{stated!r} is no space group that is known here; list the operations in the file"
        )
    if numbered and numbered[0].number != groups[0].number:
        raise InvalidCrystal(
            "unknown_symmetry", f"the symbol {symbol!r} is of group {groups[0].number}, but {number} is stated as well"
        )
    return [_of_space_group(group.hm, group.ext, str(stated)) for group in groups]


def _is_rhombohedral(lattice: np.ndarray) -> bool:
    """Whether the cell is of rhombohedral axes, for symbols as "R -3 m" that leave them open."""
    metric = lattice @ lattice.T
    diagonal, others = np.diag(metric), metric[[1, 2, 0], [2, 0, 1]]
    return bool(np.ptp(diagonal) < 0.02 * diagonal.max() and np.ptp(others) < 0.02 * diagonal.max())


@lru_cache(maxsize=256)
def _of_hall(name: str) -> Symmetry | None:
    import gemmi

    try:
        operations = list(gemmi.symops_from_hall(name.replace("_", " ")))
    except RuntimeError:
        return None
    return _of_operations(operations, name)


@lru_cache(maxsize=256)
def _of_space_group(hm: str, ext: str, stated: str) -> Symmetry:
    import gemmi

    name = f"{hm}:{ext}" if ext.strip("\x00 ") else hm
    group = gemmi.find_spacegroup_by_name(name)
    return _of_operations(list(group.operations()), f"{stated} ({group.xhm()})")


def _of_operations(operations: list, name: str) -> Symmetry:
    rotations = np.array([operation.rot for operation in operations], float) / 24
    translations = np.array([operation.tran for operation in operations], float) / 24
    return Symmetry(rotations, translations, name)


@lru_cache(maxsize=1024)
def _space_groups(symbol: str, code: str | None, rhombohedral: bool) -> tuple[SpaceGroup, ...]:
    """The settings of a Hermann-Mauguin symbol or number, of all the ways of writing one; () where there is none."""
    import gemmi

    text = re.sub(r"\s*\((?:no\.?\s*)?\d+\)\s*$", "", symbol.replace("_", ""), flags=re.IGNORECASE)
    text = re.sub(r"([2346])\s*\(([1-5])\)", r"\1\2", text).strip()
    # Origin choice 1 is ":1", ICSD's "S", FIZ's "O1"; choice 2 is ":2", "Z", "O2"; axes are ":H", "H", ":R", "R".
    match = re.fullmatch(r"(.*?)\s*(?::\s*([12hr])|\s?([SZ])|O([12]))", text, flags=re.IGNORECASE)
    choice = code.lower() if code and code.lower() in ("1", "2", "h", "r") else ""
    if match and match[1]:
        text = match[1]
        choice = match[2] or match[4] or {"s": "1", "z": "2"}[match[3].lower()]
    for spelling in (text, _shortened(text)):
        group = gemmi.find_spacegroup_by_name(spelling, *((60, 60) if rhombohedral else (90, 120)))
        if group is None:
            continue
        settings = [
            other for other in gemmi.spacegroup_table() if other.hm == group.hm and other.number == group.number
        ]
        if len(settings) == 1:
            return tuple(settings)
        given = choice.upper() or (group.ext if group.ext not in "12" else "")
        if text.isdigit() and given == "H" and not choice:
            given = "R" if rhombohedral else "H"
        return tuple(other for other in settings if not given or other.ext == given)
    return ()


def _shortened(symbol: str) -> str:
    """A full symbol in short: "F 41/d -3 2/m" -> "F d -3 m", "P 21/n 21/m 21/a" -> "P n m a"."""
    centring, *axes = symbol.split()
    if not axes:
        return symbol
    planes = [axis.split("/")[-1] for axis in axes]
    cubic = len(axes) > 1 and axes[1] in ("-3", "3")
    orthorhombic = len(axes) == 3 and axes[0].startswith("2")
    return " ".join([centring, planes[0] if cubic or orthorhombic else axes[0], *planes[1:]])
