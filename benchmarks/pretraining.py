"""Synthetic pre-training on silicon: python benchmarks/pretraining.py [--quick] [--sizes 25 ...] [--plot FILE.svg]

After Gardner et al., arXiv:2307.15714. Pre-trains one small network on structures that a cheap teacher labels, then
fine-tunes all its weights on few DFT structures of mlearn's silicon; beside it, direct training on the same structures.
Teachers: CHGNet 0.3.0, Stillinger-Weber, CHGNet on germanium, whose
structures are scaled to silicon's distances (alchemical transfer), and CHGNet followed by mlearn's DFT
frames of germanium, scaled. Sizes beyond the smallest are for the first teacher alone. Test and choice: a tenth each of
the official training split, never trained on. Every finished run is kept; call again to go on. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import cache
from pathlib import Path

import numpy as np
from datasets import mlearn, three_way

from gnome_core.crystals.crystal import Crystal
from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.errors import potential_errors
from gnome_core.potentials.frames import LabelledFrames, frames_without_stress
from gnome_core.potentials.memory import keep_freed_memory
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.potentials.potential import Potential
from gnome_core.potentials.sampling import distorted
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from pipelines.beam.environment import set_up

MODEL = NequIPConfig(
    layers=2,
    hidden_irreps="32x0e+32x1o+16x2e",
    edge_irreps="0e+1o+2e",
    cutoff=5.0,
    switch_width=1.0,
    radial_width=32,
    elements=(14,),
)
HUBER_DELTA = 1.0  # melts have large errors that count; direct training gains by it (choice frames)
PRETRAIN = PotentialTrainingConfig(
    epochs=14,
    batch_size=4,
    learning_rate=1e-2,
    energy_weight=5.0,
    huber_delta=HUBER_DELTA,
    ema_decay=0.995,
    validate_every=2,
    checkpoint_every=2,
)
GERMANIUM_STAGE = PRETRAIN.model_copy(update={"epochs": 60, "ema_decay": 0.99, "validate_every": 5})
SEEDS = {25: 5, 50: 3, 100: 3, 170: 2}  # by number of DFT structures
SIZES = tuple(SEEDS)
STEPS = 1500  # at least, of fine-tuning and of direct training alike
PASSES = 40  # at least, over the DFT structures
BATCH = 2
RATE = 1e-2  # of both too: chosen on the choice frames at 25 structures
SOURCES = ("chgnet", "stillinger-weber", "alchemical", "chgnet-germanium")
CURVE = "chgnet"  # the teacher of all sizes
SILICON, GERMANIUM = 14, 32
LATTICE = {SILICON: 5.43, GERMANIUM: 5.66}  # Å, experiment
BOND = {z: a * 3**0.5 / 4 for z, a in LATTICE.items()}  # shortest distances, Å


def diamond(number: int, repeats: int) -> Crystal:
    """Cubic diamond cells, 8 atoms each."""
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    sites = np.concatenate([fcc, fcc + 0.25])
    cells = np.indices((repeats,) * 3).reshape(3, -1).T
    frac = (sites[None] + cells[:, None]).reshape(-1, 3) / repeats
    return Crystal(LATTICE[number] * repeats * np.eye(3), frac, np.full(len(frac), number, np.uint8))


@cache
def synthetic_structures(quick: bool) -> list[Crystal]:
    """Stillinger-Weber dynamics at 300 to 3,700 K, with and without a vacancy, and strained small cells."""
    from ase import units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    from gnome_core.crystals.convert import from_atoms, to_atoms
    from gnome_core.potentials.ase_calculator import PotentialCalculator
    from gnome_core.potentials.stillinger_weber import StillingerWeber

    rng = np.random.default_rng(0)
    structures = [distorted(diamond(SILICON, 1), rng, 0.2, 0.08) for _ in range(20 if quick else 100)]
    # Errors are largest in melts, hence their share and the densities: liquid silicon is denser than the crystal.
    temperatures = [300, 3000] if quick else [300, 600, 1000, 1700, 2000, 2500, 2500, 3000, 3000, 3400, 3400, 3700]
    for i, kelvin in enumerate(temperatures):
        for j in range(2 if quick else 4):
            cell = diamond(SILICON, 1 if quick else 2)
            cell = cell.scaled_to_volume(cell.volume * rng.uniform(0.86 if kelvin >= 2000 else 0.93, 1.08))
            atoms = to_atoms(cell)
            if j % 2:  # a vacancy
                del atoms[0]
            atoms.calc = PotentialCalculator(StillingerWeber())
            generator = np.random.RandomState(100 * i + j)  # what ASE takes
            MaxwellBoltzmannDistribution(atoms, temperature_K=2 * kelvin, rng=generator)
            run = Langevin(
                atoms, 2 * units.fs, temperature_K=kelvin, friction=0.02 / units.fs, rng=generator, fixcm=False
            )
            run.run(50 if quick else 300)
            for _ in range(5 if quick else 40):
                run.run(20 if quick else 40)
                structures.append(from_atoms(atoms))
    return structures


def labelled_by(source: str, structures: list[Crystal]) -> LabelledFrames:
    """The structures under a teacher's labels."""
    if source == "alchemical":
        ratio = BOND[GERMANIUM] / BOND[SILICON]
        germanium = [Crystal(c.lattice * ratio, c.frac_coords, np.full(c.n_sites, GERMANIUM)) for c in structures]
        return germanium_as_silicon(_label(make_potential("chgnet"), germanium))
    return _label(make_potential(source), structures)


def germanium_as_silicon(frames: LabelledFrames) -> LabelledFrames:
    """Lengths go to silicon's, energies stay, and forces grow by as much as lengths shrink."""
    ratio = BOND[GERMANIUM] / BOND[SILICON]
    silicon = [Crystal(c.lattice / ratio, c.frac_coords, np.full(c.n_sites, SILICON)) for c in frames.crystals]
    return frames_without_stress(silicon, frames.energies, [f * ratio for f in frames.forces], "alchemical")


def _label(teacher: Potential, structures: list[Crystal]) -> LabelledFrames:
    answers = []
    for start in range(0, len(structures), 16):
        answers += teacher.evaluate(structures[start : start + 16])
    return frames_without_stress(
        structures, np.array([a.energy for a in answers]), [a.forces for a in answers], teacher.scale
    )


def pretrained(source: str, out: Path, quick: bool) -> Path:
    """The network pre-trained on one teacher; made where it is not there yet."""
    path = out / f"pretrained-{source}.npz"
    if path.exists():
        return path
    if source == "chgnet-germanium":
        start, training = pretrained("chgnet", out, quick), GERMANIUM_STAGE
        frames, labels = germanium_as_silicon(mlearn("Ge")), "DFT of germanium, scaled, after CHGNet"
    else:
        start, training = None, PRETRAIN.model_copy(update={"epochs": 4}) if quick else PRETRAIN
        frames, labels = labelled_by(source, synthetic_structures(quick)), source
        # A melt can come closer than any teacher is made for; such labels teach nothing.
        frames = frames.take(np.array([np.abs(f).max() < 30 for f in frames.forces]))
    is_train = np.random.default_rng(0).random(len(frames)) > 0.05
    train_potential(
        frames, is_train, seed=0, out_dir=out, name=path.stem, model=None if start else MODEL, training=training,
        init_from=start, origin=f"{len(frames)} silicon structures labelled by {labels}", progress=_show(path.stem),
    )  # fmt: skip
    return path


def run(kind: str, size: int, seed: int, out: Path, quick: bool) -> dict:
    """One fine-tuning or direct training, and its errors on the test frames."""
    path = out / "runs" / f"{kind}-{size}-{seed}.errors.json"
    if path.exists():
        return json.loads(path.read_text())
    frames = mlearn("Si")
    pool, chosen, test = three_way(len(frames))
    subset = np.random.default_rng(seed).permutation(pool)[:size]
    steps = 60 if quick else STEPS
    epochs = max(1 if quick else PASSES, round(steps * BATCH / size))
    training = PotentialTrainingConfig(
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        energy_weight=5.0,
        huber_delta=HUBER_DELTA,
        ema_decay=0.99,
        checkpoint_every=10_000,
    )
    start = time.process_time()
    result = train_potential(
        frames.take(subset), np.ones(size, bool), seed=seed, out_dir=out / "runs", name=f"{kind}-{size}-{seed}",
        model=MODEL if kind == "direct" else None, training=training,
        init_from=None if kind == "direct" else pretrained(kind, out, quick), progress=_show(f"{kind} {size} {seed}"),
    )  # fmt: skip
    potential = TrainedPotential.load(result.path)
    row = {"kind": kind, "size": size, "seed": seed, "cpu_s": round(time.process_time() - start)}
    row["test"] = potential_errors(potential, frames.take(test))
    row["choice"] = potential_errors(potential, frames.take(chosen))
    path.write_text(json.dumps(row))
    return row


def zero_shot(source: str, out: Path, quick: bool) -> dict:
    """Errors of the pre-trained network on the test frames, before it sees any DFT; energies up to a constant."""
    frames = mlearn("Si")
    _, _, test = three_way(len(frames))
    return potential_errors(TrainedPotential.load(pretrained(source, out, quick)), frames.take(test))


def _show(label: str):
    return lambda row: print(f"\r{label}: epoch {row['epoch']:.0f}   ", end="", flush=True)


def summary(rows: list[dict]) -> dict[tuple[str, int], dict[str, tuple[float, float]]]:
    """{(kind, size): {"force", "energy": (mean, deviation over seeds)}} of the test RMSE, meV/Å and meV/atom."""
    groups: dict[tuple[str, int], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["size"]), []).append(row["test"])
    return {
        key: {
            name: (float(np.mean(values)), float(np.std(values)))
            for name in ("force", "energy")
            if (values := [test[f"{name}_rmse"] for test in tests])
        }
        for key, tests in groups.items()
    }


def plot(table: dict, path: Path) -> None:
    """Learning curves of both errors."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for axis, name, unit in zip(axes, ("force", "energy"), ("meV/Å", "meV/atom"), strict=True):
        for i, kind in enumerate(dict.fromkeys(kind for kind, _ in table)):
            sizes = sorted(size for k, size in table if k == kind)
            mean, deviation = np.array([table[kind, size][name] for size in sizes]).T
            beside = np.array(sizes) * 1.03**i  # bars of one size do not hide each other
            axis.errorbar(beside, mean, deviation, label=kind, marker="o", capsize=3)
        axis.set(xscale="log", ylim=(0, None), xlabel="DFT structures", ylabel=f"{name} RMSE, {unit}")
        axis.set_xticks(SIZES, [str(size) for size in SIZES])
        axis.minorticks_off()
    axes[0].legend(loc="lower left")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one teacher, one size, one seed, few steps")
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=SIZES, help="DFT structures")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES, help="teachers")
    parser.add_argument("--out", type=Path, default=Path("results/pretraining"), help="folder of potentials and runs")
    parser.add_argument("--plot", type=Path, help="write the learning curves here (.svg)")
    arguments = parser.parse_args()
    set_up(verbose=False)
    keep_freed_memory()
    out = arguments.out / "quick" if arguments.quick else arguments.out
    (out / "runs").mkdir(parents=True, exist_ok=True)
    sources, sizes = (SOURCES[1:2], SIZES[:1]) if arguments.quick else (arguments.sources, sorted(arguments.sizes))
    kinds = ("direct", *sources)
    # All kinds at the smallest size first: an interrupted study has its main result.
    rows = [
        run(kind, size, seed, out, arguments.quick)
        for size in sizes
        for seed in range(1 if arguments.quick else SEEDS[size])
        for kind in kinds
        if size == sizes[0] or kind in ("direct", CURVE)
    ]
    print("\r" + " " * 40)
    table = summary(rows)
    print(f"{'':18}{'DFT structures':>15}{'force RMSE, meV/Å':>22}{'energy RMSE, meV/atom':>24}")
    for source in sources:
        errors = zero_shot(source, out, arguments.quick)
        print(f"{source:18}{0:15}{errors['force_rmse']:16.1f}{'':6}{errors['energy_centred_rmse']:16.2f} (centred)")
    for (kind, size), errors in sorted(table.items(), key=lambda item: (item[0][1], kinds.index(item[0][0]))):
        (force, d_force), (energy, d_energy) = errors["force"], errors["energy"]
        print(f"{kind:18}{size:15}{force:16.1f} ± {d_force:<5.1f}{energy:14.2f} ± {d_energy:<5.2f}")
    direct = table["direct", sizes[0]]
    gains = {
        source: {name: round(1 - table[source, sizes[0]][name][0] / direct[name][0], 3) for name in ("force", "energy")}
        for source in sources
    }
    print(f"below direct training at {sizes[0]} structures: " + json.dumps(gains))
    if arguments.plot:
        plot(table, arguments.plot)
    print(json.dumps({"benchmark": "pretraining", "quick": arguments.quick, "gains": gains}))


if __name__ == "__main__":
    main()
