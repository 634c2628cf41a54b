"""What the report shows, as plain data: collect.py fills `ReportData` from committed stages, page.py draws it.

Nothing here reads a store. Energies are eV/atom on one `scale`; times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.reading.analyses import StoredAnalysis
from pipelines.reading.discoveries import StableCrystal
from pipelines.reading.outcomes import JOBS
from pipelines.reading.potentials import Figures
from pipelines.reading.relaxations import RelaxationPath

"""One row a job whose evaluation has ended, of every round; a composition that was searched is one row, its lowest."""

HULL_ENTRIES = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("numbers", pa.list_(pa.uint8())),  # atomic number of every site: the composition
        pa.field("e_form_per_atom", pa.float64()),
        pa.field("e_above_hull", pa.float64()),  # against the newest hull, >= 0
        pa.field("round", pa.int32()),  # 0 = snapshot
        pa.field("source", pa.string()),
    ]
)
"""One row an entry of the newest hull: the snapshot and everything ingested since."""


@dataclass(frozen=True)
class StageCounts:
    """Rows through one committed stage: n_in = n_out + rejected + dead."""

    round: int
    stage: str
    n_in: int
    n_out: int
    rejected: Mapping[str, int] = field(default_factory=dict)  # reason -> rows that a rule turned away
    dead: Mapping[str, int] = field(default_factory=dict)  # reason -> rows that could not be processed
    seconds: float = 0.0  # wall time of the committed attempt
    bytes: int = 0  # of its files
    evaluations: int = 0  # of ensemble members

    @property
    def n_rejected(self) -> int:
        return sum(self.rejected.values())

    @property
    def n_dead(self) -> int:
        return sum(self.dead.values())

    @property
    def balanced(self) -> bool:
        return self.n_in == self.n_out + self.n_rejected + self.n_dead


@dataclass(frozen=True)
class Generated:
    """Candidates of one generator and one number of elements in one round."""

    round: int
    generator: str
    n_elements: int
    recipes: int
    new: int  # recipes of compositions that are new and that no rule turned away
    kept: int  # those of the sample that is scored
    balanced: int  # kept ones whose elements, at one common charge each, add up to zero (SMACT's strict rule)


@dataclass(frozen=True)
class CompositionShare:
    """Compositions of one number of elements that were enumerated for random search, and those the rule let pass."""

    round: int
    n_elements: int
    enumerated: int
    passed: int


@dataclass(frozen=True)
class SearchedComposition:
    """A composition that was searched with random structures; e_form is its lowest, energies in eV/atom."""

    formula: str
    by_model: bool  # chosen by the compositional ensemble
    by_random: bool  # chosen by the random baseline; both may be true
    begun: int  # random structures asked for
    packed: int  # those whose atoms found room, and whose relaxation has ended
    converged: int
    predicted: float  # median of the compositional ensemble
    e_form: float | None  # None where none converged
    e_above_hull: float | None  # against the hull before this round; negative = below it


@dataclass(frozen=True)
class Searches:
    """What the compositional framework did in one round.

    volume_edges: k + 1 edges of bins of the volume factor; volume_runs, volume_converged: structures in each. labels:
    compositions that the ensemble was then trained on, labels_searched of them known by random structures alone.
    """

    round: int
    compositions: tuple[SearchedComposition, ...]
    least_converged: int  # converged structures that make a composition's lowest energy a label
    volume_edges: tuple[float, ...]
    volume_runs: tuple[int, ...]
    volume_converged: tuple[int, ...]
    labels: int | None
    labels_searched: int | None


@dataclass(frozen=True)
class MemberError:
    """Validation error of one retrained ensemble member, eV/atom."""

    round: int
    member: int
    val_mae: float
    framework: str = "structural"


@dataclass(frozen=True)
class LearningCurve:
    """How one member's training went: epochs ascending; errors in eV/atom, val_mae None where none was measured."""

    round: int
    member: int
    framework: str
    epochs: tuple[int, ...]
    train_loss: tuple[float, ...]
    val_mae: tuple[float | None, ...]


@dataclass(frozen=True)
class ReportData:
    """Everything in one report. Tables are checked against `JOBS` and `HULL_ENTRIES` (columns may come in any order).

    Raises ValueError, naming the table and the columns, when a table lacks a column or holds one of another type.
    """

    title: str  # the store's name
    scale: str  # e.g. "chgnet-0.3.0": functional + corrections + engine of every energy shown
    stages: tuple[StageCounts, ...]  # in the order they ran
    jobs: pa.Table
    hull_entries: pa.Table
    stable: tuple[StableCrystal, ...]
    members: tuple[MemberError, ...]
    config: Mapping[str, Any]  # the round config as nested plain values
    versions: Mapping[str, str]  # package -> version, and "gnome-flywheel" -> code version
    made: str = ""  # of which hull, and when that was made
    changed: Mapping[str, Any] = field(
        default_factory=dict
    )  # settings that are not the defaults, by their dotted names
    reactions: Mapping[str, str] = field(default_factory=dict)  # id of a discovery -> what it competes with
    relaxations: Mapping[str, RelaxationPath] = field(default_factory=dict)  # of the discoveries, by their jobs
    generated: tuple[Generated, ...] = ()
    compositions: tuple[CompositionShare, ...] = ()
    curves: tuple[LearningCurve, ...] = ()
    potentials: tuple[tuple[int, Figures], ...] = ()  # (round, what is told of its potentials)
    searches: tuple[Searches, ...] = ()  # of rounds of the compositional framework
    unpacked: tuple[tuple[int, str], ...] = ()  # (round, formula) of which no random structure could be packed
    credibility: StoredAnalysis | None = None  # of the newest hull
    analyses: tuple[StoredAnalysis, ...] = ()  # the others
    left_out: tuple[str, ...] = ()  # what is wrong with analyses that are damaged

    def __post_init__(self):
        object.__setattr__(self, "jobs", _conform("jobs", self.jobs, JOBS))
        object.__setattr__(self, "hull_entries", _conform("hull_entries", self.hull_entries, HULL_ENTRIES))

    @property
    def rounds(self) -> list[int]:
        """Every round that ran a stage, ascending; 0 is the snapshot."""
        return sorted({s.round for s in self.stages})


def _conform(name: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = [column for column in schema.names if column not in table.column_names]
    if missing:
        raise ValueError(
            f"ReportData.{name} lacks the columns {', '.join(missing)}; it needs {', '.join(schema.names)}"
        )
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, ValueError) as error:
        raise ValueError(
            f"ReportData.{name} has a column of the wrong type: {error}; see pipelines/report/data.py"
        ) from error
