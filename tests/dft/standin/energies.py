"""Energies for the stand-in: one process holds CHGNet, and every "VASP" asks it over a socket.

`python -m tests.dft.standin.energies SOCKET` serves until it is ended.
"""

from __future__ import annotations

import json
import socketserver
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.chgnet_potential import CHGNetPotential
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.relax import Frame, relax

potential = cache(CHGNetPotential.published)


def frames_of(request: dict) -> list[dict]:
    """request: lattice, frac_coords, numbers; steps: most ionic steps, 1 for a single point. One dict an ionic step."""
    crystal = Crystal(request["lattice"], request["frac_coords"], request["numbers"])
    steps = request["steps"]
    if steps > 1:
        frames = relax([crystal], potential(), RelaxConfig(fmax=0.05, max_steps=min(steps, 12)))[0].frames
    else:
        frames = [Frame(0, crystal, e.energy, e.forces, e.stress) for e in potential().evaluate([crystal])]
    magmoms = potential().evaluate([frames[-1].crystal])[0].magmoms
    return [
        {
            "lattice": frame.crystal.lattice.tolist(),
            "frac_coords": frame.crystal.frac_coords.tolist(),
            "energy": float(frame.energy),
            "forces": np.asarray(frame.forces, float).tolist(),
            "stress": np.asarray(frame.stress, float).tolist(),
            "magmoms": np.asarray(magmoms, float).tolist(),
        }
        for frame in frames
    ]


@cache  # tests run the same jobs again and again
def answer(request: bytes) -> bytes:
    return json.dumps(frames_of(json.loads(request))).encode() + b"\n"


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        answered = answer(self.rfile.readline())
        with suppress(BrokenPipeError):  # custodian ended the one who asked
            self.wfile.write(answered)


def main(path: str) -> None:
    potential()
    with socketserver.UnixStreamServer(path, _Handler) as server:
        Path(f"{path}.ready").touch()
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
