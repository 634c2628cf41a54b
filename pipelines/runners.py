"""Beam options: what runs a stage where the user says nothing, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.errors import UserError

# DirectRunner would pick its engine by whether a download succeeds; this is the one that tests cover.
DEFAULT_FLAGS = ("--runner=FnApiRunner", "--direct_running_mode=in_memory")


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


def run_pipeline(flags: Sequence[str], build: Callable) -> dict[str, int]:
    """Run the graph that `build(pipeline)` makes, wait, and return its counters. Raises what a step raised."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipelines.metrics import counters

    pipeline = beam.Pipeline(options=PipelineOptions(list(flags), save_main_session=False))
    build(pipeline)
    result = pipeline.run()
    state = result.wait_until_finish()
    if state != "DONE":
        raise RuntimeError(f"the pipeline ended in state {state}; its log says why")
    return counters(result)
