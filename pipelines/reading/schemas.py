"""Schemas of the tables that stages hand to each other (crystals, entries, recipes and jobs have theirs at home)."""

from __future__ import annotations

import pyarrow as pa

from dft.tables import JOB_SCHEMA
from gnome_core.crystals.arrow import CRYSTAL_FIELDS
from gnome_core.generation.recipe import RECIPE_SCHEMA


def _extend(schema: pa.Schema, name: str, *fields: pa.Field) -> pa.Schema:
    return pa.schema([*schema, *fields], metadata={"schema": f"gnome.{name}", "schema_version": "1"})


CANDIDATE_SCHEMA = _extend(
    RECIPE_SCHEMA,
    "candidate",
    pa.field("digest", pa.binary(16), nullable=False),  # of the recipe
    pa.field("formula", pa.string(), nullable=False),
    pa.field("chemsys", pa.string(), nullable=False),
)

SCORED_SCHEMA = _extend(
    CANDIDATE_SCHEMA,
    "scored",
    pa.field("median", pa.float64(), nullable=False),  # formation energy over members, eV/atom
    pa.field("iqr", pa.float64(), nullable=False),  # eV/atom; 0 where one member looked
    pa.field("evaluations", pa.int32(), nullable=False),  # of members on the candidate's graph
    pa.field("refined", pa.bool_(), nullable=False),  # predicted by the whole ensemble at 20 volumes
    pa.field("best_volume_factor", pa.float64(), nullable=False),  # over the expanded recipe's volume
    pa.field("e_above_hull", pa.float64(), nullable=False),  # of the median, eV/atom, negative = below the hull
)

PACKING_SCHEMA = pa.schema(
    [
        pa.field("formula", pa.string(), nullable=False),
        pa.field("begun", pa.int64(), nullable=False),  # random structures of it
        pa.field("failed", pa.int64(), nullable=False),  # those whose atoms found no room
    ],
    metadata={"schema": "gnome.packing", "schema_version": "1"},
)

SELECTED_SCHEMA = _extend(
    SCORED_SCHEMA,
    "selected",
    pa.field("selected_by_model", pa.bool_(), nullable=False),
    pa.field("selected_by_random", pa.bool_(), nullable=False),
    pa.field("selected_to_explore", pa.bool_(), nullable=False),  # for its spread; not among the models' best then
    pa.field("estimated_cost", pa.float64(), nullable=False),  # of its DFT relaxation; 1 = the two atoms of silicon
    pa.field("cluster_size", pa.int32(), nullable=False),  # its composition's best candidates that are this structure
)

PROPOSAL_SCHEMA = _extend(
    JOB_SCHEMA,
    "proposal",
    *(field for field in SELECTED_SCHEMA if field.name not in JOB_SCHEMA.names),
    pa.field("parent_id", pa.string()),  # entry id of row `parent`; null for candidates without one
)

HULL_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("formula", pa.string(), nullable=False),
        pa.field("chemsys", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),  # 0 = snapshot
        pa.field("e_form_per_atom", pa.float64(), nullable=False),
        pa.field("e_above_hull_snapshot", pa.float64(), nullable=False),  # against the snapshot's hull; may be negative
        pa.field("e_above_hull", pa.float64(), nullable=False),  # against the hull of all entries
        pa.field("e_above_hull_others", pa.float64()),  # against all but itself; null for an element's only entry
        pa.field("phase_separation_energy", pa.float64()),  # against all other compositions; null for elements
        pa.field("on_hull", pa.bool_(), nullable=False),  # one a composition, within 5e-5 eV/atom
    ],
    metadata={"schema": "gnome.hull_entry", "schema_version": "1", "unit": "eV/atom"},
)

CONVERGENCE_SCHEMA = pa.schema(
    [
        pa.field("formula", pa.string(), nullable=False),
        pa.field("runs", pa.int64(), nullable=False),  # random structures of it with a result
        pa.field("converged", pa.int64(), nullable=False),  # those that became entries
        pa.field("e_form_per_atom", pa.float64()),  # the lowest of them, eV/atom
    ],
    metadata={"schema": "gnome.convergence", "schema_version": "1", "unit": "eV/atom"},
)

MEMBER_SCHEMA = pa.schema(
    [
        pa.field("framework", pa.string(), nullable=False),
        pa.field("member", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # "member-003": sorts as members do
        pa.field("weights", pa.string(), nullable=False),  # digest of the arrays
        pa.field("epochs", pa.int32(), nullable=False),
        pa.field("n_train", pa.int32(), nullable=False),
        pa.field("n_val", pa.int32(), nullable=False),
        pa.field("train_mae", pa.float64(), nullable=False),  # eV/atom
        pa.field("val_mae", pa.float64()),
    ],
    metadata={"schema": "gnome.member", "schema_version": "1", "unit": "eV/atom"},
)

POTENTIAL_SCHEMA = pa.schema(
    [
        pa.field("member", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # "potential-000": the one that is used by name
        pa.field("weights", pa.string(), nullable=False),  # digest of the arrays
        pa.field("start", pa.string(), nullable=False),  # "round 1", "pretrained" or "scratch"
        pa.field("epochs", pa.int32(), nullable=False),
        pa.field("n_train", pa.int32(), nullable=False),  # frames
        pa.field("n_val", pa.int32(), nullable=False),
        pa.field("energy_mae", pa.float64()),  # of the frames that validated, as all errors; null without any
        pa.field("energy_rmse", pa.float64()),
        pa.field("force_mae", pa.float64()),  # by component
        pa.field("force_rmse", pa.float64()),
    ],
    metadata={
        "schema": "gnome.potential",
        "schema_version": "1",
        "unit.energy_mae": "eV/atom",
        "unit.energy_rmse": "eV/atom",
        "unit.force_mae": "eV/angstrom",
        "unit.force_rmse": "eV/angstrom",
    },
)

FLAGGED_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,  # the frame; id = job-step
        pa.field("formula", pa.string(), nullable=False),
        pa.field("chemsys", pa.string(), nullable=False),
        pa.field("job", pa.string(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("force_spread", pa.float64(), nullable=False),  # of the atom on which the committee disagrees most
    ],
    metadata={
        "schema": "gnome.flagged",
        "schema_version": "1",
        "unit.lattice": "angstrom",
        "unit.force_spread": "eV/angstrom",
    },
)

ORIGIN_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of the entry, where it became one
        pa.field("snapshot", pa.string(), nullable=False),  # as `gnome init --snapshot` was given
        pa.field("given_id", pa.string(), nullable=False),  # in that source
        pa.field("formula", pa.string(), nullable=False),
    ],
    metadata={"schema": "gnome.origin", "schema_version": "1"},
)

MERGED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of a crystal that another source holds too, and lower
        pa.field("same_as", pa.string(), nullable=False),  # id of the entry that stands for both
        pa.field("e_form_per_atom", pa.float64(), nullable=False),  # its own, eV/atom
    ],
    metadata={"schema": "gnome.merged", "schema_version": "1", "unit": "eV/atom"},
)
