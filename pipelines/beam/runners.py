"""What runs a stage: each `--runner` as the Beam options it stands for, what is refused, and how a graph is run."""

from __future__ import annotations

import logging
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import SimpleNamespace

from pipelines.beam.apart import WORKER, run_apart
from pipelines.beam.job_servers import require_engine
from pipelines.errors import UserError

# DirectRunner would pick its engine by whether a download succeeds; this is the one that tests cover.
DEFAULT_FLAGS = ("--runner=FnApiRunner", "--direct_running_mode=in_memory", "--default_sdk_harness_log_level=ERROR")
VERBOSE_FLAG = "--default_sdk_harness_log_level=INFO"

# Engine and user code on this machine: workers are threads of this process. What is installed in it, which Beam would
# otherwise list with pip before every stage, is then no question.
LOOPBACK = ("--environment_type=LOOPBACK", "--experiments=disable_logging_submission_environment")
ADD_UP = ("--experiments",)  # options whose values are all taken
RUNNERS = {
    "local": ("--runner=FnApiRunner", "--direct_running_mode=in_memory"),
    "multi": ("--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=0"),
    "prism": ("--runner=PrismRunner", "--prism_location={launch}", "--prism_log_level=error", *LOOPBACK),
    "flink": (
        "--runner=FlinkRunner",
        "--flink_job_server_jar={jar}",
        "--job_server_java_launcher={launch}",
        "--flink_master=[local]",
        "--parallelism=1",
        *LOOPBACK,
    ),
    "spark": (
        "--runner=SparkRunner",
        "--spark_job_server_jar={jar}",
        "--job_server_java_launcher={launch}",
        "--spark_master_url=local[2]",
        *LOOPBACK,
    ),
    # One process a machine, so that jax has it to itself; the image holds this package.
    "dataflow": (
        "--runner=DataflowRunner",
        "--sdk_location=container",
        "--experiments=no_use_multiple_sdk_containers",
        "--number_of_worker_harness_threads=2",
    ),
}


def expand_runner(name: str | None, user_flags: Sequence[str]) -> list[str]:
    """The options that a `--runner` stands for, without those that the user gives another value, then the user's.

    Raises UserError for an unknown runner, or one whose engine is neither installed nor given by the user.
    """
    if name is None:
        return list(user_flags)
    if name not in RUNNERS:
        raise UserError(f"--runner {name}: must be one of {', '.join(RUNNERS)}")
    given = {flag.partition("=")[0] for flag in user_flags} - set(ADD_UP)
    flags = [flag for flag in RUNNERS[name] if flag.partition("=")[0] not in given]
    if "--job_endpoint" in given:  # a job server that runs already
        flags = [flag for flag in flags if "{" not in flag]
    if any("{" in flag for flag in flags):
        engine = require_engine(name)
        flags = [flag.format(launch=engine.launch, jar=engine.jar) for flag in flags]
    return flags + list(user_flags)


def runner_flags(user_flags: Sequence[str]) -> list[str]:
    """The defaults followed by the user's flags, so that the user's win. Raises UserError for a refused runner."""
    for flag in user_flags:
        if not flag.startswith("--"):
            raise UserError(f"{flag!r} is not a Beam option; give them after `--`, as in `-- --direct_num_workers=2`")
        name, _, value = flag.partition("=")
        if name == "--runner" and "dask" in value.lower():
            raise UserError("DaskRunner of Beam 2.77 loses outputs and still reports success; use another runner")
    given = {flag.partition("=")[0] for flag in user_flags}
    return [flag for flag in DEFAULT_FLAGS if flag.partition("=")[0] not in given] + list(user_flags)


class Launched(Exception):
    """The graph was handed over to be run without this process."""


def run_pipeline(flags: Sequence[str], build: Callable) -> dict[str, int]:
    """Run the graph that `build(pipeline)` makes, wait, return its counters.

    Raises what a step raised, Launched, or UserError where a worker process dies.
    """
    return run_apart(lambda: _run(flags, build))


def _run(flags: Sequence[str], build: Callable) -> dict[str, int]:
    import apache_beam as beam

    from pipelines.beam import options  # noqa: F401  Beam then knows our own
    from pipelines.beam.metrics import counters

    _bind_to_this_machine()
    _hush_hang_ups()
    _leave_interrupts_alone()
    pipeline = beam.Pipeline(**_runner_and_options(flags))
    # For transforms of other languages, of which there are none: a process that is killed would leave it behind.
    shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)
    build(pipeline)
    result = pipeline.run()
    if not getattr(result, "has_job", True):  # the launcher of a Flex Template: what it wrote down runs without us
        raise Launched
    state = result.wait_until_finish()
    if state != "DONE":
        raise RuntimeError(f"the pipeline ended in state {state}; its log says why")
    return counters(result)


def _leave_interrupts_alone() -> None:
    """Beam's job servers set a handler of interrupts, which only a main thread may; at exit they are stopped anyway."""
    from apache_beam.runners.portability import job_server

    job_server.signal = SimpleNamespace(SIGINT=signal.SIGINT, getsignal=signal.getsignal, signal=lambda *_: None)


def _runner_and_options(flags: Sequence[str]) -> dict:
    """Beam's own, but for worker processes on this machine, which run `pipelines.beam.worker`, and for Flink."""
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

    options = PipelineOptions(list(flags), save_main_session=False)
    direct, runner = options.view_as(DirectOptions), options.view_as(StandardOptions).runner
    if runner == "FlinkRunner":
        return {"runner": _flink_runner(), "options": options}
    if runner != "FnApiRunner" or direct.direct_running_mode != "multi_processing":
        return {"options": options}
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    direct.direct_running_mode = None  # else the runner puts its own environment in place of this one
    # exec: a shell in between would outlive the worker, or the worker it. An interrupt is for the driver alone.
    command = f"trap '' INT; exec {shlex.quote(sys.executable)} -m {WORKER}"
    workers = SubprocessSDKEnvironment.from_command_string(command)
    return {"runner": FnApiRunner(default_environment=workers), "options": options}


@lru_cache(maxsize=1)
def _flink_runner():
    """Beam's, with one job server for all stages of this process instead of a Java process for each."""
    from apache_beam.options.pipeline_options import FlinkRunnerOptions
    from apache_beam.runners.portability.flink_runner import FlinkRunner

    servers = {}

    class Runner(FlinkRunner):
        def default_job_server(self, options):
            flink = options.view_as(FlinkRunnerOptions)
            key = (flink.flink_master, flink.flink_job_server_jar)
            if flink.flink_submit_uber_jar or key not in servers:
                servers[key] = super().default_job_server(options)
            return servers[key]

    return Runner()


@lru_cache(maxsize=1)
def _bind_to_this_machine() -> None:
    """Beam's servers in this process listen on every interface, with no option to change it: let them listen on the
    loopback alone, which is the address that they announce ("localhost") anyway."""
    from grpc import _server

    add_port = _server._Server.add_insecure_port

    def add_loopback_port(self, address: str) -> int:
        return add_port(self, address.replace("[::]:", "127.0.0.1:"))

    _server._Server.add_insecure_port = add_loopback_port


@lru_cache(maxsize=1)
def _hush_hang_ups() -> None:
    """Java engines hang up on the workers of a job that is done, and a worker that dies on its driver: the one is no
    error, the other is told by `run_apart`. What ends the reader of states is raised by who waits for one."""
    from grpc import Call, RpcError, StatusCode

    def is_hang_up(error: BaseException | None) -> bool:
        if "Multiplexer hanging up" in str(error) or type(error) is RpcError:
            return True
        return isinstance(error, RpcError) and isinstance(error, Call) and error.code() is StatusCode.CANCELLED

    report = threading.excepthook

    def ended(args: threading.ExceptHookArgs) -> None:
        if not is_hang_up(args.exc_value) and getattr(args.thread, "name", "") != "read_state":
            report(args)

    threading.excepthook = ended
    logging.getLogger("apache_beam.runners.worker.data_plane").addFilter(
        lambda record: not (record.exc_info and is_hang_up(record.exc_info[1]))
    )
