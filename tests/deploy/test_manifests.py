"""Kubernetes manifests: valid by schema, and in agreement with each other, the images and Beam."""

import json
import re
from pathlib import Path

import apache_beam
import jsonschema
import pytest
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, _BeamArgumentParser

from tests.deploy.manifests import FILES, all_documents, containers, documents, pod_specs

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = "1.34"
OWN = {"FlinkDeployment": "flinkdeployment.json", "SparkCluster": "sparkcluster.json"}
DRIVERS = ("flink-round.yaml", "spark-round.yaml")


@pytest.fixture(scope="module")
def validate():
    """validate(document): raises for one that Kubernetes would refuse, or whose fields it does not know."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason="pip install -e '.[deploy]'")

    def check(document: dict) -> None:
        kubernetes.validate(document, KUBERNETES, strict=True)

    return check


@pytest.mark.parametrize("file", FILES)
def test_documents_are_valid(file, validate):
    assert documents(file)
    for document in documents(file):
        if own := OWN.get(document["kind"]):
            schema = json.loads(Path(__file__).with_name("schemas").joinpath(own).read_text())
            jsonschema.validate(document, schema)
            for spec in pod_specs(document):
                validate(_as_pod(spec))
        else:
            validate(document)


def _as_pod(spec: dict) -> dict:
    """A pod of an operator's template, with the containers' images that the operator fills in."""
    filled = [{"image": "filled-in", **container} for container in spec.get("containers", [])]
    spec = {**spec, "containers": filled or [{"name": "main", "image": "filled-in"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


def test_a_wrong_field_would_be_noticed(validate):
    job = documents("flink-round.yaml")[0]
    job["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(Exception, match="volumeMount"):
        validate(job)


def test_containers_are_bounded_and_have_no_rights():
    seen = 0
    for file, document in all_documents():
        for spec in pod_specs(document):
            security = spec.get("securityContext", {})
            assert security.get("runAsNonRoot"), file
            assert security.get("seccompProfile") == {"type": "RuntimeDefault"}, file
        for container in containers(document):
            if container["name"] in ("flink-main-container", "master", "worker"):
                continue  # the operators' own
            seen += 1
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), container["name"]
            assert "memory" in container["resources"]["limits"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
    assert seen >= 6


def test_images_are_targets_of_the_dockerfile():
    targets = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.M))
    ours = {
        container["image"]
        for _, document in all_documents()
        for container in containers(document)
        if container.get("image", "").startswith("IMAGES/")
    }
    names = {re.fullmatch(r"IMAGES/gnome-(\w+):VERSION", image)[1] for image in ours}
    assert names == {"worker", "gpu", "harness"}
    assert names <= targets


def _driver(file: str) -> tuple[dict, dict[str, str]]:
    """The driver's container and its Beam options."""
    container = documents(file)[-1]["spec"]["template"]["spec"]["containers"][0]
    flags = container["args"][container["args"].index("--") + 1 :]
    return container, dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)


@pytest.mark.parametrize("file", DRIVERS)
def test_drivers_are_given_options_that_beam_has(file):
    container, _ = _driver(file)
    parser = _BeamArgumentParser(allow_abbrev=False)
    for options in {str(kind): kind for kind in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    flags = container["args"][container["args"].index("--") + 1 :]
    assert parser.parse_known_args(flags)[1] == []


@pytest.mark.parametrize(("round_file", "cluster_file"), [(DRIVERS[0], "flink.yaml"), (DRIVERS[1], "spark.yaml")])
def test_driver_and_cluster_agree(round_file, cluster_file):
    container, flags = _driver(round_file)
    cluster = documents(cluster_file)[0]
    pool = next(c for c in containers(cluster) if c["name"] == "beam-worker-pool")
    assert pool["args"] == ["--worker_pool"]
    host, port = flags["environment_config"].split(":")
    assert (flags["environment_type"], host) == ("EXTERNAL", "localhost"), "the pool is in the worker's own pod"
    assert [int(port)] == [p["containerPort"] for p in pool["ports"]] == [pool["readinessProbe"]["tcpSocket"]["port"]]
    # The store is at one path for all who read it.
    store = container["args"][2]
    mounts = {mount["mountPath"] for c in (container, pool) for mount in c["volumeMounts"]}
    assert mounts == {"/" + store.split("/")[1]}
    jar = flags.get("flink_job_server_jar") or flags["spark_job_server_jar"]
    assert jar.endswith(f"-job-server-{apache_beam.__version__}.jar")
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    name = Path(jar).name.removesuffix(f"-{apache_beam.__version__}.jar")
    assert f"{name}:${{BEAM_VERSION}}" in dockerfile, "the image holds the jar"
    assert f"BEAM_VERSION={apache_beam.__version__}" in dockerfile
    assert str(Path(jar).parent) == "/opt/gnome/jars"


def test_flink_versions_agree():
    _, flags = _driver("flink-round.yaml")
    version = flags["flink_version"]
    assert version in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    assert f"flink-{version}-job-server" in flags["flink_job_server_jar"]
    for file in ("flink.yaml", "flink-gpu.yaml"):
        spec = documents(file)[0]["spec"]
        assert spec["flinkVersion"] == f"v{version.replace('.', '_')}"
        assert spec["image"].startswith(f"flink:{version}.")
    assert flags["flink_master"] == f"{documents('flink.yaml')[0]['metadata']['name']}-rest:8081"


def test_spark_takes_the_jar_from_the_shared_volume():
    container, flags = _driver("spark-round.yaml")
    cluster = documents("spark.yaml")[0]
    folder = next(variable["value"] for variable in container["env"] if variable["name"] == "TMPDIR")
    worker = next(c for c in containers(cluster) if c["name"] == "worker")
    assert any(folder.startswith(f"{mount['mountPath']}/") for mount in worker["volumeMounts"])
    assert flags["spark_rest_url"] == f"http://{cluster['metadata']['name']}-master-svc:6066"
    assert cluster["spec"]["sparkConf"]["spark.master.rest.enabled"] == "true"
    runtime = cluster["spec"]["runtimeVersions"]
    image = cluster["spec"]["sparkConf"]["spark.kubernetes.container.image"]
    assert image.startswith(f"apache/spark:{runtime['sparkVersion']}-scala{runtime['scalaVersion']}")
    assert runtime["sparkVersion"].split(".")[0] == flags["spark_version"]


def test_volumes_and_accounts_exist():
    found = {(document["kind"], document["metadata"]["name"]) for _, document in all_documents()}
    for file, document in all_documents():
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "gnome", file
        for spec in pod_specs(document):
            for volume in spec.get("volumes", []):
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in found
            if "serviceAccountName" in spec:
                assert ("ServiceAccount", spec["serviceAccountName"]) in found
            names = {volume["name"] for volume in spec.get("volumes", [])}
            for container in spec.get("initContainers", []) + spec.get("containers", []):
                assert {mount["name"] for mount in container.get("volumeMounts", [])} <= names


def test_a_gpu_worker_has_a_device_and_one_process():
    cluster = documents("flink-gpu.yaml")[0]
    pool = next(c for c in containers(cluster) if c["name"] == "beam-worker-pool")
    assert pool["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert cluster["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"] == "1"
