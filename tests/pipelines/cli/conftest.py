"""What tests of the command line share."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.crystal import Crystal
from tests.gnome_core.potentials.samples import FCC

POLONIDE = Crystal(6.6 * FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 84])  # of an element that CHGNet does not know


def write_cifs(folder: Path, crystals: Mapping[str, Crystal]) -> Path:
    """The folder, with a CIF file of each crystal and one that is broken."""
    for name, crystal in crystals.items():
        (folder / f"{name}.cif").write_text(format_cif(crystal, name))
    (folder / "broken.cif").write_text("data_x\nnothing\n")
    return folder


@pytest.fixture(autouse=True)
def _ends_by_exception(monkeypatch):
    """`main`, called in a test's own process, raises SystemExit: ending the process at once would end the tests."""

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr("pipelines.beam.apart.leave", leave)
