"""Every stage's graph as a service would get it: labels, coders, resource hints. Nothing is run."""

import shutil
from collections import Counter
from functools import cache, partial

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.coders import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import PipelineVisitor
from apache_beam.typehints import typehints

from gnome_core.generation.parents import ParentTable
from pipelines.beam.options import network_hints
from pipelines.beam.runners import DEFAULT_FLAGS
from pipelines.rounds import driver, manifest
from pipelines.rounds.config import EvaluationConfig
from pipelines.rounds.plan import inputs_of, stages_of
from pipelines.stages import evaluate, generate
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


def build(root: str, round_: int, stage: str, flags: tuple[str, ...], **settings) -> beam.Pipeline:
    store, found = Store(root), []
    config = driver.load_round_config(store, round_)
    evaluation = config.evaluation.model_copy(update={"batch_size": 64})
    config = config.model_copy(update={"evaluation": evaluation, **settings})

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


def test_relaxations_before_jobs_ask_for_one_too(two_rounds, tmp_path):
    shutil.copytree(two_rounds, tmp_path / "store")
    evaluation = EvaluationConfig(evaluator="espresso", pre_relax="chgnet")
    hints = hints_of(build(str(tmp_path / "store"), 1, "emit", GPU, evaluation=evaluation))
    assert {label.split("/")[0] for label, hint in hints.items() if ACCELERATOR in hint} == {"MakeJobs"}


def test_potentials_ask_for_one_too(two_rounds):
    training = driver.load_round_config(Store(str(two_rounds)), 1).training.model_copy(update={"potential": True})
    pipeline = build(str(two_rounds), 1, "train", GPU, training=training)
    hints = {label.split("/")[0]: hint for label, hint in hints_of(pipeline).items() if ACCELERATOR in hint}
    assert hints.keys() == {"Train", "TrainPotential", "Disagreement"}
    assert {label for label, hint in hints.items() if BUNDLES in hint} == {"Train", "TrainPotential"}
    assert tables_of(pipeline)


@pytest.mark.parametrize(("round_", "stage"), STAGES)
def test_tables_never_cross_a_shuffle_as_pickles(round_, stage, graph):
    tables = tables_of(graph(round_, stage, ()))
    assert tables or stage == "snapshot", "a labelled one is written by the driver, which has checked its rows"


def tables_of(pipeline: beam.Pipeline) -> list[str]:
    """Labels of the steps that give tables, of which none may be pickled."""
    seen: list[tuple[str, object]] = []

    class Outputs(PipelineVisitor):
        def visit_transform(self, node) -> None:
            seen.extend((node.full_label, output.element_type) for output in node.outputs.values())

    pipeline.visit(Outputs())
    assert seen
    untyped = [label for label, kind in seen if kind is typehints.Any and not _is_beams_own(label)]
    assert untyped == [], "the type decides the coder"
    tables = [(label, kind) for label, kind in seen if "pyarrow" in str(kind)]
    for label, kind in tables:
        assert not fallbacks(kind), f"{label}: {kind}"
    return [label for label, _ in tables]


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


MANY = 31_000
LARGEST = 300_000  # bytes of a graph; Dataflow refuses more than 10 MB


@pytest.fixture(scope="module")
def many(tiny) -> pa.Table:
    """The entries of the small snapshot again and again, each copy a little larger than the one before."""
    entries = pq.read_table(tiny / "snapshot.parquet")
    rows = pa.concat_tables([entries] * (MANY // len(entries) + 1)).slice(0, MANY).combine_chunks()
    copies = np.arange(MANY) // len(entries)
    lattices = rows["lattice"].combine_chunks().flatten().to_numpy().reshape(-1, 9) * (1 + 1e-5 * copies[:, None])
    rows = rows.set_column(1, rows.schema.field("lattice"), pa.array(list(lattices), rows.schema.field("lattice").type))
    ids = [f"{id_}-{copy}" for id_, copy in zip(rows["id"].to_pylist(), copies, strict=True)]
    return rows.set_column(0, rows.schema.field("id"), pa.array(ids))


def size(pipeline: beam.Pipeline) -> int:
    return pipeline.to_runner_api().ByteSize()


@pytest.mark.parametrize(("round_", "stage"), STAGES)
def test_graphs_are_small(round_, stage, graph):
    assert size(graph(round_, stage, ())) < LARGEST


@pytest.mark.parametrize("kind", ["labelled", "unlabelled", "again", "broken"])
def test_no_crystal_of_a_large_snapshot_is_in_the_graph(kind, many, two_rounds, tmp_path):
    table = many.drop_columns(["e_form_per_atom"]) if kind in ("unlabelled", "broken") else many
    if kind == "broken":  # every letter carries its row
        bad = pa.array([[0.0] * 9] * (MANY - 1) + [many["lattice"][0].as_py()], table.schema.field("lattice").type)
        table = table.set_column(1, table.schema.field("lattice"), bad)
    pq.write_table(table, tmp_path / "many.parquet")
    shutil.copytree(two_rounds, tmp_path / "store")
    settings = {"snapshot": str(tmp_path / "many.parquet"), "recompute": kind == "again"}
    assert size(build(str(tmp_path / "store"), 0, "snapshot", (), **settings)) < LARGEST


def test_no_job_is_in_the_graph(many, two_rounds, tmp_path, monkeypatch):
    shutil.copytree(two_rounds, tmp_path / "store")
    few = evaluate.proposals(str(tmp_path / "store"), 1)
    jobs = many.select(["id", "lattice", "frac_coords", "numbers"]).append_column(
        "protocol", pa.array(few["protocol"].to_pylist()[:1] * MANY)
    )
    monkeypatch.setattr(evaluate, "proposals", lambda *_: jobs)
    assert size(build(str(tmp_path / "store"), 1, "evaluate", ())) < LARGEST


def test_no_parent_is_in_the_graph(two_rounds, tmp_path, monkeypatch):
    shutil.copytree(two_rounds, tmp_path / "store")
    few = generate.parent_table(str(tmp_path / "store"), 0)
    columns = (few.ids, few.crystals, few.oxidation, few.formulas)
    parents = ParentTable(*(list(column) * (MANY // len(few)) for column in columns))
    monkeypatch.setattr(generate, "parent_table", lambda *_: parents)
    assert size(build(str(tmp_path / "store"), 1, "generate", ())) < LARGEST
