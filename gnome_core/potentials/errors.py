"""How far a potential is from labels."""

from __future__ import annotations

import numpy as np

from gnome_core.potentials.frames import LabelledFrames
from gnome_core.potentials.potential import Potential
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_GPA


def potential_errors(potential: Potential, frames: LabelledFrames, batch: int = 64) -> dict[str, float]:
    """energy_mae, energy_rmse (meV/atom); force_* (meV/Å by component); stress_* (GPa by component, where known).

    force_slope: of the predicted force components over the labels', through the origin: below 1 the potential is too
    soft (Deng et al., npj Comput. Mater. 11, 9, 2025); left out where all labels are zero.
    energy_centred_rmse: meV/atom once each element's mean offset is taken out, for labels with another energy zero.
    """
    answers = []
    for start in range(0, len(frames), batch):
        answers += potential.evaluate(frames.crystals[start : start + batch])
    n_atoms = np.array([c.n_sites for c in frames.crystals])
    energy = 1e3 * (np.array([a.energy for a in answers]) - frames.energies) / n_atoms
    force = 1e3 * np.concatenate([(a.forces - f).ravel() for a, f in zip(answers, frames.forces, strict=True)])
    true = np.concatenate([f.ravel() for f in frames.forces])
    stress = EV_PER_CUBIC_ANGSTROM_IN_GPA * (np.array([a.stress for a in answers]) - frames.stresses)
    elements = np.array(frames.elements)
    shares = np.array([(c.numbers[:, None] == elements).mean(0) for c in frames.crystals])
    offsets, *_ = np.linalg.lstsq(shares, energy, rcond=1e-8)
    row = {"energy_centred_rmse": _rms(energy - shares @ offsets)}
    if true.any():
        row["force_slope"] = 1 + 1e-3 * float(force @ true) / float(true @ true)
    for name, errors in (("energy", energy), ("force", force), ("stress", stress[np.isfinite(stress)])):
        if len(errors):
            row |= {f"{name}_mae": float(np.abs(errors).mean()), f"{name}_rmse": _rms(errors)}
    return row


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.square(errors).mean()))
