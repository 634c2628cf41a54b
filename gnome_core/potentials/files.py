"""A trained potential as two plain files: NAME.npz (variables) and NAME.json (what they mean)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from pydantic import BaseModel, ConfigDict

from gnome_core.errors import GnomeError
from gnome_core.files import replacing, write_file
from gnome_core.models.config import CHGNetConfig, NequIPConfig


class BadPotential(GnomeError, ValueError):
    """A potential file that is missing, of another format, or holds NaN."""


class PotentialRecord(BaseModel):
    """The JSON beside the arrays.

    scale: energy scale of the answers. shifts: eV, by atomic number, for every element of the training data. errors:
    of the validation frames, in the units their names give. origin: what it was trained on, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: NequIPConfig | CHGNetConfig
    scale: str
    shifts: dict[int, float]
    n_train: int
    n_val: int
    errors: dict[str, float]
    epochs: int
    seed: int
    training: dict[str, Any]
    origin: str = ""
    init_from: str | None = None
    curve: list[dict[str, float]] = []


def save_potential(path: str | Path, variables: dict, record: PotentialRecord) -> None:
    """Write `path` (.npz, float32) and its record (.json) beside it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The record first: a potential exists once its arrays do.
    write_file(path.with_suffix(".json"), record.model_dump_json(indent=1).encode())
    arrays = {name: np.asarray(value, np.float32) for name, value in flatten_dict(variables, sep="/").items()}
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_potential(path: str | Path) -> tuple[dict, PotentialRecord]:
    """Variables and record of a saved potential. Raises BadPotential."""
    path = Path(path)
    try:
        record = PotentialRecord(**json.loads(path.with_suffix(".json").read_text()))
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise BadPotential(
            f"{path}: not a potential with its .json beside it ({error}); `gnome potential train` writes both"
        ) from error
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise BadPotential(f"{path}: {name} holds NaN or infinity; train the potential again")
    return unflatten_dict(arrays, sep="/"), record
