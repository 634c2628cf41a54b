"""Engines that Beam runs on but does not bring along: what each needs, where it is kept, how it is got.

    CACHE/gnome-flywheel/runners/prism-2.77.0/launch              runs prism
    CACHE/gnome-flywheel/runners/flink-2.77.0/job-server.jar      and launch, in place of `java`

Programs come by the ordinary clients, `go` and `mvn`, which check what they fetch. `launch` ends its program together
with the process that started it, and keeps what it listens on to this machine.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from gnome_core.caches import cache_folder
from pipelines.errors import UserError

PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"
SPARK = "3.5.9"  # a standalone cluster must run the very version that its driver links
LAUNCH, JAR = "launch", "job-server.jar"


@dataclass(frozen=True)
class JobServer:
    """Of a Java engine. Where a registry lacks the published jar, its parts make one."""

    artifact: Callable[[str], str]  # version of Beam -> the published jar's artifact id
    library: Callable[[str], str]  # -> the artifact that holds its main class
    main: str
    beside: tuple[str, ...] = ()  # group:artifact:version that the library expects of its engine
    variables: Mapping[str, str] | None = None


def flink_version(beam: str) -> str:
    """The Flink in a job server of that Beam: the newest for the installed Beam, a widespread one for others."""
    if beam != installed_beam():
        return "1.19"
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    return FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS[-1]


JOB_SERVERS = {
    "flink": JobServer(
        artifact=lambda beam: f"beam-runners-flink-{flink_version(beam)}-job-server",
        library=lambda beam: f"beam-runners-flink-{flink_version(beam)}",
        main="org.apache.beam.runners.flink.FlinkJobServerDriver",
    ),
    "spark": JobServer(
        artifact=lambda _: "beam-runners-spark-3-job-server",
        library=lambda _: "beam-runners-spark-3",
        main="org.apache.beam.runners.spark.SparkJobServerDriver",
        beside=(f"org.apache.spark:spark-streaming_2.12:{SPARK}",),
        variables={"SPARK_LOCAL_IP": "127.0.0.1"},
    ),
}
ENGINES = ("prism", *JOB_SERVERS)
# What a Flink in the job server would otherwise bind to every interface.
FLINK_CONFIG = """jobmanager.bind-host: 127.0.0.1
jobmanager.rpc.address: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.host: 127.0.0.1
rest.bind-address: 127.0.0.1
"""


@dataclass(frozen=True)
class Installed:
    """An engine in the cache folder."""

    name: str
    beam: str  # the version of Beam it is of
    folder: Path

    @property
    def launch(self) -> str:
        return str(self.folder / LAUNCH)

    @property
    def jar(self) -> str:
        return str(self.folder / JAR)


@cache
def installed_beam() -> str:
    return metadata.version("apache-beam")


def engine_folder() -> Path:
    return cache_folder() / "runners"


def find_engine(name: str) -> Installed | None:
    """The engine of the installed Beam's version, or else of the newest other one that is there."""
    found = [
        Installed(name, path.name.removeprefix(f"{name}-"), path)
        for path in engine_folder().glob(f"{name}-*")
        if (path / LAUNCH).exists()
    ]
    return max(found, key=lambda engine: (engine.beam == installed_beam(), _order(engine.beam)), default=None)


def require_engine(name: str) -> Installed:
    """Raises UserError with the command that gets it."""
    found = find_engine(name)
    if found is None:
        raise UserError(f"{name} is not installed; `gnome runners install {name}` gets it")
    return found


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


# Getting them


def install_engine(name: str, beam: str | None = None) -> Installed:
    """Fetch or build an engine into the cache folder, whole or not at all. Raises UserError.

    beam: a version; by default the installed Beam's, which is the one to have.
    """
    if name not in ENGINES:
        raise UserError(f"{name} is not an engine that needs installing; those are {', '.join(ENGINES)}")
    beam = beam or installed_beam()
    if not re.fullmatch(r"\d+\.\d+\.\d+", beam):
        raise UserError(f"--beam {beam} is not a version such as 2.77.0")
    target = engine_folder() / f"{name}-{beam}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as made:
        folder = Path(made, name)
        folder.mkdir()
        if name == "prism":
            _build_prism(folder, beam)
        else:
            _fetch_job_server(folder, JOB_SERVERS[name], name, beam)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    return Installed(name, beam, target)


def _build_prism(folder: Path, beam: str) -> None:
    _need("go", "Prism is built with Go; Debian: apt-get install golang-go")
    error = _run(["go", "install", f"{PRISM}@v{beam}"], {"GOBIN": str(folder)})
    if error:
        raise UserError(f"go could not build {PRISM}@v{beam}: {error}")
    _write_launcher(folder, '"$(dirname "$0")/prism"')


def _fetch_job_server(folder: Path, server: JobServer, name: str, beam: str) -> None:
    _need("mvn", "job servers come by Maven; Debian: apt-get install maven")
    _need("java", "job servers need Java 11 or 17; Debian: apt-get install default-jre-headless")
    artifact = f"org.apache.beam:{server.artifact(beam)}:{beam}"
    error = _run(["mvn", "-q", "-B", "-C", "-U", "dependency:get", "-Dtransitive=false", f"-Dartifact={artifact}"])
    if error is None:
        error = _run(["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"])
        if error is None:
            (folder / f"{server.artifact(beam)}-{beam}.jar").rename(folder / JAR)
    else:
        error = _assemble(folder, server, beam) and error
    if error:
        raise UserError(
            f"Maven could not get {artifact}: {error}. Another Beam's job server also speaks to this one: "
            f"`gnome runners install {name} --beam VERSION`"
        )
    (folder / "conf").mkdir()
    for file in ("config.yaml", "flink-conf.yaml"):  # Flink 2, Flink 1
        (folder / "conf" / file).write_text(FLINK_CONFIG)
    variables = {"FLINK_CONF_DIR": str(engine_folder() / f"{name}-{beam}" / "conf")} if name == "flink" else {}
    _write_launcher(folder, "java", {**variables, **(server.variables or {})})


def _assemble(folder: Path, server: JobServer, beam: str) -> str | None:
    """A job server of its library and all that it needs."""
    parts = (*server.beside, f"org.apache.beam:{server.library(beam)}:{beam}")
    (folder / "pom.xml").write_text(_pom(parts))
    error = _run(
        ["mvn", "-q", "-B", "-C", "-U", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies"]
        + ["-DincludeScope=runtime", f"-DoutputDirectory={folder / 'jars'}"]
    )
    if error is None:
        _merge_jars(sorted((folder / "jars").iterdir()), folder / JAR, server.main)
        shutil.rmtree(folder / "jars")
    return error


def _pom(parts: tuple[str, ...]) -> str:
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *part.split(":")
        )
        for part in parts
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>gnome</groupId><artifactId>job-server</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )


def _merge_jars(jars: list[Path], target: Path, main: str) -> None:
    """One jar of many, for clusters are sent a single file. Of files of one name the first is taken, but lists of
    services and settings, which add up."""
    added_up: dict[str, bytes] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as merged:
        merged.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\nMain-Class: {main}\r\n\r\n")
        taken = {"META-INF/MANIFEST.MF"}
        for jar in jars:
            with zipfile.ZipFile(jar) as source:
                for name in source.namelist():
                    if re.fullmatch("META-INF/services/.+|reference.conf", name):
                        added_up[name] = added_up.get(name, b"") + source.read(name) + b"\n"
                    elif name not in taken and not _is_signature(name):  # folders count: Spark looks for one
                        taken.add(name)
                        merged.writestr(name, source.read(name))
        for name, content in added_up.items():
            merged.writestr(name, content)


def _is_signature(name: str) -> bool:
    """Of the jar that it was in, which the merged one is not."""
    return bool(re.fullmatch(r"META-INF/[^/]+\.(SF|DSA|RSA|EC)|META-INF/INDEX\.LIST|(.*/)?module-info\.class", name))


def _write_launcher(folder: Path, program: str, variables: Mapping[str, str] | None = None) -> None:
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in (variables or {}).items())
    # Where there is no setpriv, a driver that is killed leaves its engine behind.
    script = (
        f"#!/bin/sh\n{exports}if command -v setpriv >/dev/null; then\n"
        f'  exec setpriv --pdeathsig KILL {program} "$@"\nfi\nexec {program} "$@"\n'
    )
    path = folder / LAUNCH
    path.write_text(script)
    path.chmod(0o755)


def _need(program: str, remedy: str) -> None:
    if shutil.which(program) is None:
        raise UserError(f"{program} is not on the path: {remedy}")


def _run(command: list[str], variables: Mapping[str, str] | None = None) -> str | None:
    """None, or the first complaint of a command that failed."""
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(variables or {})}
    )
    if result.returncode == 0:
        return None
    noise = r"\x1b\[[0-9;]*m|\[ERROR\]|go: |Failed to execute goal .* on project [^:]*: | in \S+ \(https?://[^)]*\)"
    lines = [re.sub(noise, "", line).strip() for line in result.stdout.splitlines()]
    complaints = [line for line in lines if line and not line.startswith("downloading")]
    return complaints[0].rstrip(".") if complaints else f"exit code {result.returncode}"


# Saying what is there


@dataclass(frozen=True)
class RunnerState:
    """Of a `--runner` on this machine: ready or not, and what it is or what gets it."""

    name: str
    ready: bool
    what: str


def runner_states() -> list[RunnerState]:
    """Every `--runner`, whether it can be used here, and what is missing with the command that gets it."""
    states = [
        RunnerState("local", True, f"Beam {installed_beam()}, this process"),
        RunnerState("multi", True, f"Beam {installed_beam()}, {os.cpu_count()} worker processes"),
        *(_engine_state(name) for name in ENGINES),
    ]
    if find_spec("google") and find_spec("google.cloud") and find_spec("google.cloud.storage"):
        states.append(RunnerState("dataflow", True, "needs --project, --region and --temp_location after `--`"))
    else:
        remedy = f"{Path(sys.executable).name} -m pip install 'apache-beam[gcp]=={installed_beam()}'"
        states.append(RunnerState("dataflow", False, f"Google's clients are missing: {remedy}"))
    return states


def _engine_state(name: str) -> RunnerState:
    found = find_engine(name)
    if found is None:
        return RunnerState(name, False, f"not installed: gnome runners install {name}")
    if name in JOB_SERVERS and shutil.which("java") is None:
        return RunnerState(name, False, "java is not on the path; Debian: apt-get install default-jre-headless")
    other = "" if found.beam == installed_beam() else f" (Beam here is {installed_beam()})"
    return RunnerState(name, True, f"of Beam {found.beam}{other}, in {found.folder}")
