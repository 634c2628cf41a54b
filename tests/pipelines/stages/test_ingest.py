"""Results become entries unless they are nonsense: every one is counted, as an entry or by its reason."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from dft.tables import result_batch
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.relax import Frame, Relaxation, RelaxationFailure
from gnome_core.stability.references import ElementalReferences
from pipelines.beam import tags
from pipelines.stages.ingest import ToEntries
from tests.gnome_core.stability.samples import row, salt, tetrafluoride

REFERENCES = ElementalReferences("test", {9: -1.9, 11: -1.3, 17: -1.9, 24: -9.5, 29: -4.1})


def relaxed(crystal: Crystal, e_form: float) -> Relaxation:
    """A converged relaxation, whatever it ended in."""
    energy = crystal.n_sites * e_form + sum(REFERENCES.energies[z] for z in crystal.numbers.tolist())
    return Relaxation([Frame(0, crystal, energy, np.zeros((crystal.n_sites, 3)), np.zeros((3, 3)))], None)


def test_nonsense_is_rejected_by_name_and_all_counts_add_up():
    outcomes = {
        "good": relaxed(salt(2.8), -2.0),
        "blown": relaxed(tetrafluoride(55.0), -2.3),
        "rows": relaxed(row(7.0), 0.4),
        "apart": relaxed(salt(7.0), -0.5),
        "close": relaxed(Crystal(4.4 * (np.ones((3, 3)) - np.eye(3)) / 2, [[0, 0, 0], [0.2] * 3], [29, 29]), 1.0),
        "deep": relaxed(salt(2.8), -5.5),
        "high": relaxed(salt(2.8), 3.5),
        "failed": RelaxationFailure("exploded", "the volume grew", []),
    }
    expected = {
        "implausible_volume": 1,
        "separate_fragments": 1,
        "isolated_atom": 1,
        "implausible_distance": 1,
        "implausible_energy": 2,
        "exploded": 1,
    }
    stage = ToEntries("", 1)
    stage.references, stage.parents, stage.random = REFERENCES, dict.fromkeys(outcomes, "parent"), set()
    batch = result_batch(list(outcomes), [salt(2.8)] * len(outcomes), list(outcomes.values()), "test")
    counts, entries = Counter(), []
    for made in stage.process(batch):
        if isinstance(made, pa.RecordBatch):
            entries.append(made)
        else:
            counts[made.value[0]] += made.value[1]
    (entry,) = entries
    assert entry["job"].to_pylist() == ["good"]
    assert entry["e_form_per_atom"][0].as_py() == pytest.approx(-2.0)
    assert crystals_from_batch(entry)[0].n_sites == 2
    assert counts == {tags.IN: len(outcomes)} | {tags.rejected(reason): n for reason, n in expected.items()}
    assert counts[tags.IN] == len(entry) + sum(expected.values())
