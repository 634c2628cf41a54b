"""Force errors on the mlearn set beside published peers: python benchmarks/forces.py [--quick] [--elements Si Ge ...]

Trains the network of examples/mlearn.toml for each element and compares it with the published test errors (mlearn,
Zuo et al. 2020; JARVIS-Leaderboard). Only the official training splits are at hand: a tenth of each is held out for
testing and another tenth for choosing, so that we train on four fifths of what the peers trained on, and test on other
configurations of the same kinds than they did. An interrupted run goes on when called again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from datasets import mlearn, three_way

from gnome_core.potentials.errors import potential_errors
from gnome_core.potentials.memory import keep_freed_memory
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.training.potential.loop import train_potential
from pipelines.beam.environment import set_up
from pipelines.potentials.config import load_potential_config

# Best published model on the official test split, eV/Å (usnistgov/jarvis_leaderboard, docs/AI/MLFF/mlearn_*_forces.md;
# models pretrained on other data left out).
PEERS = {
    "Si": ("ALIGNN-FF", 0.069),
    "Ge": ("ALIGNN-FF", 0.072),
    "Cu": ("MatGL", 0.018),
    "Ni": ("SNAP", 0.062),
    "Li": ("SNAP", 0.027),
    "Mo": ("SNAP", 0.184),
}


def train_and_test(symbol: str, out: Path, quick: bool) -> dict:
    """Errors of the held-out tenth."""
    settings = load_potential_config(str(Path(__file__).resolve().parents[1] / "examples" / "mlearn.toml"))
    training, frames = settings.training, mlearn(symbol)
    if quick:
        frames = frames.take(np.arange(0, len(frames), 4))
        training = training.model_copy(update={"epochs": 4, "validate_every": 4})
    train, chosen, test = three_way(len(frames))
    used = frames.take(np.concatenate([train, chosen]))
    start = time.process_time()
    result = train_potential(
        used,
        np.arange(len(used)) < len(train),
        seed=settings.seed,
        out_dir=out,
        name=f"mlearn-{symbol}{'-quick' if quick else ''}",
        model=settings.network(used.elements),
        training=training,
        origin=f"mlearn {symbol}, official training split less {len(test)} test frames",
        progress=lambda row: print(f"\r{symbol} epoch {row['epoch']:.0f}", end="", flush=True),
    )
    seconds = time.process_time() - start
    errors = potential_errors(TrainedPotential.load(result.path), frames.take(test))
    return {"train": len(train), "test": len(test), "cpu_s": round(seconds), **errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one element, a quarter of its frames, 4 epochs")
    parser.add_argument("--elements", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--out", type=Path, default=Path("results/forces"), help="folder of potentials and checkpoints")
    arguments = parser.parse_args()
    set_up(verbose=False)
    keep_freed_memory()
    rows = {}
    for symbol in ["Si"] if arguments.quick else arguments.elements:
        done = arguments.out / f"{symbol}.json"
        if done.exists() and not arguments.quick:
            rows[symbol] = json.loads(done.read_text())
            continue
        rows[symbol] = train_and_test(symbol, arguments.out, arguments.quick)
        if not arguments.quick:
            done.write_text(json.dumps(rows[symbol]))
        print("\r", end="")
    print(f"{'':3}{'train':>6}{'test':>5}{'force MAE':>11}{'peer':>8}  {'':10}{'energy':>8}{'stress':>8}{'CPU s':>7}")
    print(f"{'':14}{'eV/Å':>11}{'eV/Å':>8}  {'':10}{'meV/at.':>8}{'GPa':>8}")
    won = 0
    for symbol, row in rows.items():
        name, peer = PEERS[symbol]
        force = row["force_mae"] / 1000
        won += force < peer
        print(
            f"{symbol:3}{row['train']:6}{row['test']:5}{force:11.4f}{peer:8.3f}  {name:10}"
            f"{row['energy_mae']:8.2f}{row.get('stress_mae', float('nan')):8.2f}{row['cpu_s']:7}"
        )
    print(f"below the best published peer for {won} of {len(rows)} elements, on other test frames than theirs")
    force = {symbol: round(row["force_mae"] / 1000, 4) for symbol, row in rows.items()}
    print(
        json.dumps(
            {"benchmark": "forces", "quick": arguments.quick, "below_peer": won, "force_mae_ev_per_angstrom": force}
        )
    )


if __name__ == "__main__":
    main()
