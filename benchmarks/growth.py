"""Rounds that add up: CPU seconds of the commands that read a whole store, as it grows to fifty rounds.

    python benchmarks/growth.py [--rounds 50] [--quick] [--store DIR]

A store of some two hundred crystals goes round with eight evaluations each time; after a fifth of the rounds, two
fifths and so on `gnome report`, `round status`, `show`, `top`, `export` and `verify` run on it, each in its own
process; with --quick the first two alone, after one round. Exponents are those of CPU seconds between the first and
the last of these sizes, less what the command takes before there is a round. A store of --store is kept, and a rerun
goes on with it. Ends with a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pipeline import cpu_seconds

from gnome_core.crystals.readers import embedded_entries
from pipelines.store.store import Store

GNOME = (sys.executable, "-m", "pipelines.cli.app")
COMMANDS = {
    "report": ("report",),
    "status": ("round", "status"),
    "show": ("show",),
    "top": ("top",),
    "export": ("export",),
    "verify": ("verify",),
}
ELEMENTS = {"Li", "Mg", "Al", "Ti", "Cu", "Zn", "O"}
SETTINGS = """
[generation]
max_recipes_per_parent = 8
max_sites = 6
[model]
width = 8
steps = 1
[scoring]
members = 2
max_candidates = 200
[scoring.cascade]
refine = 24
[selection]
budget = 6
random_baseline = 2
threshold = 0.5
[evaluation]
max_steps = 12
fmax = 0.3
[training]
first = "scratch"
epochs = 2
fine_tune_epochs = 1
"""


def run(*arguments: str) -> float:
    """CPU seconds of one command, its start included."""
    before = cpu_seconds()
    subprocess.run([*GNOME, *arguments], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return cpu_seconds() - before


def make_store(folder: Path, store: Path) -> None:
    entries = embedded_entries(ELEMENTS).sort_by("id")
    small = pc.less_equal(pc.list_value_length(entries["numbers"]), 6)
    pq.write_table(entries.filter(small), folder / "snapshot.parquet")
    (folder / "round.toml").write_text(SETTINGS)
    run("init", str(store), "--snapshot", str(folder / "snapshot.parquet"), "--config", str(folder / "round.toml"))


def measure(store: Path, names: list[str]) -> dict[str, float]:
    return {name: round(run(*COMMANDS[name], str(store)), 2) for name in names}


def exponent(empty: float, small: float, large: float, factor: float) -> float:
    """Of growth by `factor` from CPU seconds `small` to `large`, less what an empty store takes."""
    return round(math.log(max(large - empty, 0.01) / max(small - empty, 0.01)) / math.log(factor), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="one round, under a minute")
    parser.add_argument("--store", type=Path, help="store that is kept")
    arguments = parser.parse_args()
    names = ["report", "status"] if arguments.quick else list(COMMANDS)
    sizes = [1] if arguments.quick else sorted({max(1, arguments.rounds * k // 5) for k in range(1, 6)})
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        store = arguments.store or Path(folder, "store")
        kept = Path(f"{store}.json")
        found: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
        if not found:
            make_store(Path(folder), store)
            found["0"] = measure(store, names)
        for size in sizes:
            rounds = Store(str(store)).rounds()[-1]
            if rounds < size:
                run("round", "run", str(store), "--rounds", str(size - rounds))
            if str(size) not in found and rounds <= size:  # a kept store may be beyond it
                found[str(size)] = measure(store, names)
                kept.write_text(json.dumps(found))
            if str(size) in found:
                print(f"{size:3} rounds:", found[str(size)], flush=True)
    measured = sorted(int(size) for size in found if size != "0")
    first, last, grown = str(measured[0]), str(measured[-1]), measured[-1] / measured[0]
    exponents = {
        name: exponent(found["0"][name], found[first][name], found[last][name], grown) for name in names if grown > 1
    }
    print(json.dumps({"benchmark": "growth", "cpu_s": found, "exponents": exponents}))


if __name__ == "__main__":
    main()
