"""Every stage's graph as a service would get it: labels, coders, resource hints. Nothing is run."""

import shutil
from collections import Counter
from functools import cache, partial

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import PipelineVisitor
from apache_beam.typehints import typehints

from pipelines.beam.options import network_hints
from pipelines.beam.runners import DEFAULT_FLAGS
from pipelines.rounds import driver, manifest
from pipelines.rounds.plan import inputs_of, stages_of
from pipelines.store.records import Attempt
from pipelines.store.store import Store

GPU = ("--accelerator=type:nvidia-l4;count:1;install-nvidia-driver", "--accelerator_min_ram=32GB")
STAGES = [(0, "snapshot"), *((1, stage) for stage in stages_of(1))]
NETWORK_STEPS = {
    "score": ("Screen", "Predict"),
    "evaluate": ("Evaluate",),
    "train": ("Train",),
}
ACCELERATOR, RAM = "beam:resources:accelerator:v1", "beam:resources:min_ram_bytes:v1"
BUNDLES = "beam:resources:max_active_bundles_per_worker:v1"


class Built(BaseException):
    """Stops a stage once its graph is there."""


def build(root: str, round_: int, stage: str, flags: tuple[str, ...]) -> beam.Pipeline:
    store, found = Store(root), []
    config = driver.load_round_config(store, round_)

    def capture(_, make) -> None:
        pipeline = beam.Pipeline(options=PipelineOptions([*DEFAULT_FLAGS, *flags]))
        make(pipeline)
        found.append(pipeline)
        raise Built

    inputs = {commit.key: commit for key in inputs_of(round_, stage) if (commit := store.commit(*key))}
    job = driver.Job(store, round_, config, inputs, Attempt(round_, stage, "graph"), flags)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "run_pipeline", capture)
        with pytest.raises(Built):
            driver._module(stage).run(job)
    return found[0]


@pytest.fixture(scope="module")
def graph(two_rounds, tmp_path_factory):
    """graph(round, stage, flags) -> that stage's pipeline, built once."""
    path = tmp_path_factory.mktemp("graphs") / "store"
    shutil.copytree(two_rounds, path)
    return cache(partial(build, str(path)))


def hints_of(pipeline: beam.Pipeline) -> dict[str, dict[str, bytes]]:
    """Label of each primitive step -> the resource hints of its environment."""
    components = pipeline.to_runner_api().components
    return {
        step.unique_name: dict(components.environments[step.environment_id].resource_hints)
        for step in components.transforms.values()
        if not step.subtransforms and step.environment_id
    }


@pytest.mark.parametrize(("round_", "stage"), STAGES)
def test_only_steps_that_run_networks_ask_for_an_accelerator(round_, stage, graph):
    assert all(not hints for hints in hints_of(graph(round_, stage, ())).values())
    hints = hints_of(graph(round_, stage, GPU))
    asking = {label.split("/")[0] for label, hint in hints.items() if ACCELERATOR in hint}
    assert asking == set(NETWORK_STEPS.get(stage, ()))
    for hint in filter(None, hints.values()):
        assert hint[ACCELERATOR] == b"type:nvidia-l4;count:1;install-nvidia-driver"
        assert hint[RAM] == b"32000000000"
        assert (BUNDLES in hint) == (stage == "train"), "one member at a time has the device"


@pytest.mark.parametrize(("round_", "stage"), STAGES)
def test_tables_never_cross_a_shuffle_as_pickles(round_, stage, graph):
    pipeline = graph(round_, stage, ())
    seen: list[tuple[str, object]] = []

    class Outputs(PipelineVisitor):
        def visit_transform(self, node) -> None:
            seen.extend((node.full_label, output.element_type) for output in node.outputs.values())

    pipeline.visit(Outputs())
    assert seen
    untyped = [label for label, kind in seen if kind is typehints.Any and not _is_beams_own(label)]
    assert untyped == [], "the type decides the coder"
    tables = [(label, kind) for label, kind in seen if "pyarrow" in str(kind)]
    assert tables or stage == "snapshot", "a labelled one is written by the driver, which has checked its rows"
    for label, kind in tables:
        assert not fallbacks(kind), f"{label}: {kind}"


def fallbacks(kind) -> list:
    """The parts of a type that hold a table and that Beam would pickle."""
    if isinstance(kind, typehints.TupleConstraint):
        return [found for part in kind.tuple_types for found in fallbacks(part)]
    coder = beam.coders.registry.get_coder(kind)
    return [kind] if "pyarrow" in str(kind) and isinstance(coder, PICKLING) else []


PICKLING = (coders.FastPrimitivesCoder, coders.PickleCoder)


def _is_beams_own(label: str) -> bool:
    """Steps inside Beam's composites, whose elements are keys and pairs of its own, or that hold one None."""
    return "/" in label or label in ("Write", "Manifest")


@pytest.mark.parametrize(("round_", "stage"), STAGES)
def test_labels_are_unique_and_those_of_another_build(round_, stage, graph):
    def labels(flags: tuple[str, ...]) -> list[str]:
        components = graph(round_, stage, flags).to_runner_api().components
        return sorted(step.unique_name for step in components.transforms.values())

    first = labels(())
    assert max(Counter(first).values()) == 1
    assert first == labels(GPU)


def test_hints_are_strings_and_only_where_asked_for():
    assert network_hints(["--runner=FnApiRunner"]) == {}
    hints = network_hints(GPU, exclusive=True)
    assert set(hints) == {"accelerator", "min_ram", "max_active_bundles_per_worker"}
    assert all(isinstance(value, str) for value in hints.values())


def test_our_coder_is_the_registered_one():
    for kind in (pa.RecordBatch, pa.Table):
        assert type(beam.coders.registry.get_coder(kind)).__module__ == "pipelines.beam.coders"
