"""docs/errors.md names every reason by which something is left out."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

# Calls that take a reason, and its position among their arguments.
TAKES_REASON = {
    "InvalidCrystal": 0,
    "Rejected": 1,
    "RelaxationFailure": 0,
    "OutputError": 0,
    "StepFailed": 0,
    "Problem": 0,
}


def reasons(source: str) -> Iterator[str]:
    """Literal reasons: given to one of those calls, or the class attribute `reason` of an error."""
    for node in ast.walk(ast.parse(source)):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TAKES_REASON:
            given = node.args[TAKES_REASON[node.func.id] :][:1]
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "reason" for t in node.targets):
            given = [node.value]
        for value in given:
            if isinstance(value, ast.Constant) and re.fullmatch(r"[a-z][a-z0-9_]*", str(value.value)):
                yield str(value.value)


@pytest.mark.parametrize("package", ["gnome_core", "dft", "pipelines"])
def test_every_reason_is_on_the_page(package):
    page = (ROOT / "docs" / "errors.md").read_text()
    found = {reason for path in (ROOT / package).rglob("*.py") for reason in reasons(path.read_text())}
    assert sorted(reason for reason in found if f"`{reason}`" not in page) == []


def test_reasons_are_found():
    source = (
        'class A:\n    reason = "one"\nraise InvalidCrystal("two", "words")\nRejected(key, "three", "words", b"")\n'
    )
    assert set(reasons(source)) == {"one", "two", "three"}
