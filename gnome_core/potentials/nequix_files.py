"""Files of Nequix potentials (.nqx): a line of JSON, then arrays in numpy's format in the order of the original's
leaves."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from pydantic import ValidationError

from gnome_core.graphs.edges import EdgeShape, pack
from gnome_core.models.config import NequixConfig
from gnome_core.models.equivariant import irrep_name, parse_irreps
from gnome_core.models.nequix import Nequix, layer_paths
from gnome_core.potentials.files import BadPotential


def read_nequix(path: str | Path) -> tuple[dict, NequixConfig, dict[int, float]]:
    """Variables, shape of the network and shifts of the elements (eV, by atomic number) of a .nqx file.

    Raises BadPotential for a file that is not one, holds NaN, or is of a variant with weights by element in its
    self-connections or without norms.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        head, _, rest = data.partition(b"\n")
        settings = json.loads(head)
        if settings["index_weights"] or not settings["layer_norm"]:
            raise BadPotential(f"{path}: a variant of Nequix that is not read here (index_weights or no layer_norm)")
        config = NequixConfig(
            layers=settings["n_layers"],
            hidden_irreps=settings["hidden_irreps"].replace(" ", ""),
            degree=settings["lmax"],
            cutoff=settings["cutoff"],
            envelope_power=settings["radial_polynomial_p"],
            n_bessel=settings["radial_basis_size"],
            radial_width=settings["radial_mlp_size"],
            radial_layers=settings["radial_mlp_layers"],
            neighbors=settings["avg_n_neighbors"],
            scale=settings["scale"],
            elements=tuple(settings["atomic_numbers"]),
        )
        arrays = _arrays(rest)
        atoms = next(arrays)
        variables = {"params": _parameters(config, arrays)}
        shifts = {z: float(settings["shift"]) + float(energy) for z, energy in zip(config.elements, atoms, strict=True)}
    except OSError as error:
        raise BadPotential(f"{path}: {error.strerror}; `gnome potential get` fetches published potentials") from error
    except (ValueError, KeyError, TypeError, StopIteration, ValidationError) as error:
        raise BadPotential(f"{path}: not a Nequix potential ({type(error).__name__}: {error})") from error
    return variables, config, shifts


def _arrays(data: bytes) -> Iterator[np.ndarray]:
    file = io.BytesIO(data)
    while file.tell() < len(data):
        array = np.load(file, allow_pickle=False)
        if not np.isfinite(array).all():
            raise ValueError("a weight is not finite")
        yield array


def _parameters(config: NequixConfig, arrays: Iterator[np.ndarray]) -> dict:
    """The tree of `gnome_core.models.nequix.Nequix` from the leaves in the original's order."""
    hidden = parse_irreps(config.hidden_irreps)
    scalar = next(iter(hidden))
    params: dict = {}
    for layer in range(config.layers):
        live = layer_paths(config, layer)
        inputs = list(hidden) if layer else [scalar]
        outputs = [scalar] if layer == config.layers - 1 else list(hidden)
        radial = {f"hidden_{i}": {"kernel": next(arrays)} for i in range(config.radial_layers)}
        kernel = next(arrays)
        # The original has the paths of one output side by side.
        theirs = sorted(range(len(live)), key=lambda i: outputs.index(live[i].output))
        ends = np.cumsum([live[i].channels for i in theirs])
        if kernel.shape[1] != ends[-1]:
            raise ValueError(f"layer {layer} has {kernel.shape[1]} radial weights, not {ends[-1]}")
        parts = {i: kernel[:, end - live[i].channels : end] for i, end in zip(theirs, ends, strict=True)}
        radial["out"] = {"kernel": np.concatenate([parts[i] for i in range(len(live))], axis=1)}
        params[f"layer_{layer}"] = {
            "radial": radial,
            "linear_before": {irrep_name(ir): next(arrays) for ir in inputs},
            "linear_after": {irrep_name(ir): next(arrays) for ir in outputs},
            # A layer whose input lacks an irrep has no self-connection there.
            "self_connection": {irrep_name(ir): next(arrays) for ir in outputs if ir in inputs},
            "norm": {irrep_name(ir): next(arrays) for ir in outputs},
        }
    params["readout"] = {irrep_name(scalar): next(arrays)}
    expected = jax.eval_shape(Nequix(config).init, jax.random.key(0), pack([], EdgeShape(1, 1, 1)))["params"]
    for place, array in flatten_dict(expected, sep="/").items():
        found = flatten_dict(params, sep="/")[place].shape
        if found != array.shape:
            raise ValueError(f"{place} is of shape {found}, not {array.shape}")
    return params
