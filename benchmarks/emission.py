"""VASP job inputs a CPU second: our job folders and tar shards beside pymatgen's `MPRelaxSet.write_input`.

    python benchmarks/emission.py [--quick]

Crystals of the embedded snapshot, one thread, to a temporary folder. Before the clock starts, INCAR, POSCAR and
POTCAR.spec are compared: ours are pymatgen's. A job of ours is more than its inputs: digest, job.json, README.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from pymatgen.io.vasp.sets import MPRelaxSet

from dft.config import DftConfig
from dft.engines import make_engine
from dft.jobs.engine import job_files
from dft.jobs.folders import Job, JobFolders
from dft.tables import job_digest, protocol_json
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import embedded_entries


def write_ours(crystals: list[Crystal], folders: JobFolders, packed: bool = False) -> None:
    engine = make_engine("vasp", DftConfig())
    protocol = protocol_json(engine.protocol)
    jobs = [Job(job_digest(crystal, protocol), crystal, "vasp", protocol) for crystal in crystals]
    files = {job.id: job_files(job, engine) for job in jobs}
    made = folders.pack("all", files) if packed else folders.emit(files)
    assert made == len(crystals)


def write_pymatgen(crystals: list[Crystal], folder: Path) -> None:
    for number, crystal in enumerate(crystals):
        MPRelaxSet(to_structure(crystal)).write_input(str(folder / str(number)), potcar_spec=True)


def check(crystals: list[Crystal], folder: Path) -> None:
    """Raises AssertionError where a file of ours is not pymatgen's; meshes may differ, GNoME's are its own."""
    write_pymatgen(crystals, folder / "theirs")
    engine = make_engine("vasp", DftConfig())
    for number, crystal in enumerate(crystals):
        ours = engine.inputs(crystal)
        for name in ("INCAR", "POSCAR", "POTCAR.spec"):
            theirs = (folder / "theirs" / str(number) / name).read_bytes()
            assert ours[f"relax1/{name}"].split() == theirs.split(), (number, name)


def rate(crystals: list[Crystal], write) -> float:
    """Jobs a CPU second, the best of three."""
    best = 0.0
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            write(Path(folder))
            best = max(best, len(crystals) / (time.process_time() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the crystals, under a minute")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore")
    entries = embedded_entries()
    crystals = crystals_from_batch(entries.take(np.linspace(0, len(entries) - 1, 258 if quick else 1032).astype(int)))
    with tempfile.TemporaryDirectory() as folder:
        check(crystals[:100], Path(folder))
    theirs = rate(crystals, lambda folder: write_pymatgen(crystals, folder))
    ours = rate(crystals, lambda folder: write_ours(crystals, JobFolders(folder)))
    packed = rate(crystals, lambda folder: write_ours(crystals, JobFolders(folder), packed=True))
    print(
        f"{len(crystals)} crystals: pymatgen {theirs:.0f}, job folders {ours:.0f}, tar shards {packed:.0f} a CPU second"
    )
    ratios = {"folders": round(ours / theirs, 2), "tar": round(packed / theirs, 2)}
    rates = {"pymatgen": round(theirs), "folders": round(ours), "tar": round(packed)}
    print(json.dumps({"benchmark": "emission", "against": "pymatgen", "ratios": ratios, "per_cpu_second": rates}))


if __name__ == "__main__":
    main()
