"""The same round on every engine, and a second on Prism: the committed rows are those of the engine in this process.

`make test-runners` runs these; each needs what `gnome runners` names.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.beam.job_servers import SPARK, engine_folder, find_engine, flink_version
from pipelines.rounds.plan import PROPOSE
from pipelines.rounds.verify import verify
from pipelines.store.store import Store
from tests.pipelines.conftest import digests, gnome_process

pytestmark = pytest.mark.runners


@pytest.fixture(autouse=True)
def _java_for_a_minute(monkeypatch):
    """In a life so short, Java's second compiler and its collector's threads cost more than they gain."""
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


def require(*engines: str) -> None:
    for name in engines:
        if find_engine(name) is None:
            pytest.skip(f"{name} is not installed: `gnome runners install {name}` gets it")
    if set(engines) & {"flink", "spark"} and shutil.which("java") is None:
        pytest.skip("java is not installed: apt-get install default-jre-headless")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def process(*command: str, log: Path, **variables: str) -> Generator[subprocess.Popen]:
    """A process group that ends with the block."""
    with open(log, "ab") as output:
        started = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def wait_until(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what} took more than {seconds} s")
        time.sleep(0.2)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def expected(two_rounds: Path, rounds: int) -> dict:
    kept = [str(round_) for round_ in range(rounds + 1)]
    return {key: value for key, value in digests(Store(str(two_rounds))).items() if key.partition("/")[0] in kept}


def proposed(two_rounds: Path) -> dict:
    """Up to what `gnome round propose` commits of round 1."""
    kept = expected(two_rounds, 1)
    return {key: kept[key] for key in kept if key.startswith("0/") or key.removeprefix("1/") in PROPOSE}


def run_rounds(initialised: Path, path: Path, rounds: int, *options: str) -> Store:
    shutil.copytree(initialised, path)
    result = gnome_process("round", "run", str(path), "--rounds", str(rounds), *options)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Traceback" not in result.stderr
    store = Store(str(path))
    assert list(verify(store)) == []
    return store


def test_local_job_service(initialised, two_rounds, tmp_path):
    """Beam's portable job service in a process of its own; user code comes back to this one."""
    port = free_port()
    service = (sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", "-p", str(port))
    with process(*service, log=tmp_path / "service.log"):
        wait_until(lambda: answers(port), 180, "starting the job service")
        flags = ("--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}", "--environment_type=LOOPBACK")
        store = run_rounds(initialised, tmp_path / "store", 1, "--", *flags)
    assert digests(store) == expected(two_rounds, 1)


def test_prism(initialised, two_rounds, tmp_path):
    require("prism")
    store = run_rounds(initialised, tmp_path / "store", 2, "--runner", "prism")
    assert digests(store) == expected(two_rounds, 2)


@pytest.mark.slow
def test_flink_inside_the_job_server(initialised, two_rounds, tmp_path):
    require("flink")
    store = run_rounds(initialised, tmp_path / "store", 1, "--runner", "flink")
    assert digests(store) == expected(two_rounds, 1)


@pytest.mark.slow
def test_spark_inside_the_job_server(initialised, two_rounds, tmp_path):
    require("spark")
    store = run_rounds(initialised, tmp_path / "store", 1, "--runner", "spark")
    assert digests(store) == expected(two_rounds, 1)


def test_nothing_is_left_of_an_engine_whose_driver_is_killed(initialised, tmp_path):
    require("prism")
    path = tmp_path / "store"
    shutil.copytree(initialised, path)
    mark = {"GNOME_TEST_OF": str(tmp_path)}
    killed = gnome_process("round", "run", str(path), "--runner", "prism", crash_at="generate:after_write", **mark)
    assert killed.returncode == -9
    # The kernel's signal comes with the driver's death, not before its parent hears of it.
    wait_until(lambda: not processes_with(str(tmp_path)), 30, "ending what the driver had started")
    resumed = gnome_process("round", "resume", str(path))
    assert resumed.returncode == 0, resumed.stderr


def processes_with(value: str) -> list[int]:
    """Those that have a variable of that value in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"={value}\0".encode() in Path(folder, "environ").read_bytes():
                found.append(int(folder.name))
    return found


# Clusters


def unpacked(package: str, version: str, jars: str) -> Path:
    """The jars of a PyPI archive, in the cache folder: its Python part must never share our environment."""
    home = engine_folder() / f"{package}-{version}"
    if (home / "jars").exists():
        return home / "jars"  # where Spark's workers look for them, below SPARK_HOME
    downloads = engine_folder() / "downloads"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(downloads)]
    result = subprocess.run([*command, f"{package}=={version}"], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"`pip download --no-deps {package}=={version}` failed: {result.stderr.strip()[-200:]}")
    scratch = home.with_name(f".{home.name}.{os.getpid()}")
    with tarfile.open(downloads / f"{package}-{version}.tar.gz") as tar:
        tar.extractall(scratch, filter="data")
    home.mkdir(exist_ok=True)
    (scratch / f"{package}-{version}" / jars).rename(home / "jars")
    shutil.rmtree(scratch)
    return home / "jars"


@pytest.fixture(scope="session")
def spark_jars() -> Path:
    require("spark")
    return unpacked("pyspark", SPARK, "deps/jars")


@pytest.fixture(scope="session")
def flink_jars() -> Path:
    require("flink")
    found = find_engine("flink")
    assert found is not None
    version = {"1.19": "1.19.3"}.get(flink_version(found.beam), "2.2.1")
    return unpacked("apache-flink-libraries", version, "deps/lib")


ADD_OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.lang", "java.lang.invoke", "java.nio", "java.util", "java.util.concurrent", "sun.nio.ch")
]


def java(jars: Path, main: str, *options: str) -> list[str]:
    return ["java", *ADD_OPENS, "-Xmx768m", "-XX:MaxDirectMemorySize=512m", "-cp", f"{jars}/*", main, *options]


class Cluster(NamedTuple):
    """master: its address. busy: whether it runs a job at this moment."""

    master: str
    worker: subprocess.Popen
    start_worker: Callable[[], subprocess.Popen]
    busy: Callable[[], bool]


def fetch(address: str) -> dict:
    with urllib.request.urlopen(f"http://{address}", timeout=60) as response:
        return json.load(response)


@contextlib.contextmanager
def spark_cluster(jars: Path, log: Path) -> Generator[Cluster]:
    """A standalone master and worker."""
    port, web = free_port(), free_port()
    local = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_HOME": str(jars.parent), "SPARK_SCALA_VERSION": "2.12"}
    address = f"spark://127.0.0.1:{port}"
    master = java(
        jars,
        "org.apache.spark.deploy.master.Master",
        *("--host", "127.0.0.1", "--port", str(port), "--webui-port", str(web)),
    )
    worker = java(
        jars,
        "org.apache.spark.deploy.worker.Worker",
        *("--host", "127.0.0.1", "--cores", "2", "--memory", "1g", "--webui-port", str(free_port())),
        *("--work-dir", str(log.parent / "work"), address),
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(process(*master, log=log, **local))
        wait_until(lambda: answers(port), 180, "starting the Spark master")

        def start_worker():
            return stack.enter_context(process(*worker, log=log, **local))

        first = start_worker()
        wait_until(lambda: "Registering worker" in log.read_text(), 180, "registering the Spark worker")
        yield Cluster(address, first, start_worker, lambda: bool(fetch(f"127.0.0.1:{web}/json/")["activeapps"]))


FLINK_CLUSTER = """jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: 127.0.0.1
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: {rest}
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.cpu.cores: 2.0
taskmanager.numberOfTaskSlots: 2
taskmanager.memory.task.heap.size: 384m
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 64m
taskmanager.memory.jvm-metaspace.size: 192m
taskmanager.memory.jvm-overhead.min: 64m
taskmanager.memory.jvm-overhead.max: 64m
taskmanager.memory.task.off-heap.size: 64m
taskmanager.memory.network.min: 256m
taskmanager.memory.network.max: 256m
taskmanager.memory.managed.size: 64m
heartbeat.interval: 2000
heartbeat.timeout: 10000
"""


@contextlib.contextmanager
def flink_cluster(jars: Path, log: Path) -> Generator[Cluster]:
    """A standalone job manager and task manager."""
    rest, conf = free_port(), log.parent / "conf"
    conf.mkdir()
    for name in ("config.yaml", "flink-conf.yaml"):
        (conf / name).write_text(FLINK_CLUSTER.format(rpc=free_port(), rest=rest))
    entry = "org.apache.flink.runtime"
    manager = java(jars, f"{entry}.entrypoint.StandaloneSessionClusterEntrypoint", "--configDir", str(conf))
    worker = java(jars, f"{entry}.taskexecutor.TaskManagerRunner", "--configDir", str(conf))
    with contextlib.ExitStack() as stack:
        stack.enter_context(process(*manager, log=log))
        wait_until(lambda: answers(rest), 180, "starting the Flink job manager")

        def start_worker():
            return stack.enter_context(process(*worker, log=log))

        jobs = f"127.0.0.1:{rest}/jobs/overview"
        yield Cluster(
            f"127.0.0.1:{rest}",
            start_worker(),
            start_worker,
            lambda: any(job["tasks"]["running"] for job in fetch(jobs)["jobs"]),
        )


@pytest.mark.slow
def test_spark_standalone_with_a_worker_killed_during_scoring(spark_jars, initialised, two_rounds, tmp_path):
    shutil.copytree(initialised, tmp_path / "store")
    with spark_cluster(spark_jars, tmp_path / "spark.log") as cluster:
        lose_a_worker(cluster, tmp_path / "store", "--runner", "spark", "--", f"--spark_master_url={cluster.master}")
    assert digests(Store(str(tmp_path / "store"))) == proposed(two_rounds)


@pytest.mark.slow
def test_flink_standalone_with_a_task_manager_killed_during_scoring(flink_jars, initialised, two_rounds, tmp_path):
    shutil.copytree(initialised, tmp_path / "store")
    with flink_cluster(flink_jars, tmp_path / "flink.log") as cluster:
        lose_a_worker(cluster, tmp_path / "store", "--runner", "flink", "--", f"--flink_master={cluster.master}")
    assert digests(Store(str(tmp_path / "store"))) == proposed(two_rounds)


def lose_a_worker(cluster: Cluster, path: Path, *options: str) -> None:
    """Propose on the cluster and kill its worker while it scores. The job recovers on another worker, or it fails with
    nothing half committed, and proposing again goes on."""
    command = [str(Path(sys.executable).with_name("gnome")), "round", "propose", str(path), *options]
    attempts, log = path / "rounds/r0001/score/attempts", path.with_suffix(".log")
    with process(*command, log=log) as run:
        wait_until(lambda: attempts.exists() or run.poll() is not None, 600, "reaching score")
        wait_until(lambda: cluster.busy() or run.poll() is not None, 180, "scoring")
        assert run.poll() is None, log.read_text()[-4000:]
        os.killpg(cluster.worker.pid, signal.SIGKILL)
        cluster.start_worker()
        try:
            recovered = run.wait(timeout=400) == 0
        except subprocess.TimeoutExpired:
            pytest.fail(f"the job neither recovered nor failed: {log.read_text()[-4000:]}")
    assert list(verify(Store(str(path)))) == []
    if not recovered:
        again = gnome_process("round", "propose", str(path), *options)
        assert again.returncode == 0, again.stderr[-4000:]
