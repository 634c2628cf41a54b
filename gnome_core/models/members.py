"""Models by name, and a trained member as two plain files: NAME.npz (variables) and NAME.json (what they mean)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast
from zipfile import BadZipFile

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from pydantic import BaseModel, ConfigDict

from gnome_core.errors import GnomeError
from gnome_core.files import replacing, write_file
from gnome_core.graphs.batching import GraphBatch
from gnome_core.models.compositional import CompositionalGNN
from gnome_core.models.config import CompositionalConfig, ModelConfig, StructuralConfig
from gnome_core.models.structural import StructuralGNN

MODELS: dict[str, tuple[type[ModelConfig], type[nn.Module]]] = {
    "structural": (StructuralConfig, StructuralGNN),
    "compositional": (CompositionalConfig, CompositionalGNN),
}


Target = Literal["e_form_per_atom", "band_gap"]  # what a member predicts: formation energies, or band gaps


class BadMember(GnomeError, ValueError):
    """A member file that is missing, of another format, or holds NaN."""


class MemberRecord(BaseModel):
    """The JSON beside a member's arrays. shift, scale and errors are in the target's unit: eV/atom, of gaps eV."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    config: dict[str, Any]
    member: int
    seed: int
    elements: list[int]  # atomic numbers seen in training
    shift: float
    scale: float
    mean_adjacency: float
    n_train: int
    n_val: int
    train_mae: float
    val_mae: float | None
    epochs: int
    training: dict[str, Any]
    init_from: str | None = None  # folder and name of the member that it began from
    target: Target = "e_form_per_atom"
    curve: list[dict[str, float]] = []

    def network(self) -> nn.Module:
        config_type, network_type = MODELS[self.model]
        return network_type(config_type(**self.config))


def member_name(member: int) -> str:
    """What a member's files are called, less their endings; names sort as members do."""
    return f"member-{member:03d}"


def model_of(config: ModelConfig, precision: str = "float32") -> tuple[str, nn.Module]:
    """Name and network of the model that a configuration shapes; precision: of its matrix products."""
    name, network_type = next((n, network) for n, (kind, network) in MODELS.items() if type(config) is kind)
    return name, network_type(config, precision)


def apply_model(network: nn.Module, variables: Any, graph: GraphBatch) -> jax.Array:
    """(n_graphs,) energies, eV/atom, of a model without mutable state."""
    return cast(jax.Array, network.apply(variables, graph))


def save_member(path: str | Path, variables: dict, record: MemberRecord, dtype: type = np.float32) -> None:
    """Write `path` (.npz; parameters as `dtype`, statistics as float32) and its record (.json) beside it."""
    path = Path(path)
    arrays = {
        name: np.asarray(value, dtype if name.startswith("params/") else np.float32)
        for name, value in flatten_dict(variables, sep="/").items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # The record first: a member exists once its arrays do.
    write_file(path.with_suffix(".json"), record.model_dump_json(indent=1).encode())
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_member(path: str | Path) -> tuple[dict, MemberRecord]:
    """Variables (float32) and record of a saved member. Raises BadMember."""
    path = Path(path)
    try:
        record = MemberRecord(**json.loads(path.with_suffix(".json").read_text()))
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name].astype(np.float32) for name in file.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise BadMember(f"{path}: not a member file with its .json beside it ({error}); train it again") from error
    if record.model not in MODELS:
        raise BadMember(f"{path}: unknown model {record.model!r}, known are {sorted(MODELS)}")
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise BadMember(f"{path}: {name} holds NaN or infinity; train the member again")
    return unflatten_dict(arrays, sep="/"), record
