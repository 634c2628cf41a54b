"""Terraform: parses, refers to what there is, and grants what is listed here and nothing else."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "terraform"
# Every role there is, and on what it may be granted: a new one is added here on purpose.
ROLES = {
    "roles/storage.objectUser": "google_storage_bucket_iam_member",
    "roles/artifactregistry.reader": "google_artifact_registry_repository_iam_member",
    "roles/dataflow.worker": "google_project_iam_member",
    "roles/dataflow.developer": "google_project_iam_member",
    "roles/iam.serviceAccountUser": "google_service_account_iam_member",
    "roles/iam.serviceAccountTokenCreator": "google_service_account_iam_member",
    "roles/iam.workloadIdentityUser": "google_service_account_iam_member",
}


@pytest.fixture(scope="module")
def parsed() -> dict[str, list]:
    """Blocks of all files by kind."""
    hcl2 = pytest.importorskip("hcl2", reason="pip install -e '.[deploy]'")
    blocks: dict[str, list] = {}
    for path in sorted(FOLDER.glob("*.tf")):
        with open(path) as file:
            for kind, found in _plain(hcl2.load(file)).items():
                if isinstance(found, list):
                    blocks.setdefault(kind, []).extend(found)
    return blocks


def _plain(value):
    """The parser keeps quotes around strings and labels."""
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.strip('"') if isinstance(value, str) else value


def resources(parsed) -> dict[str, dict]:
    """type.name -> its arguments."""
    return {
        f"{kind}.{name}": body
        for block in parsed["resource"]
        for kind, named in block.items()
        if isinstance(named, dict)
        for name, body in named.items()
        if isinstance(body, dict)
    }


def test_every_reference_has_its_block(parsed):
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.tf"))
    code = re.sub(r"#.*", "", text)
    declared = {name for block in parsed["variable"] for name in block if not name.startswith("__")}
    assert set(re.findall(r"\bvar\.(\w+)", code)) == declared, "all used, all declared"
    assert set(re.findall(r"\b(google_\w+\.\w+)", code)) <= set(resources(parsed))
    for block in parsed["variable"]:
        for name, body in block.items():
            if isinstance(body, dict):
                assert {"description", "type"} <= set(body), name


def test_roles_are_the_listed_ones_on_the_narrowest_thing(parsed):
    granted = {(body["role"], name.split(".")[0]) for name, body in resources(parsed).items() if "role" in body}
    assert granted == set(ROLES.items())
    members = [name for name in resources(parsed) if "_iam_" in name]
    assert all("_iam_member." in name for name in members), "a binding or policy would take rights from others"
    assert not any("google_service_account_key" in name for name in resources(parsed))


def test_the_bucket_is_closed_and_forgives(parsed):
    bucket = resources(parsed)["google_storage_bucket.stores"]
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == "enforced"
    assert bucket["force_destroy"] is False
    for rule in bucket["lifecycle_rule"]:
        action = rule["action"][0]["type"]
        assert action == "AbortIncompleteMultipartUpload" or rule["condition"][0]["matches_prefix"] == ["dataflow/"]


def test_files_are_formatted():
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("terraform is missing; install it to check the format")
    result = subprocess.run([terraform, "fmt", "-check", "-diff", str(FOLDER)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
