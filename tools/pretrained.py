"""Put members that `gnome train` made into the package, their parameters as float16:

    python tools/pretrained.py OUT structural|compositional

OUT is what one of these left (the sets and their licences: gnome_core/data/MODEL_CARD.md):

    gnome train mp_structures.parquet OUT --also evaluated --from ALONE --config configs/structural.toml
    gnome train mp_e_form_compositions.parquet OUT --framework compositional --config configs/compositional.toml
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import gnome_core.data
from gnome_core.ensembles.calibration import FILE as CALIBRATION
from gnome_core.models.members import load_member, save_member
from gnome_core.models.shipped import members_in


def main(source: str, framework: str) -> None:
    folder = Path(gnome_core.data.__path__[0], framework)
    shutil.copy(Path(source, CALIBRATION), folder / CALIBRATION)
    for path in members_in(source):
        variables, record = load_member(path)
        save_member(folder / path.name, variables, record, np.float16)
        print(f"{folder / path.name}: validation MAE {record.val_mae:.4f} eV/atom")


if __name__ == "__main__":
    main(*sys.argv[1:])
