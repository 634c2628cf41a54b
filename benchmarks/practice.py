"""Practices of foundation models, each measured once: python benchmarks/practice.py [--quick]

On silicon, with the network, teachers and frames of benchmarks/pretraining.py, whose finished runs it reuses:
disagreement of a committee as a measure of force errors; training on two levels of theory with and without a tag;
pre-training by denoising; distillation into a smaller network with and without Hessian rows. Call again to go on after
an interruption. The last line is JSON. (Yuan et al., "Foundation models for atomistic simulation", 2025, names them.)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pretraining as study
from datasets import mlearn, three_way
from scipy.stats import spearmanr

from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.committee import Committee
from gnome_core.potentials.distillation import with_hessian_rows
from gnome_core.potentials.errors import potential_errors
from gnome_core.potentials.files import load_potential
from gnome_core.potentials.frames import LabelledFrames, frames_without_stress, with_levels
from gnome_core.potentials.memory import keep_freed_memory
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.potentials.sampling import denoising_frames, distorted
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from pipelines.beam.environment import set_up

SMALL = study.MODEL.model_copy(update={"layers": 1, "hidden_irreps": "16x0e+8x1o"})


def test_frames() -> LabelledFrames:
    frames = mlearn("Si")
    return frames.take(three_way(len(frames))[2])


def dft_frames(size: int, seed: int) -> LabelledFrames:
    """The same frames as pretraining.py trains on."""
    frames = mlearn("Si")
    pool, _, _ = three_way(len(frames))
    return frames.take(np.random.default_rng(seed).permutation(pool)[:size])


def trained(
    name: str, frames: LabelledFrames, model: NequIPConfig | None, training: PotentialTrainingConfig, seed: int,
    out: Path, init_from: Path | None = None,
) -> TrainedPotential:  # fmt: skip
    """Train once; later calls read the file."""
    path = out / f"{name}.npz"
    if not path.exists():
        is_train = np.ones(len(frames), bool)
        train_potential(
            frames, is_train, seed=seed, out_dir=out, name=name, model=model, training=training, init_from=init_from,
            progress=lambda row: print(f"\r{name}: epoch {row['epoch']:.0f}   ", end="", flush=True),
        )  # fmt: skip
    return TrainedPotential.load(path)


def committee(out: Path, quick: bool) -> dict:
    """Five directly trained networks: does their spread tell where forces are wrong?"""
    size, members = (25, 2) if quick else (100, 5)
    for seed in range(members):
        study.run("direct", size, seed, out, quick)
    potentials = [TrainedPotential.load(out / "runs" / f"direct-{size}-{seed}.npz") for seed in range(members)]
    frames = test_frames()
    answers = Committee(potentials).evaluate_with_spread(frames.crystals)
    spread = np.concatenate([s for _, s in answers])
    error = np.concatenate(
        [np.linalg.norm(a.forces - f, axis=1) for (a, _), f in zip(answers, frames.forces, strict=True)]
    )
    order = np.argsort(spread)
    quarters = [float(error[part].mean()) for part in np.array_split(order, 4)]
    single = np.mean([potential_errors(p, frames)["force_rmse"] for p in potentials])
    together = potential_errors(Committee(potentials), frames)["force_rmse"]
    correlation = float(spearmanr(spread, error).statistic)
    print(f"committee of {members}: rank correlation of spread and error {correlation:.2f}")
    print("  mean force error by quarter of spread, eV/Å: " + "  ".join(f"{q:.3f}" for q in quarters))
    print(f"  force RMSE, meV/Å: one member {single:.0f}, their mean {together:.0f}")
    return {"rank_correlation": round(correlation, 3), "quarters": [round(q, 4) for q in quarters]}


def levels(out: Path, quick: bool) -> dict:
    """25 DFT frames trained together with CHGNet's labels, with a tag, without one, and alone."""
    structures = study.synthetic_structures(quick)[:: 1 if quick else 2]
    teacher = study.labelled_by("stillinger-weber" if quick else "chgnet", structures)
    teacher = teacher.take(np.array([np.abs(f).max() < 30 for f in teacher.forces]))
    rows = {}
    for seed in range(1 if quick else 2):
        dft = dft_frames(25, seed)
        repeated = dft.take(np.repeat(np.arange(25), max(1, len(teacher) // 100)))  # about a fifth of the mixture
        both = with_levels([repeated, teacher])
        untagged = frames_without_stress(both.crystals, _without_zero(both), both.forces, both.scale)
        training = study.PRETRAIN.model_copy(update={"epochs": 2 if quick else 30})
        tagged_model = study.MODEL.model_copy(update={"levels": 2})
        for name, frames, model in (("tag", both, tagged_model), ("no tag", untagged, study.MODEL)):
            potential = trained(f"levels-{name.replace(' ', '-')}-{seed}", frames, model, training, seed, out)
            rows.setdefault(name, []).append(potential_errors(potential, test_frames()))
        rows.setdefault("direct", []).append(study.run("direct", 25, seed, out, quick)["test"])
    return _table("25 DFT frames beside a teacher's", rows)


def _without_zero(frames: LabelledFrames) -> np.ndarray:
    """Energies with each level's mean per atom taken out: what mixing levels without a tag needs at least."""
    n_atoms = np.array([c.n_sites for c in frames.crystals])
    mean = [np.mean((frames.energies / n_atoms)[frames.level == i]) for i in np.unique(frames.level)]
    return frames.energies - n_atoms * np.array(mean)[frames.level]


def denoising(out: Path, quick: bool) -> dict:
    """Pre-training on rattled crystals without a teacher, then 25 DFT frames; beside direct training."""
    rng = np.random.default_rng(0)
    crystals = [distorted(study.diamond(study.SILICON, 2), rng, 0.0, 0.05) for _ in range(4 if quick else 60)]
    frames = denoising_frames(crystals, 5, 0.4, stiffness=5.0)
    training = study.PRETRAIN.model_copy(update={"epochs": 2 if quick else 20})
    trained("pretrained-denoising", frames, study.MODEL, training, 0, out)
    rows: dict[str, list] = {}
    for seed in range(1 if quick else 3):
        for kind in ("direct", "denoising"):
            rows.setdefault(kind, []).append(study.run(kind, 25, seed, out, quick)["test"])
    return _table("25 DFT frames after denoising", rows)


def distillation(out: Path, quick: bool) -> dict:
    """A network of 1 layer learns from one of 2 on few structures, with and without Hessian rows."""
    study.run("direct", 25 if quick else 170, 0, out, quick)
    teacher = TrainedPotential.load(out / "runs" / f"direct-{25 if quick else 170}-0.npz")
    structures = study.synthetic_structures(quick)
    order = np.random.default_rng(0).permutation(len(structures))
    n = 10 if quick else 60
    empty = [np.zeros((c.n_sites, 3)) for c in structures]
    frames = frames_without_stress(structures, np.zeros(len(structures)), empty, "none")
    learn, unseen = (with_hessian_rows(frames.take(part), teacher) for part in (order[:n], order[n : n + 40]))
    rows: dict[str, list] = {}
    for name, weight in (("energies, forces", 0.0), ("and Hessian rows", 0.2)):
        training = PotentialTrainingConfig(
            epochs=3 if quick else 120, batch_size=2, learning_rate=1e-2, energy_weight=5.0, hessian_weight=weight
        )
        label = name.replace(", ", "-").replace(" ", "-")
        student = trained(f"student-{label}", learn, SMALL, training, 0, out)
        rows.setdefault(name, []).append(potential_errors(student, unseen))
    sizes = [sum(x.size for x in _leaves(load_potential(p)[0])) for p in (out / "student-and-Hessian-rows.npz",)]
    print(f"students have {sizes[0]:,} parameters, the teacher {sum(x.size for x in _leaves(teacher.variables)):,}")
    return _table(f"students of {n} frames against their teacher", rows)


def _leaves(tree: dict) -> list:
    import jax

    return jax.tree.leaves(tree)


def _table(title: str, rows: dict[str, list]) -> dict:
    print(f"{title:36}{'force RMSE, meV/Å':>20}{'energy RMSE, meV/atom':>24}")
    found = {}
    for name, errors in rows.items():
        force, energy = (np.array([e[f"{key}_rmse"] for e in errors]) for key in ("force", "energy_centred"))
        print(f"  {name:34}{force.mean():14.1f} ± {force.std():<4.1f}{energy.mean():16.2f} ± {energy.std():<4.2f}")
        found[name] = [round(float(force.mean()), 1), round(float(energy.mean()), 2)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few frames and steps: shows that it runs, no more")
    parser.add_argument("--out", type=Path, default=Path("results/pretraining"), help="folder of pretraining.py's runs")
    arguments = parser.parse_args()
    set_up(verbose=False)
    keep_freed_memory()
    out = arguments.out / "quick" if arguments.quick else arguments.out
    (out / "runs").mkdir(parents=True, exist_ok=True)
    studies = (committee, denoising, distillation, levels)
    found = {f.__name__: f(out, arguments.quick) for f in studies}
    print(json.dumps({"benchmark": "practice", "quick": arguments.quick, **found}))


if __name__ == "__main__":
    main()
