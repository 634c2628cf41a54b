"""What tests of the command line share."""

import pytest


@pytest.fixture(autouse=True)
def _ends_by_exception(monkeypatch):
    """`main`, called in a test's own process, raises SystemExit even where another test ran pipelines there before:
    ending the process at once would end the tests."""
    monkeypatch.setattr("pipelines.beam.apart.has_run", lambda: False)
    monkeypatch.setattr("pipelines.cli.app.has_run", lambda: False, raising=False)
