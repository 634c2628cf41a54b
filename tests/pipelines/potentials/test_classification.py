"""Superionic by a potential and by its references: twelve materials, as the command is given them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gnome_core.analysis.diffusion import SUPERIONIC
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.crystals.crystal import Crystal
from pipelines.cli.app import app
from pipelines.errors import UserError
from pipelines.potentials import superionic_screen
from pipelines.potentials.classification import read_references
from pipelines.potentials.conductivity import CONDUCTIVITY_SCHEMA
from tests.gnome_core.analysis.samples import rock_salt

SALTS = [(metal, halogen) for metal in (3, 11, 19) for halogen in (9, 17, 35, 53)]  # (Li, Na, K)(F, Cl, Br, I)
REFERENCE = [0.0, 1.0, 2.0, 5.0, 10.0, 14.0, 16.0, 20.0, 100.0, 400.0, 1000.0, 3000.0]  # mS/cm; six are superionic


def references(**columns) -> pa.Table:
    batch = record_batch(
        pa.schema(CRYSTAL_FIELDS), [f"salt-{i}" for i in range(12)], [rock_salt(*salt, 5.6) for salt in SALTS]
    )
    table = pa.Table.from_batches([batch]).append_column("conductivity", pa.array(REFERENCE))
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def test_one_command_tells_how_often_a_potential_agrees(tmp_path, monkeypatch):
    pq.write_table(references(), tmp_path / "aimd.parquet")
    asked = []

    def ran(tasks, out, potential, config, skip, flags):
        """Ten times less than the reference for one, ten times more for another, a melt, a run that broke off."""
        Path(out).mkdir()
        asked.extend((task.crystal["id"][0].as_py(), task.ion, task.temperature) for task in tasks)
        found = np.array(REFERENCE) * 1.02
        found[6], found[4] = 1.6, 100.0
        rows = []
        for (id_, ion, kelvin), sigma in zip(asked, found.tolist(), strict=True):
            row = {"id": id_, "ion": ion, "temperature": kelvin, "trajectory": "t", "conductivity": sigma}
            row |= {"framework_msd": 40.0 if id_ == "salt-9" else 0.2}
            row |= {"stopped": "exploded at 1 ps", "conductivity": None} if id_ == "salt-11" else {}
            rows.append(dict.fromkeys(CONDUCTIVITY_SCHEMA.names) | row)
        return pa.Table.from_pylist(rows[::-1], CONDUCTIVITY_SCHEMA)

    monkeypatch.setattr(superionic_screen, "run_tasks", ran)
    out = CliRunner().invoke(
        app, ["potential", "classify", str(tmp_path / "aimd.parquet"), "-o", str(tmp_path / "out")]
    )
    assert out.exit_code == 0, out.output
    assert asked[0] == ("salt-0", "Li", 1000.0)
    assert asked[-1] == ("salt-11", "K", 1000.0)
    table = pq.read_table(tmp_path / "out" / "classification.parquet")
    rows = {row["id"]: row for row in table.to_pylist()}
    assert sum(row["reference_conductivity"] > SUPERIONIC for row in rows.values()) == 6
    assert (rows["salt-9"]["superionic"], rows["salt-9"]["verdict"]) == (None, "melted")
    assert rows["salt-11"]["superionic"] is None
    assert (rows["salt-6"]["superionic"], rows["salt-6"]["reference_superionic"]) == (False, True)
    said = dict(line.rsplit(maxsplit=1) for line in out.stdout.splitlines() if line[:1].islower())
    assert said["with an answer"] == "10"
    assert said["classification error"] == "0.2"
    assert (said["called superionic, and are not"], said["superionic, and missed"]) == ("1", "1")
    assert (tmp_path / "out" / "classification.csv").read_text().count("\n") == 13


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"conductivity": [-1.0] * 12}, r"row 0 \(salt-0\): conductivity is -1.0"),
        ({"conductivity": ["high"] * 12}, r"row 0 \(salt-0\): conductivity: 'high' is no number"),
        ({"ion": ["Na"] * 12}, r"row 0 \(salt-0\): Na in LiF; the ion must be one of Li, Na, K, Mg, Ca"),
        ({"ion": ["Fe"] * 12}, r"row 0 \(salt-0\): Fe in LiF"),
    ],
)
def test_mistakes_name_the_row(tmp_path, columns, message):
    table = references().drop_columns([name for name in columns if name == "conductivity"])
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, tmp_path / "aimd.parquet")
    with pytest.raises(UserError, match=message):
        read_references(tmp_path / "aimd.parquet")


def test_tables_that_are_none_are_told(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_references(tmp_path / "none.parquet")
    pq.write_table(references().drop_columns(["conductivity"]), tmp_path / "short.parquet")
    with pytest.raises(UserError, match="lacks the columns conductivity"):
        read_references(tmp_path / "short.parquet")
    lithium = record_batch(pa.schema(CRYSTAL_FIELDS), ["li"], [Crystal(3 * np.eye(3), [[0, 0, 0]], [3])])
    table = pa.Table.from_batches([lithium]).append_column("conductivity", pa.array([1.0]))
    pq.write_table(table, tmp_path / "metal.parquet")
    with pytest.raises(UserError, match="no ion in Li; the ion must be"):
        read_references(tmp_path / "metal.parquet")
