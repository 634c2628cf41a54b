"""Beam options: what runs a stage where the user says nothing, and what is refused."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence

from pipelines.errors import UserError

# DirectRunner would pick its engine by whether a download succeeds; this is the one that tests cover.
DEFAULT_FLAGS = ("--runner=FnApiRunner", "--direct_running_mode=in_memory", "--default_sdk_harness_log_level=ERROR")
VERBOSE_FLAG = "--default_sdk_harness_log_level=INFO"


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
    """Run the graph that `build(pipeline)` makes, wait, return its counters. Raises what a step raised, or Launched."""
    import apache_beam as beam

    from pipelines import options  # noqa: F401  Beam then knows our own
    from pipelines.metrics import counters

    pipeline = beam.Pipeline(**_runner_and_options(flags))
    build(pipeline)
    result = pipeline.run()
    if not getattr(result, "has_job", True):  # the launcher of a Flex Template: what it wrote down runs without us
        raise Launched
    state = result.wait_until_finish()
    if state != "DONE":
        raise RuntimeError(f"the pipeline ended in state {state}; its log says why")
    return counters(result)


def _runner_and_options(flags: Sequence[str]) -> dict:
    """Beam's own, but for worker processes on this machine: they run `pipelines.worker`."""
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

    options = PipelineOptions(list(flags), save_main_session=False)
    direct, runner = options.view_as(DirectOptions), options.view_as(StandardOptions).runner
    if runner != "FnApiRunner" or direct.direct_running_mode != "multi_processing":
        return {"options": options}
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    direct.direct_running_mode = None  # else the runner puts its own environment in place of this one
    workers = SubprocessSDKEnvironment.from_command_string(f"{shlex.quote(sys.executable)} -m pipelines.worker")
    return {"runner": FnApiRunner(default_environment=workers), "options": options}
