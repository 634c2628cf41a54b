"""Trained members: by addresses that any worker finds them by, wherever the driver runs."""

from __future__ import annotations

from typing import cast

from gnome_core.models.pretrained import Framework, pretrained_members
from pipelines.storage import local_file
from pipelines.store import Commit, Store, table_files

WEIGHTS = "weights"  # blobs: member-000.npz and member-000.json, ...
SHIPPED = "shipped:"  # then framework and name: a worker's copy of the package may be elsewhere


def member_addresses(store: Store, train: Commit) -> list[str]:
    """Addresses of the members' .npz files in member order; every file is verified first."""
    files = table_files(train, WEIGHTS)
    for stat in files:
        store.check_file(stat)
    return [store.storage.address(stat.path) for stat in files if stat.path.endswith(".npz")]


def shipped_addresses(framework: Framework) -> list[str]:
    """Addresses of the members that come with the package."""
    return [f"{SHIPPED}{framework}/{path.name}" for path in pretrained_members(framework)]


def local_member(address: str) -> str:
    """Path on this machine of a member's .npz, with its .json beside it. A path is its own address."""
    if address.startswith(SHIPPED):
        framework, name = address.removeprefix(SHIPPED).split("/")
        return next(str(path) for path in pretrained_members(cast(Framework, framework)) if path.name == name)
    local_file(f"{address.removesuffix('.npz')}.json")
    return local_file(address)
