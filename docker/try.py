"""Run the RUN lines of a Dockerfile without a daemon: python docker/try.py [TARGET...]  (as root; needs debootstrap)

Each base image is stood for by a plain Debian 12 root with the package that the image is about (python3-venv, maven).
Every stage that the targets need gets a root of its own, in which COPY, ENV, USER and WORKDIR are followed and RUN
lines run by chroot. What comes from an image that only a daemon could fetch (Beam's boot program, Google's launcher)
is not there, and said to be missing. Package clients find their settings as they do outside: PIP_*, proxies,
certificates.

Roots are kept in --folder and reused; a stage that has passed is not run again unless --again.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
STAND_INS = {"python": ["python3", "python3-venv"], "maven": ["maven"]}  # image name -> Debian packages
OUTSIDE = ("PIP_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT")
SETTINGS = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/pip.conf",
    "/etc/apt/apt.conf.d",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/java/cacerts",
    "/etc/maven/settings.xml",
)


@dataclass
class Stage:
    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def parse(text: str) -> tuple[dict[str, str], dict[str, Stage]]:
    """(global ARGs, stages by name); continuation lines are joined, comments dropped."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = Stage(name, substitute(base, arguments))
        elif not stages:
            key, _, value = rest.partition("=")
            arguments[key] = value
        else:
            list(stages.values())[-1].steps.append((instruction, rest.strip()))
    return arguments, stages


def substitute(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace("${" + key + "}", value)
    return text


def needed(target: str, stages: dict[str, Stage]) -> list[str]:
    """Stages that the target is built from, in order, itself last."""
    stage, found = stages[target], []
    sources = [stage.base] + [
        word.removeprefix("--from=") for _, rest in stage.steps for word in rest.split() if word.startswith("--from=")
    ]
    for source in sources:
        if source in stages:
            found += [name for name in needed(source, stages) if name not in found]
    return [*found, target]


class Trial:
    """Stages tried in roots below `folder`; `report` has a line for each RUN."""

    def __init__(self, stages: dict[str, Stage], folder: Path):
        self.stages, self.folder, self.report = stages, folder, []
        self.missing: set[str] = set()
        self.settings: dict[str, tuple[dict[str, str], str, str]] = {}  # stage -> environment, user, folder

    def run(self, name: str, again: bool) -> None:
        stage, root = self.stages[name], self.folder / name
        done = self.folder / f"{name}.json"
        if done.exists() and not again:
            environment, user, place = json.loads(done.read_text())
            self.settings[name] = environment, user, place
            return
        if stage.base in self.missing or (stage.base not in self.stages and not stand_in(stage.base)):
            self.missing.add(name)
            return
        shutil.rmtree(root, ignore_errors=True)
        if stage.base in self.stages:
            self.copy_tree(self.folder / stage.base, root)
            environment, user, place = self.settings[stage.base]
        else:
            self.copy_tree(self.plain(stand_in(stage.base)), root)
            environment, user, place = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}, "0", "/"
        environment = dict(environment)
        for instruction, rest in stage.steps:
            if instruction in ("ENV", "ARG"):
                for word in shlex.split(rest):
                    key, _, value = word.partition("=")
                    environment[key] = substitute(value, environment)
            elif instruction == "WORKDIR":
                place = rest
                (root / place.strip("/")).mkdir(parents=True, exist_ok=True)
            elif instruction == "USER":
                user = rest
            elif instruction == "COPY":
                self.copy(rest, root, place)
            elif instruction == "RUN":
                self.run_line(name, rest, root, environment, user, place)
        done.write_text(json.dumps([environment, user, place]))
        self.settings[name] = environment, user, place

    def run_line(self, name: str, line: str, root: Path, environment: dict, user: str, place: str) -> None:
        print(f"--- {name}: {line[:100]}", flush=True)
        outside = {key: value for key, value in os.environ.items() if key.startswith(OUTSIDE)}
        command = ["chroot", f"--userspec={user}:{user}", str(root), "/bin/sh", "-c", f"cd {place} && {line}"]
        start = time.monotonic()
        code = subprocess.run(command, env={"HOME": "/root", **outside, **environment}, check=False).returncode
        self.report.append(
            f"{name:12} {'ok' if code == 0 else f'exit {code}':8} {time.monotonic() - start:6.0f} s  {line}"
        )
        if code:
            raise SystemExit("\n".join([*self.report, f"{name}: failed"]))

    def copy(self, rest: str, root: Path, place: str) -> None:
        words = rest.split()
        source_root = HERE.parent
        if words[0].startswith("--from="):
            source = words.pop(0).removeprefix("--from=")
            if source in self.missing:
                print(f"--- not there without a daemon: {' '.join(words[:-1])} of {source}", flush=True)
                return
            source_root = self.folder / source
        *sources, target = words
        for source in sources:
            found = source_root / source.lstrip("/")
            to = root / os.path.join(place, target).strip("/")
            if found.is_dir():
                shutil.copytree(
                    found, to, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                to = to / found.name if target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, to)

    def plain(self, packages: list[str]) -> Path:
        """A Debian 12 root with some packages, made once."""
        root = self.folder / f"debian-{packages[-1]}"
        if not (root / "etc/debian_version").exists():
            include = ",".join(["ca-certificates", *packages])
            command = ["debootstrap", "--variant=minbase", f"--include={include}", "bookworm", str(root)]
            if subprocess.run(command, check=False).returncode:
                raise SystemExit("debootstrap failed; `apt-get install debootstrap`, and run as root")
        for path in SETTINGS:
            for found in glob.glob(path):
                if os.path.isdir(found):
                    shutil.copytree(found, root / found[1:], dirs_exist_ok=True)
                elif (root / found[1:]).parent.is_dir():
                    shutil.copy2(found, root / found[1:])
        python = root / "usr/bin/python"
        if "python3" in packages and not python.exists():
            python.symlink_to("python3")
        return root

    def copy_tree(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def stand_in(image: str) -> list[str] | None:
    return STAND_INS.get(image.partition(":")[0].rpartition("/")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=["worker", "dft", "harness"])
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/gnome-images"))
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("debootstrap"):
        raise SystemExit("run as root on a machine with debootstrap: apt-get install debootstrap")
    options.folder.mkdir(parents=True, exist_ok=True)
    _, stages = parse((HERE / "Dockerfile").read_text())
    trial = Trial(stages, options.folder)
    for target in options.targets:
        for name in needed(target, stages):
            if name not in trial.settings:
                trial.run(name, options.again)
    print("\n".join(trial.report))
    absent = ", ".join(sorted(trial.missing))
    print(f"{len(trial.report)} RUN lines passed" + (f"; not there without a daemon: {absent}" if absent else ""))


if __name__ == "__main__":
    main()
