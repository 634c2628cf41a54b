"""The Kubernetes manifests as documents, and the pods in them."""

from collections.abc import Iterator
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def documents(file: str) -> list[dict]:
    return [document for document in yaml.safe_load_all((FOLDER / file).read_text()) if document]


def all_documents() -> Iterator[tuple[str, dict]]:
    for file in FILES:
        for document in documents(file):
            yield file, document


def pod_specs(document: dict) -> list[dict]:
    """Pod specs in a document; those of a Flink cluster as the operator merges them, the common template first."""
    kind, spec = document["kind"], document.get("spec", {})
    if kind == "Job":
        return [spec["template"]["spec"]]
    if kind == "FlinkDeployment":
        return [
            {**spec.get("podTemplate", {}).get("spec", {}), **spec[part].get("podTemplate", {}).get("spec", {})}
            for part in ("jobManager", "taskManager")
        ]
    if kind == "SparkCluster":
        return [spec[part]["statefulSetSpec"]["template"]["spec"] for part in ("masterSpec", "workerSpec")]
    return []


def containers(document: dict) -> list[dict]:
    return [
        container
        for spec in pod_specs(document)
        for container in spec.get("initContainers", []) + spec.get("containers", [])
    ]
