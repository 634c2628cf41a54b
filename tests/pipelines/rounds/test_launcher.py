"""Stages as jobs that run without a driver, as Flex Templates launch them."""

import json
import shutil
from datetime import timedelta

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from pipelines.beam.environment import VERBOSE
from pipelines.errors import UserError
from pipelines.rounds import driver, launcher
from pipelines.rounds.gc import leftovers
from pipelines.rounds.plan import PROPOSE
from pipelines.store.store import Store
from tests.pipelines.conftest import digests
from tests.pipelines.rounds import template_runner
from tests.pipelines.store.gcs import FakeGcs

RUNNER = "--runner=tests.pipelines.rounds.template_runner.TemplateRunner"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The launcher sets its process up to log everything; what it sets ends with each test."""
    monkeypatch.setenv(VERBOSE, "1")


def _lost(store: Store) -> list[str]:
    return [found.path for found in leftovers(store, timedelta(0)) if "/attempts/" in found.path]


def test_launched_stages_commit_the_rows_of_a_driver(initialised, two_rounds, tmp_path):
    shutil.copytree(initialised, tmp_path / "store")
    store = Store(str(tmp_path / "store"))

    def launch(stage: str) -> None:
        launcher.main([f"--store={store.root}", f"--stage={stage}", RUNNER, "--accelerator=type:t4;count:1"])

    with pytest.raises(UserError, match="generate begins one"):
        launch("score")
    for stage in ("generate", "score", "select"):
        launch(stage)
        with pytest.raises(UserError, match=f"{stage} comes before|has no stage"):
            launch({"generate": "score", "score": "select", "select": "nonsense"}[stage])
        assert store.commit(1, stage) is None
        template_runner.run_handed_over()
    # The last job's manifest is taken by a driver, which runs nothing again.
    attempts = {stage: store.storage.children(f"rounds/r0001/{stage}/attempts") for stage in PROPOSE[:3]}
    list(driver.run_stages(store, 1, PROPOSE[:3]))
    assert attempts == {s: store.storage.children(f"rounds/r0001/{s}/attempts") for s in attempts}
    expected = digests(Store(str(two_rounds)))
    assert digests(store) == {key: expected[key] for key in digests(store)}
    assert {"1/generate", "1/score", "1/select"} <= set(digests(store))
    with pytest.raises(UserError, match="committed already"):
        launch("score")


def test_a_job_that_has_not_finished_is_not_taken(initialised, tmp_path):
    shutil.copytree(initialised, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    launcher.main([f"--store={store.root}", "--stage=generate", RUNNER])
    assert _lost(store) == [], "it may be running"
    template_runner.handed_over.clear()  # the job failed
    list(driver.run_stages(store, 1, ["generate"]))
    assert len(store.storage.children("rounds/r0001/generate/attempts")) == 2
    assert store.commit(1, "generate") is not None
    assert len(_lost(store)) == 1


def test_dataflows_own_runner_writes_the_job_down(initialised, tmp_path, monkeypatch):
    """Beam's DataflowRunner in a launcher, with a double of the storage service that it stages to."""
    pytest.importorskip("apitools", reason="pip install -e '.[gcp]'")
    from apache_beam.internal.gcp import auth

    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)  # nobody is asked who we are
    shutil.copytree(initialised, tmp_path / "store")
    store, job = Store(str(tmp_path / "store")), tmp_path / "job.json"
    list(driver.run_stages(store, driver.start_round(store, None), ["generate"]))
    with FakeGcs("lab") as gcs:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        launcher.main(
            [
                f"--store={store.root}",
                "--stage=score",
                "--runner=DataflowRunner",
                "--project=some-project",
                "--region=us-central1",
                "--job_name=score",
                "--temp_location=gs://lab/dataflow/tmp",
                "--staging_location=gs://lab/dataflow/staging",
                f"--template_location={job}",
                "--sdk_container_image=images/gnome-gpu:0.1.0",
                "--sdk_location=container",
                "--max_num_workers=7",
                "--disk_size_gb=50",
                "--accelerator=type:nvidia-l4;count:1;install-nvidia-driver",
            ]
        )
        staged = [name for name in gcs.buckets["lab"] if name.endswith("pipeline.pb")]
        graph = beam_runner_api_pb2.Pipeline.FromString(gcs.buckets["lab"][staged[0]].data)
    (pool,) = json.loads(job.read_text())["environment"]["workerPools"]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 7
    assert pool["diskSizeGb"] == 50
    images = {image["environmentId"]: image["containerImage"] for image in pool["sdkHarnessContainerImages"]}
    assert set(images.values()) == {"images/gnome-gpu:0.1.0"}
    asking = [
        id_
        for id_ in images
        if b"nvidia-l4" in graph.components.environments[id_].resource_hints.get("beam:resources:accelerator:v1", b"")
    ]
    assert len(images) == 2, "machines with a device and machines without"
    assert len(asking) == 1
    assert store.commit(1, "score") is None


def test_a_runner_that_waits_is_no_launch(initialised, tmp_path):
    shutil.copytree(initialised, tmp_path / "store")
    with pytest.raises(UserError, match="was run, not launched"):
        launcher.main([f"--store={tmp_path / 'store'}", "--stage=generate"])
