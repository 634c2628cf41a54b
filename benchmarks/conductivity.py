"""A superionic conductor and an insulator told apart: python benchmarks/conductivity.py [--quick] [--plot FILE.svg]

Molecular dynamics at 1,000 K with the shipped potential of two crystals of the embedded snapshot: 2 ps of ramp from
300 K and 20 ps, of which the first 3 ps are left out; then the conductivity by pymatgen's DiffusionAnalyzer, and the
threshold of 10^1.18 mS/cm. Runs checkpoint and go on where they were. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from gnome_core.analysis.diffusion import SUPERIONIC, TooShort, diffusion
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import embedded_entries
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.md import Trajectory, run_md
from gnome_core.potentials.md_config import MDConfig
from gnome_core.potentials.memory import keep_freed_memory
from gnome_core.potentials.nequip_potential import TrainedPotential
from pipelines.beam.environment import set_up
from pipelines.potentials.trajectories import read_trajectory, write_trajectory

# id in the snapshot, mobile ion, what it is known for
MATERIALS = {
    "Li2S": ("mp-1153", "Li", "conductor"),
    "MgS": ("mp-1315", "Mg", "insulator"),
}
RUN = MDConfig(ramp=2.0, duration=20.0, min_length=9.0)
SKIP = 5.0  # ps: the ramp and the first 3 ps after it


def crystal_of(id_: str) -> Crystal:
    entries = embedded_entries()
    return crystals_from_batch(entries.slice(entries["id"].to_pylist().index(id_), 1))[0]


def trajectory_of(name: str, potential: TrainedPotential, config: MDConfig, out: Path) -> Trajectory:
    path = out / f"{name}.parquet"
    if path.exists():
        return read_trajectory(path)
    trajectory = run_md(
        crystal_of(MATERIALS[name][0]), potential, config, checkpoint=out / f"{name}.npz",
        progress=lambda n, total: print(f"\r{name}: {n} of {total} steps", end="", flush=True),
    )  # fmt: skip
    print("\r" + " " * 40, end="\r")
    write_trajectory(trajectory, path)
    return trajectory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="0.4 ps: shows the speed, classifies nothing")
    parser.add_argument("--out", type=Path, default=Path("results/conductivity"), help="folder of trajectories")
    parser.add_argument("--potential", default="pretrained", help="pretrained | FILE.npz")
    parser.add_argument("--plot", type=Path, help="write the mean square displacements here (.svg)")
    arguments = parser.parse_args()
    set_up(verbose=False)
    keep_freed_memory()
    out = arguments.out / "quick" if arguments.quick else arguments.out
    config = RUN.model_copy(update={"ramp": 0.2, "duration": 0.2}) if arguments.quick else RUN
    potential = make_potential(arguments.potential)
    assert isinstance(potential, TrainedPotential)
    rows = {}
    print(f"{'':6}{'known as':11}{'atoms':>6}{'ms a step':>11}{'mean K':>8}{'mS/cm':>9}{'framework, Å²':>15}  verdict")
    results = {}
    for name, (_, ion, known) in MATERIALS.items():
        start, fresh = time.perf_counter(), not (out / f"{name}.parquet").exists()
        run = trajectory_of(name, potential, config, out)
        ms = 1e3 * (time.perf_counter() - start) / config.n_steps if fresh else float("nan")
        kelvin = run.temperatures[run.times >= min(SKIP, run.times[-1] / 2)].mean()
        try:
            found = diffusion(run.crystal, run.positions, run.times, ion, 1000.0, 0.0 if arguments.quick else SKIP)
            verdict = run.stopped or ("superionic" if found.superionic else "not superionic")
            values = f"{found.conductivity:9.3g}{found.framework_msd:15.2f}"
            results[name] = found
            rows[name] = [known, verdict, round(found.conductivity, 2)]
        except TooShort:
            values, verdict = f"{'-':>9}{'-':>15}", "too short a run"
            rows[name] = [known, verdict, None]
        print(f"{name:6}{known:11}{run.crystal.n_sites:6}{ms:11.1f}{kelvin:8.0f}{values}  {verdict}")
    print(f"superionic: above {SUPERIONIC:.2f} mS/cm at 1,000 K")
    if arguments.plot:
        plot(results, arguments.plot)
    print(json.dumps({"benchmark": "conductivity", "quick": arguments.quick, "materials": rows}))


def plot(results: dict, path: Path) -> None:
    """Mean square displacements of the mobile ions over the lag."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 3.4))
    for name, found in results.items():
        axis.plot(found.lags, found.msd, label=f"{found.ion} in {name}: {found.conductivity:.3g} mS/cm")
    axis.set(xlabel="lag, ps", ylabel="mean square displacement, Å²", title="1,000 K")
    axis.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    main()
