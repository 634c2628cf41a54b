"""A library of POTCAR headers, without any pseudopotential in them: titles and valences from pymatgen's own table."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path

HEADER = """\
  {titel}
   {zval:.8f}
 parameters from PSCTR are:
   VRHFIN ={vrhfin}
   LEXCH  = {lexch}
   EATOM  =   100.0000 eV,    7.0000 Ry

   TITEL  = {titel}
   LULTRA =        F    use ultrasoft PP ?
   IUNSCR =        1    unscreen: 0-lin 1-nonlin 2-no
   RPACOR =    1.500    partial core radius
   POMASS ={mass:9.3f}; ZVAL   ={zval:9.3f}    mass and valenz
   RCORE  =    1.900    outmost cutoff radius
   RWIGS  =    1.500; RWIGS  =    0.800    wigner-seitz radius (au A)
   ENMAX  =  400.000; ENMIN  =  300.000 eV
   LCOR   =        T    correct aug charges
   LPAW   =        T    paw PP
   EAUG   =  400.000
   DEXC   =    0.000
   RMAX   =    1.950    core radius for proj-oper
   RAUG   =    1.300    factor for augmentation sphere
   RDEP   =    1.950    radius for radial grids
   RDEPT  =    1.500    core radius for aug-charge

END of PSCTR-controll parameters
 local part
 0.0
 End of Dataset
"""


@cache
def _table() -> dict:
    from monty.serialization import loadfn

    with resources.as_file(resources.files("pymatgen.io.vasp") / "potcar-summary-stats.json.bz2") as path:
        return loadfn(str(path))


def write_library(root: Path, elements: set[str]) -> Path:
    """Headers of all PBE families for the elements, laid out as PMG_VASP_PSP_DIR is; returns the root."""
    from pymatgen.core import Element
    from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP

    for family in ("PBE", "PBE_52", "PBE_54", "PBE_64"):
        for joined, variants in _table()[family].items():
            symbol = variants[0]["symbol"]
            element = re.match("[A-Z]?[a-z]?", symbol)[0]
            parts = re.match(rf"(PAW_PBE|PAW_GGA|PAW){re.escape(symbol)}(.*)$", joined)
            if element not in elements or not parts:
                continue
            titel = " ".join(filter(None, (parts[1], symbol, parts[2])))
            folder = root / POTCAR_FUNCTIONAL_MAP[family] / symbol
            folder.mkdir(parents=True, exist_ok=True)
            values = {key.lower(): variants[0][key] for key in ("VRHFIN", "LEXCH")}
            mass = float(Element(element).atomic_mass)
            text = HEADER.format(titel=titel, zval=float(variants[0]["ZVAL"]), mass=mass, **values)
            (folder / "POTCAR").write_text(text)
    return root
