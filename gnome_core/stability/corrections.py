"""Energy corrections: the Materials Project's 2020 scheme, and the shifts between two generations of potentials."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import MappingProxyType

import numpy as np

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal

# eV per atom of the element, to be added to the Materials Project's energies where they meet energies made with the
# newer potentials of GNoME's protocol (google-deepmind/materials_discovery, DATASET.md).
POTENTIAL_SHIFTS: Mapping[int, float] = MappingProxyType(
    {3: -0.00301278, 11: -0.00447437, 12: 0.0924014, 31: -0.0028805, 32: 0.10417085}  # Li, Na, Mg, Ga, Ge
)
POTENTIAL_SHIFTS_VERSION = "gnome-potential-shifts/1"


@dataclass(frozen=True)
class Corrections:
    """Corrections of n energies, eV/atom, to be added to the raw ones.

    per_atom: (n,), NaN where the scheme refuses an entry. problems: (n,) why, None where it does not.
    version: scheme, its options and the code that computed it; stored with every entry.
    """

    per_atom: np.ndarray
    problems: tuple[str | None, ...]
    version: str


# eV: the Materials Project's, for crystals that hold oxygen or fluorine as well (Jain et al., Phys. Rev. B 84, 045115).
MP_HUBBARDS: Mapping[str, float] = MappingProxyType(
    {"Co": 3.32, "Cr": 3.7, "Fe": 5.3, "Mn": 3.9, "Mo": 4.38, "Ni": 6.2, "V": 3.25, "W": 6.2}
)


def mp_hubbards(numbers: np.ndarray) -> dict[str, float]:
    """The U (eV) by element that the Materials Project's settings give a crystal of these atomic numbers."""
    symbols = {SYMBOLS[z] for z in numbers.tolist()}
    return {symbol: u for symbol, u in MP_HUBBARDS.items() if symbol in symbols and symbols & {"O", "F"}}


def mp2020_corrections(
    crystals: Sequence[Crystal],
    hubbards: Sequence[Mapping[str, float]] | None = None,
    run_types: Sequence[str] | None = None,
) -> Corrections:
    """Anion and GGA/GGA+U mixing corrections of PBE(+U) energies made with the Materials Project's settings.

    crystals: n relaxed crystals; their bond lengths tell oxides from peroxides, so relax first and correct then.
    hubbards: n mappings of element symbol to the U (eV) that the calculation used, {} for plain PBE; None: those of
        the Materials Project's settings (`mp_hubbards`), which potentials learn.
    run_types: n of the Materials Project's names ("GGA", "R2SCAN"); the scheme refuses all but GGA and GGA+U, which are
        what `hubbards` say where nothing is given.

    pymatgen's MaterialsProject2020Compatibility (Wang et al., Sci. Rep. 11, 15496, 2021) with anions corrected only
    where their oxidation state is at most -1 ("require_bound"), as in GNoME's release of August 2024. An energy with
    other U values than the scheme's has no correction: its problem names the element and both values.
    """
    from pymatgen.analysis.compatibility import CompatibilityError
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    if hubbards is None:
        hubbards = [mp_hubbards(crystal.numbers) for crystal in crystals]
    per_atom, problems = np.full(len(crystals), np.nan), []
    for row, (crystal, values) in enumerate(zip(crystals, hubbards, strict=True)):
        used = {symbol: u for symbol, u in values.items() if u}
        kind = run_types[row] if run_types is not None else "GGA+U" if used else "GGA"
        entry = ComputedStructureEntry(to_structure(crystal), 0.0, parameters={"hubbards": used, "run_type": kind})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # guesses of oxidation states, which it handles itself
                adjustments = _mp2020().get_adjustments(entry)
        except CompatibilityError as error:
            problems.append(str(error).split(" for {")[0])
            continue
        per_atom[row] = sum(adjustment.value for adjustment in adjustments) / crystal.n_sites
        problems.append(None)
    version = f"mp2020/require_bound/pymatgen-core-{metadata.version('pymatgen-core')}"
    return Corrections(per_atom, tuple(problems), version)


@cache
def _mp2020():
    from pymatgen.analysis.compatibility import MaterialsProject2020Compatibility

    # Of potentials the symbols count, not the files: GNoME's are newer ones of the same symbols.
    return MaterialsProject2020Compatibility(strict_anions="require_bound", check_potcar=False)


def potential_shifts(numbers: Sequence[np.ndarray]) -> Corrections:
    """What turns the Materials Project's energies of n crystals (atomic numbers, ragged) into those of GNoME's newer
    Li, Na, Mg, Ga and Ge potentials; 0 for crystals without these elements."""
    counts = atom_counts(numbers)
    shifts = np.zeros(counts.shape[1])
    shifts[list(POTENTIAL_SHIFTS)] = list(POTENTIAL_SHIFTS.values())
    return Corrections(counts @ shifts / counts.sum(axis=1), (None,) * len(counts), POTENTIAL_SHIFTS_VERSION)
