"""What tests of the command line share."""

import pytest


@pytest.fixture(autouse=True)
def _ends_by_exception(monkeypatch):
    """`main`, called in a test's own process, raises SystemExit: ending the process at once would end the tests."""

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr("pipelines.beam.apart.leave", leave)
