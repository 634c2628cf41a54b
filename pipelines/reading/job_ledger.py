"""How first-principles jobs of a store in a bucket stand: by a ledger of who took, delivered or opened which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from dft.jobs.folders import Ending, State
from pipelines.store.ledger import Ledger
from pipelines.store.records import FileStat

TAKEN, DELIVERED, OPENED = "taken", "delivered", "opened"  # kinds of records


@dataclass(frozen=True)
class Holder:
    """A folder on some machine that jobs were taken into."""

    id: str
    host: str
    folder: str

    @property
    def name(self) -> str:
        return f"{self.host}:{self.folder}"


@dataclass(frozen=True)
class Delivery:
    """What came back of a job. attempt: the newest one's number. attempts, seconds: of all of them together."""

    file: FileStat
    ending: Ending
    attempt: int
    attempts: int
    seconds: float


@dataclass(frozen=True)
class Standing:
    """holder: whose the job is, after its delivery too. since: when it came to stand so. delivery: the last one."""

    state: State = State.EMITTED
    holder: Holder | None = None
    since: str = ""
    delivery: Delivery | None = None


WAITS = Standing()
Decide = Callable[[Mapping[str, Standing]], dict | None]


class JobLedger:
    """Records are appended where they follow from how all jobs stand, and are void where another was faster."""

    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self._standings: dict[str, Standing] = {}
        self._known = 0  # records that they are of

    def standings(self) -> Mapping[str, Standing]:
        """Job id -> its standing now, of all that were ever taken; the others wait. To be read only."""
        return self._after(self.ledger.records())

    def files(self) -> list[FileStat]:
        """All that were ever delivered."""
        return [FileStat.model_validate(one["file"]) for one in self.ledger.records() if one["kind"] == DELIVERED]

    def append(self, decide: Decide) -> dict | None:
        """Append the record that `decide` makes of the standings; None where it makes none."""
        return self.ledger.append(lambda records: decide(self._after(records)))

    def _after(self, records: Sequence[Mapping]) -> Mapping[str, Standing]:
        for record in records[self._known :]:
            follow(self._standings, record)
        self._known = len(records)
        return self._standings


def taken(holder: Holder, ids: Sequence[str]) -> dict:
    return {"kind": TAKEN, "holder": asdict(holder), "time": _now(), "jobs": list(ids)}


def opened(ids: Sequence[str]) -> dict:
    """The jobs wait for whoever comes first: asked for again, or given back."""
    return {"kind": OPENED, "holder": None, "time": _now(), "jobs": list(ids)}


def delivered(holder: Holder, deliveries: Mapping[str, Delivery]) -> dict:
    """Of one file."""
    (file,) = {delivery.file for delivery in deliveries.values()}
    jobs = {
        id_: {
            "ending": delivery.ending.document(),
            "attempt": delivery.attempt,
            "attempts": delivery.attempts,
            "seconds": delivery.seconds,
        }
        for id_, delivery in deliveries.items()
    }
    return {
        "kind": DELIVERED,
        "holder": asdict(holder),
        "time": _now(),
        "file": file.model_dump(mode="json"),
        "jobs": jobs,
    }


def follow(standings: dict[str, Standing], record: Mapping) -> None:
    """Bring job id -> standing to where it is after one more record."""
    holder = Holder(**record["holder"]) if record["holder"] else None
    for id_ in record["jobs"]:
        before = standings.get(id_, WAITS)
        state = State.TAKEN if record["kind"] == TAKEN else State.EMITTED
        standings[id_] = Standing(state, holder, record["time"], before.delivery)
    if record["kind"] == DELIVERED:
        file = FileStat.model_validate(record["file"])
        for id_, told in record["jobs"].items():
            ending = Ending.of(told["ending"])
            delivery = Delivery(file, ending, told["attempt"], told["attempts"], told["seconds"])
            standings[id_] = replace(standings[id_], state=ending.state, delivery=delivery)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
