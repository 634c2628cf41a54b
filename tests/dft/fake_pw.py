"""A pw.x that answers at once with what a real run of MgO left: for tests of everything around the program."""

from __future__ import annotations

from pathlib import Path

MGO_RUN = Path(__file__).parent / "outputs" / "mgo"  # vc-relax from 4.30 Å, 6x6x6 points, by pw.x 6.7

SCRIPT = """\
#!/bin/sh
n=$(cat calls 2>/dev/null || echo 0); n=$((n + 1)); echo $n > calls; cp pw.in pw.$n.given
sleep {seconds}
mkdir -p pw.save; gunzip -c {run}/pw.xml.gz > pw.save/data-file-schema.xml
gunzip -c {run}/pw.out.gz
[ $n -gt {failures} ] || echo " convergence NOT achieved after 100 iterations: stopping"
"""


def write_program(folder: Path, failures: int = 0, seconds: float = 0) -> Path:
    """pw.x in the folder, and beside it files that pass for pseudopotentials of Mg and O.

    failures: starts in a folder that do not reach self-consistency. seconds: how long every start takes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "pw.x"
    program.write_text(SCRIPT.format(run=MGO_RUN, failures=failures, seconds=seconds))
    program.chmod(0o755)
    for symbol, valence in (("Mg", 10), ("O", 6)):
        (folder / f"{symbol}.upf").write_text(f'<PP_HEADER z_valence="  {valence}.00">')
    return program
