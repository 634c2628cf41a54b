"""Every benchmark that compares, one after another: what each of them measured, and the CPU time that it took.

    python benchmarks/table.py [--quick] [--only NAME ...] [-o FILE.json]

Prints a Markdown table with a row a figure: benchmark, the figure's name in its JSON line, its value. Scripts are run
in processes of their own on one thread; those whose data are not at hand (see `datasets.py`) say so in their row. Those
that take hours in full (accuracy, campaign, made and so on) run with --only or --quick alone. Ends with a line of JSON,
the scripts' own lines in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from datasets import data_file
from pipeline import cpu_seconds

HERE = Path(__file__).parent
# Script -> files that it is given, names of public sets.
COMPARING = {
    "clustering": (),
    "emission": (),
    "evaluator": (),
    "filter": (),
    "funnel": ("mp_structures",),
    "generate_stage": ("mp_structures",),
    "generation": (),
    "growth": (),
    "hull": (),
    "job_ledger": (),
    "pipeline": ("mp_structures",),
    "potential": (),
    "relaxation": (),
}
LONG = {
    "accuracy": (),
    "campaign": (),
    "conductivity": (),
    "forces": (),
    "made": (),
    "practice": (),
    "pretraining": (),
    "rediscovery": ("mp_structures",),
    "robustness": (),
}


def run(name: str, sets: tuple[str, ...], quick: bool) -> dict:
    """The script's JSON line with `process_cpu_s`, or why there is none."""
    command = [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if quick else [])]
    try:
        command += [str(data_file(one)) for one in sets]
    except SystemExit as missing:
        return {"failed": str(missing)}
    before = cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    spent = {"process_cpu_s": round(cpu_seconds() - before, 1)}
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode or not last or not last[0].startswith("{"):
        return {"failed": (done.stderr.strip().splitlines() or ["it printed no JSON"])[-1], **spent}
    return {**json.loads(last[0]), **spent}


def figures(found: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, value) of every number and text in a JSON document."""
    if isinstance(found, dict | list):
        for key, value in found.items() if isinstance(found, dict) else enumerate(found):
            yield from figures(value, f"{prefix}{key}.")
    elif found is not None:
        yield prefix.rstrip("."), f"{found:,.4g}" if isinstance(found, float) else str(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="each under a minute, the long ones too")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[*COMPARING, *LONG])
    parser.add_argument("-o", "--output", type=Path, help="write the JSON line there too")
    arguments = parser.parse_args()
    chosen = {**COMPARING, **LONG} if arguments.quick or arguments.only else COMPARING
    found = {}
    print("| benchmark | figure | value |\n|---|---|---|", flush=True)
    for name, sets in chosen.items():
        if arguments.only and name not in arguments.only:
            continue
        found[name] = run(name, sets, arguments.quick)
        for figure, value in figures({key: value for key, value in found[name].items() if key != "benchmark"}):
            print(f"| {name} | {figure} | {value} |", flush=True)
    line = json.dumps({"benchmark": "table", "quick": arguments.quick, "found": found})
    if arguments.output:
        arguments.output.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
