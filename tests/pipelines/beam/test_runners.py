import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from zipfile import ZipFile

import apache_beam as beam
import grpc
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipelines.beam import apart, runners
from pipelines.beam import job_servers as engines
from pipelines.beam.job_servers import find_engine, install_engine, installed_beam, runner_states
from pipelines.beam.runners import RUNNERS, expand_runner, run_pipeline, runner_flags
from pipelines.errors import UserError
from tools import lost_workers

# 127.0.0.1, the same in IPv6, and ::1, as the kernel writes them
LOOPBACK = {"0100007F", "0" * 16 + "FFFF0000" + "0100007F", "0" * 24 + "01000000"}
MANIFEST = "META-INF/MANIFEST.MF"


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gnome-flywheel" / "runners"


def put_engine(folder: Path, name: str, beam_version: str) -> None:
    (folder / f"{name}-{beam_version}").mkdir(parents=True)
    (folder / f"{name}-{beam_version}" / "launch").touch()


def put_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_engine_is_pinned_and_the_user_overrides_it():
    quiet = "--default_sdk_harness_log_level=ERROR"
    assert runner_flags([]) == ["--runner=FnApiRunner", "--direct_running_mode=in_memory", quiet]
    flags = runner_flags(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    assert flags == ["--runner=FnApiRunner", quiet, "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    assert runner_flags(["--runner=FlinkRunner"])[-1] == "--runner=FlinkRunner"


def test_what_would_answer_wrongly_is_refused():
    with pytest.raises(UserError, match="loses outputs"):
        runner_flags(["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"])
    with pytest.raises(UserError, match="not a Beam option"):
        runner_flags(["workers=2"])


def test_a_runner_is_the_options_it_stands_for_and_the_users_win(cache_home):
    assert expand_runner(None, ["--x=1"]) == ["--x=1"]
    assert expand_runner("multi", ["--direct_num_workers=3"]) == [
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=3",
    ]
    assert expand_runner("dataflow", ["--experiments=x"]).count("--experiments=no_use_multiple_sdk_containers") == 1
    put_engine(cache_home, "flink", "2.62.0")
    flags = expand_runner("flink", ["--parallelism=4", "--flink_master=127.0.0.1:8081"])
    assert f"--flink_job_server_jar={cache_home}/flink-2.62.0/job-server.jar" in flags
    assert [flag for flag in flags if flag.startswith(("--parallelism", "--flink_master"))] == [
        "--parallelism=4",
        "--flink_master=127.0.0.1:8081",
    ]


@pytest.mark.parametrize("name", RUNNERS)
def test_every_option_is_one_that_beam_has(name, cache_home):
    from apache_beam.options.pipeline_options import PipelineOptions

    for engine in engines.ENGINES:
        put_engine(cache_home, engine, installed_beam())
    flags = expand_runner(name, ["--project=p", "--region=r", "--temp_location=gs://b/t"] if name == "dataflow" else [])
    known = PipelineOptions(flags).get_all_options(drop_default=False)
    unknown = [flag for flag in flags if flag[2:].partition("=")[0] not in known]
    assert not unknown


def test_a_missing_engine_is_named_with_the_command_that_gets_it():
    for name in engines.ENGINES:
        with pytest.raises(UserError, match=f"`gnome runners install {name}`"):
            expand_runner(name, [])
    with pytest.raises(UserError, match="must be one of local"):
        expand_runner("dask", [])
    # A job server that runs already is all that is needed.
    assert "--job_endpoint=127.0.0.1:8099" in expand_runner("flink", ["--job_endpoint=127.0.0.1:8099"])
    missing = {state.name: state.what for state in runner_states() if not state.ready}
    assert missing["prism"] == "not installed: gnome runners install prism"


def test_the_engine_of_the_installed_beam_is_preferred(cache_home):
    assert find_engine("spark") is None
    for version in ("2.9.0", "2.62.0", installed_beam(), "2.99.0"):
        put_engine(cache_home, "spark", version)
    assert find_engine("spark").beam == installed_beam()
    (cache_home / f"spark-{installed_beam()}" / "launch").unlink()
    assert find_engine("spark").beam == "2.99.0"


def test_prism_is_built_at_beams_version_and_nothing_is_left_of_a_failure(cache_home, tmp_path, monkeypatch):
    path = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    put_program(path, "go", 'echo "$2" > "$GOBIN/prism"')
    installed = install_engine("prism")
    assert Path(installed.folder, "prism").read_text().strip() == (
        f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{installed_beam()}"
    )
    assert find_engine("prism") == installed
    put_program(path, "go", 'echo "go: no such module"; exit 1')
    with pytest.raises(UserError, match="no such module"):
        install_engine("prism", "2.1.0")
    assert [folder.name for folder in cache_home.iterdir()] == [f"prism-{installed_beam()}"]
    with pytest.raises(UserError, match="not a version"):
        install_engine("prism", "../../x")
    with pytest.raises(UserError, match="not an engine"):
        install_engine("hadoop")


def test_a_job_server_that_no_registry_has_is_made_of_its_parts(cache_home, tmp_path, monkeypatch):
    """A stand-in for Maven that has the libraries of one version of Beam, and no job server."""
    for name in ("b", "a"):
        with ZipFile(tmp_path / f"{name}.jar", "w") as jar:
            for file in (MANIFEST, "META-INF/X.SF", "META-INF/services/Registrar", "Same.class", "ui/"):
                jar.writestr(file, name)
    path = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    put_program(path, "java", "exit 0")
    put_program(
        path,
        "mvn",
        'case "$*" in *dependency:get*) echo "[ERROR] not found"; exit 1;; esac\n'
        'for word; do case "$word" in -DoutputDirectory=*) out="${word#*=}";; *pom.xml) pom="$word";; esac; done\n'
        'grep -q 2.62.0 "$pom" || { echo "[ERROR] no parts"; exit 1; }\n'
        f'mkdir -p "$out"; cp {tmp_path}/*.jar "$out"',
    )
    with pytest.raises(UserError, match=r"not found.*--beam VERSION"):
        install_engine("flink")
    installed = install_engine("flink", "2.62.0")
    with ZipFile(installed.jar) as jar:
        assert "Main-Class: org.apache.beam.runners.flink.FlinkJobServerDriver\r\n" in jar.read(MANIFEST).decode()
        assert jar.read("Same.class") == b"a", "the first of a name, as on a class path"
        assert jar.read("META-INF/services/Registrar").split() == [b"a", b"b"]
        assert sorted(jar.namelist()) == [MANIFEST, "META-INF/services/Registrar", "Same.class", "ui/"]
    assert "127.0.0.1" in Path(installed.folder, "conf", "config.yaml").read_text()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="apt-get install maven"):
        install_engine("flink", "2.62.0")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_driver_of_worker_processes_listens_on_this_machine_alone():
    seen, done = set(), threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            seen.update(listening())

    watcher = threading.Thread(target=watch)
    watcher.start()
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    try:
        run_pipeline(runner_flags(flags), lambda pipeline: pipeline | beam.Create([0.5]) | beam.Map(time.sleep))
    finally:
        done.set()
        watcher.join()
    assert seen, "the worker reaches its driver by sockets"
    assert {address.rpartition(":")[0] for address in seen} <= LOOPBACK


def listening() -> set[str]:
    """Local addresses (hexadecimal) of this process's listening TCP sockets."""
    sockets = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(link))
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path("/proc/net", table).read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_dies_ends_the_run_with_a_message():
    """Beam itself would wait for it without end."""

    def kill_worker() -> None:
        while not (found := workers()):
            time.sleep(0.1)
        time.sleep(1)
        os.kill(found[0], signal.SIGKILL)

    threading.Thread(target=kill_worker, daemon=True).start()
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    with pytest.raises(UserError, match=r"a worker process died .*return code -9.*resume"):
        run_pipeline(runner_flags(flags), lambda pipeline: pipeline | beam.Create([600]) | beam.Map(time.sleep))
    assert wait_for(lambda: workers() == [])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_lost_worker_ends_the_process_where_interrupts_are_ignored():
    """As in a script's background. The run used to be told by an interrupt, and stood still for ever."""
    command = [sys.executable, "-m", "tools.lost_workers", "--kills", "1", "--longest", "0.5"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[3])
    assert json.loads(ended.stdout.splitlines()[-1])["lost worker noticed"] == 1, ended


@pytest.fixture
def interruptible():
    """As in a terminal; a script's background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_leaves_a_run_that_swallows_it_and_its_workers(interruptible):
    flags = runner_flags(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])

    def interrupt() -> None:
        while not workers():
            time.sleep(0.1)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(flags, lambda pipeline: pipeline | beam.Create([600]) | beam.Map(time.sleep))
    assert wait_for(lambda: workers() == [])


def test_a_connection_that_a_dead_worker_drops_is_no_error_of_its_own(caplog):
    runners._hush_hang_ups()
    log = logging.getLogger("apache_beam.runners.worker.data_plane")

    class Ended(grpc.RpcError, grpc.Call):
        def __init__(self, code: grpc.StatusCode):
            super().__init__(code.name)
            self.code = lambda: code

        add_callback = cancel = details = initial_metadata = is_active = time_remaining = trailing_metadata = None

    hung_up, lost = Ended(grpc.StatusCode.CANCELLED), Ended(grpc.StatusCode.UNAVAILABLE)
    for error in (grpc.RpcError(), hung_up, ValueError("else"), lost):
        try:
            raise error
        except Exception:
            log.exception("Failed to read inputs in the data plane.")
    assert [str(record.exc_info[1]) for record in caplog.records] == ["else", "UNAVAILABLE"]


def test_an_engine_that_ends_before_the_reader_of_its_states_leaves_no_traceback(monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.thread.name))
    runners._hush_hang_ups.__wrapped__()

    def lose() -> None:
        raise OSError("the socket closed")

    for name in ("read_state", "another"):
        thread = threading.Thread(target=lose, name=name)
        thread.start()
        thread.join()
    assert reported == ["another"]


def test_a_job_server_starts_in_a_run_apart_and_sets_no_handler():
    """Beam's sets one for interrupts, which Python refuses outside the main thread: no engine would start."""
    from apache_beam.runners.portability.job_server import JobServer, StopOnExitJobServer

    class Idle(JobServer):
        def start(self) -> str:
            return "localhost:1"

        def stop(self) -> None:
            pass

    before = signal.getsignal(signal.SIGINT)
    run_pipeline(runner_flags([]), lambda pipeline: pipeline | beam.Create([1]))
    server = StopOnExitJobServer(Idle())
    assert apart.run_apart(server.start) == "localhost:1"
    server.stop()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_has_no_folder_that_a_kill_would_leave():
    def build(pipeline: beam.Pipeline) -> None:
        there = pipeline | beam.Create([pipeline.local_tempdir]) | beam.Map(os.path.exists)
        assert_that(there, equal_to([False]))

    run_pipeline(runner_flags([]), build)


def test_runs_share_a_thread_until_one_is_abandoned():
    """The engines that Beam starts die with the thread that started them, and serve several runs."""
    first, second = (apart.run_apart(threading.get_ident) for _ in range(2))
    assert first == second != threading.get_ident()
    with pytest.raises(KeyError, match="x"):
        apart.run_apart(lambda: {}["x"])
    assert apart.run_apart(threading.get_ident) == first


def wait_for(condition) -> bool:
    """Whether it holds within some seconds."""
    end = time.monotonic() + 20
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return holds


def workers() -> list[int]:
    """Worker processes of this one."""
    return lost_workers.workers(os.getpid())
