"""The records of a store: what a stage wrote, counted and committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.errors import StoreError
from pipelines.store.digests import add_digests, json_digest


def _inside(path: str) -> str:
    if not path or path.startswith("/") or set(path.split("/")) & {"", ".", ".."} or "\0" in path or "\\" in path:
        raise ValueError("leads out of the store")
    return path


InsidePath = Annotated[str, AfterValidator(_inside)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]  # of a folder or table


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FileStat(_Record):
    """One file of an attempt. `rows_digest` sums over files to the table's; blobs (no table rows) have rows 0."""

    table: Name
    path: InsidePath  # relative to the store's root
    rows: int
    bytes: int
    crc32c: str  # 8 hex characters
    rows_digest: str = "0"  # hex


class Counts(_Record):
    """What happened to the rows a stage took: in = out + rejected + dead."""

    n_in: int = Field(alias="in")
    n_out: int = Field(alias="out")
    rejected: dict[str, int] = {}
    dead: dict[str, int] = {}

    @property
    def n_rejected(self) -> int:
        return sum(self.rejected.values())

    @property
    def n_dead(self) -> int:
        return sum(self.dead.values())

    def check(self, where: str) -> None:
        """Raise StoreError unless the counts add up and none is negative."""
        negative = [k for d in (self.rejected, self.dead) for k, n in d.items() if n < 0]
        if self.n_in != self.n_out + self.n_rejected + self.n_dead or negative or min(self.n_in, self.n_out) < 0:
            raise StoreError(
                f"{where}: in {self.n_in} != out {self.n_out} + rejected {self.rejected} + dead {self.dead}; "
                "rows were lost or counted twice, nothing was committed"
            )


class Manifest(_Record):
    """What a finished job says it did; becomes a Commit once the driver has verified it."""

    files: list[FileStat]
    counts: Counts
    metrics: dict[str, float | int | str] = {}


class JobFile(_Record):
    """JOB.json: what an attempt will do. A finished attempt is adopted only for an equal job."""

    stage: str
    inputs: dict[str, str]  # "r0000/hull" -> digest of the commit that is read
    config: str  # digest
    code: str  # version of this package


class Commit(_Record):
    """A stage that exists. Readers open only the files listed here."""

    stage: Name
    round: int
    attempt: Name
    files: list[FileStat]
    rows_digests: dict[str, str]  # table -> 32 hex characters
    counts: Counts
    inputs: dict[str, str]  # "r0000/hull" -> digest of the commit that was read
    config: str
    code: str
    seconds: float
    metrics: dict[str, float | int | str] = {}

    @property
    def digest(self) -> str:
        """Equal for equal rows from equal inputs, whoever ran the stage, when and where."""
        parts = ("stage", "round", "rows_digests", "counts", "inputs", "config")
        return json_digest(self.model_dump(mode="json", by_alias=True, include=set(parts)))

    @property
    def key(self) -> str:
        return stage_key(self.round, self.stage)

    def rows(self, table: str) -> int:
        return sum(f.rows for f in self.files if f.table == table)


@dataclass(frozen=True)
class Attempt:
    """One try at a stage; its job writes only below `path` (store-relative)."""

    round: int
    stage: str
    id: str

    @property
    def path(self) -> str:
        return f"{stage_path(self.round, self.stage)}/attempts/{self.id}"


def stage_key(round_: int, stage: str) -> str:
    return f"r{round_:04d}/{stage}"


def stage_path(round_: int, stage: str) -> str:
    return f"rounds/{stage_key(round_, stage)}"


def table_files(commit: Commit | Manifest, table: str) -> list[FileStat]:
    return sorted((stat for stat in commit.files if stat.table == table), key=lambda stat: stat.path)


def table_digests(files: Iterable[FileStat]) -> dict[str, str]:
    """Order-independent digest of each table's rows."""
    sums: dict[str, int] = {}
    for stat in files:
        sums[stat.table] = add_digests(sums.get(stat.table, 0), int(stat.rows_digest, 16))
    return {table: f"{value:032x}" for table, value in sorted(sums.items())}
