"""docs/errors.md names every reason by which something is left out."""

import ast
import re
from collections.abc import Iterator

import pyarrow as pa
import pytest

from gnome_core.analysis.superionic import COLUMNS, read_measurements
from tests.conftest import ROOT

# Calls that take a reason, and its position among their arguments.
TAKES_REASON = {
    "InvalidCrystal": 0,
    "NoPhonons": 0,
    "Rejected": 1,
    "RelaxationFailure": 0,
    "OutputError": 0,
    "StepFailed": 0,
    "Problem": 0,
    "Ending": 1,
    "DeadLetter": 2,
    "rejected": 0,
    "BadFormula": 0,
}
PAGE = (ROOT / "docs" / "errors.md").read_text()
PACKAGES = ("gnome_core", "dft", "pipelines")
SOURCES = [path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


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


@pytest.mark.parametrize("package", PACKAGES)
def test_every_reason_is_on_the_page(package):
    found = {reason for path in (ROOT / package).rglob("*.py") for reason in reasons(path.read_text())}
    assert sorted(reason for reason in found if f"`{reason}`" not in PAGE) == []


def test_reasons_are_found():
    source = (
        'class A:\n    reason = "one"\nraise InvalidCrystal("two", "words")\nRejected(key, "three", "words", b"")\n'
    )
    assert set(reasons(source)) == {"one", "two", "three"}


def test_reasons_of_conductors_are_on_the_page():
    empty = pa.table({name: pa.array([], pa.string()) for name in COLUMNS})
    assert [reason for reason in read_measurements(empty).skipped if f"`{reason}`" not in PAGE] == []


def literals(source: str) -> Iterator[str]:
    return (
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.fixture(scope="module")
def printed() -> str:
    return "\n".join(text.replace("`", "") for source in SOURCES for text in literals(source))


def quotes() -> list[str]:
    """What the first table quotes in its first column."""
    rows = re.findall(r"^\| (`.*?`.*?) \| ", PAGE.split("## Commands")[1].split("\n## ")[0], re.MULTILINE)
    return [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]


# What stands for something else in a quote.
PLACEHOLDERS = r"\.\.\.|\b[NM]\b|rNNNN/STAGE|\bPo\b|jax 0\.10\.2|[;()]"


@pytest.mark.parametrize("quote", quotes())
def test_what_the_page_quotes_is_what_is_printed(quote, printed):
    pieces = [piece.strip(" ,:?") for piece in re.split(PLACEHOLDERS, quote)]
    assert [piece for piece in pieces if piece and piece not in printed] == []


def test_quotes_are_found():
    assert len(quotes()) > 20


def test_the_page_names_no_reason_that_there_is_not(printed):
    tables = PAGE.split("## Files of crystals")[1]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", tables)) - {"max_steps"}
    assert sorted(named - set(printed.splitlines())) == []
