"""Handing jobs to Slurm: arrays whose tasks share the job folders."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dft.jobs.folders import Attempt, JobFolders
from gnome_core.errors import GnomeError
from gnome_core.files import write_file

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=gnome-{name}
#SBATCH --array=1-{tasks}
#SBATCH --output={folder}/%a.log
{header}
# Every task takes one waiting job after another until none is left; start it again whenever you like.
exec {command} --workers 1 --jobs-file {folder}/jobs.txt
"""


class SubmitError(GnomeError):
    """A queue that cannot be reached or refuses; nothing was submitted."""


def submit_slurm(
    folders: JobFolders,
    ids: Sequence[str],
    arguments: Sequence[str],
    tasks: int,
    header: str = "",
    dry_run: bool = False,
) -> str:
    """Write a job array that runs `gnome ARGUMENTS` on the jobs, and submit it unless `dry_run`; says what was done.

    header: #SBATCH lines and module loads of the site. Raises SubmitError where sbatch is missing or refuses.
    """
    if not str(folders.root).isprintable():
        raise SubmitError(f"{str(folders.root)!r} cannot stand in a script; give the store a path without line breaks")
    folder = folders.root / "slurm" / time.strftime("%Y%m%dT%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "jobs.txt", ("\n".join(ids) + "\n").encode())
    script = folder / "array.sh"
    command = shlex.join([str(Path(sys.executable).with_name("gnome")), *arguments])
    tasks = min(tasks, len(ids))
    quoted = shlex.quote(str(folder))
    text = SCRIPT.format(name=folders.root.name, tasks=tasks, folder=quoted, header=header.strip(), command=command)
    write_file(script, text.encode())
    if dry_run:
        return f"{script} is an array of {tasks} tasks for {len(ids)} jobs; submit it with sbatch"
    if shutil.which("sbatch") is None:
        raise SubmitError(f"sbatch is not on PATH; {script} is ready for a machine that has it (use --dry-run)")
    # Asked for before they can start, so that no finished job is asked for again.
    requests = [request for id_ in ids if (request := folders[id_].request({"kind": "slurm", "script": str(script)}))]
    done = subprocess.run(["sbatch", str(script)], capture_output=True, text=True)
    if done.returncode:
        withdraw(requests)
        raise SubmitError(f"sbatch refused {script}: {(done.stderr or done.stdout).strip()}")
    return f"{done.stdout.strip() or 'submitted'}: {tasks} tasks for {len(requests)} jobs, logs in {folder}"


def withdraw(requests: Sequence[Attempt]) -> None:
    """Take back what a queue refused."""
    for request in requests:
        (request.folder / "requested.json").unlink()
        request.folder.rmdir()
