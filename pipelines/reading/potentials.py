"""Potentials that rounds trained: by addresses that any worker finds them by, and how good they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

from dft.names import NEWEST
from pipelines.errors import UserError
from pipelines.reading.committed import committed
from pipelines.reading.schemas import FLAGGED_SCHEMA, POTENTIAL_SCHEMA
from pipelines.store.records import Commit, table_files
from pipelines.store.storage import local_file
from pipelines.store.store import Store

WEIGHTS = "potential_weights"  # table of blobs: potential-000.npz and potential-000.json, ...
POTENTIALS = "potentials"  # table of POTENTIAL_SCHEMA
FLAGGED = "flagged"  # table of FLAGGED_SCHEMA
PRETRAINED = "pretrained"  # the shipped one, whose place on a worker may be another


class Trained(NamedTuple):
    """The potentials of a round. addresses: of their .npz files, in the order of their members; each is verified."""

    round: int
    addresses: tuple[str, ...]


def trained_potentials(store: Store, round_: int) -> Trained | None:
    """Those of the last round before `round_` that trained any."""
    for earlier in range(round_ - 1, -1, -1):
        commit = store.commit(earlier, "train")
        if commit and (addresses := _addresses(store, commit)):
            return Trained(earlier, addresses)
    return None


def _addresses(store: Store, train: Commit) -> tuple[str, ...]:
    files = table_files(train, WEIGHTS)
    for stat in files:
        store.check_file(stat)
    return tuple(store.storage.address(stat.path) for stat in files if stat.path.endswith(".npz"))


def local_potential(address: str) -> str:
    """Path on this machine of a potential's .npz, its .json beside it. A path is its own address."""
    if address == PRETRAINED:
        from gnome_core.potentials.by_name import shipped_path  # loads jax

        return shipped_path(PRETRAINED)
    local_file(f"{address.removesuffix('.npz')}.json")
    return local_file(address)


def evaluator_until(store: Store, round_: int, name: str) -> str | None:
    """The evaluator that a name stands for in a round: `potential:newest` for the first of the last potentials trained
    before, by its address, None where there is none; any other name for itself."""
    if name != NEWEST:
        return name
    found = trained_potentials(store, round_)
    return found and f"potential:{found.addresses[0]}"


def local_evaluator(name: str) -> str:
    """An evaluator's name with the file of a potential in a bucket found on this machine."""
    kind, _, address = name.partition(":")
    return f"{kind}:{local_potential(address)}" if kind == "potential" and "://" in address else name


def potential_of_store(root: str) -> str:
    """Path on this machine of the potential that a store trained last. Raises UserError where it trained none."""
    store = Store.open(root)
    found = trained_potentials(store, store.rounds()[-1] + 1)
    if found is None:
        raise _untrained(root)
    return local_potential(found.addresses[0])


def flagged_frames(store: Store) -> tuple[int, pa.Table]:
    """The last round that trained potentials, and the frames that it flagged (FLAGGED_SCHEMA), the worst first.

    Raises UserError where none did.
    """
    found = trained_potentials(store, store.rounds()[-1] + 1)
    if found is None:
        raise _untrained(store.root)
    frames = store.read_table(committed(store, found.round, "train"), FLAGGED, FLAGGED_SCHEMA)
    return found.round, frames.sort_by([("force_spread", "descending"), ("id", "ascending")])


def _untrained(root: str) -> UserError:
    return UserError(f"{root} has trained no potential; [training] potential = true has its rounds train them")


class Figures(NamedTuple):
    """What is told of a round's potentials: rows of POTENTIAL_SCHEMA by member, and how many frames were flagged."""

    members: list[dict[str, Any]]
    flagged: int


def potential_figures(store: Store, train: Commit) -> Figures | None:
    """None where the stage trained no potential."""
    rows = store.read_table(train, POTENTIALS, POTENTIAL_SCHEMA).sort_by("member").to_pylist()
    return Figures(rows, train.rows(FLAGGED)) if rows else None
