"""A runner that acts as DataflowRunner does in a Flex Template's launcher: the graph is handed over, no job is had."""

from types import SimpleNamespace

from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

handed_over: list = []


class TemplateRunner(PipelineRunner):
    def run_pipeline(self, pipeline, options):
        handed_over.append(pipeline)
        return SimpleNamespace(has_job=False)


def run_handed_over() -> None:
    """What the service does later."""
    pipeline = handed_over.pop()
    pipeline.runner = FnApiRunner()
    assert pipeline.run().wait_until_finish() == "DONE"
