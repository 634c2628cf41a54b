"""Trained members: by addresses that any worker finds them by, wherever the driver runs."""

from __future__ import annotations

from typing import cast

from gnome_core.ensembles.calibration import FILE as CALIBRATION
from gnome_core.models.shipped import Framework, pretrained_members
from pipelines.store.records import Commit, table_files
from pipelines.store.storage import local_file
from pipelines.store.store import Store

SHIPPED = "shipped:"  # then framework and name: a worker's copy of the package may be elsewhere


def weights_of(framework: Framework) -> str:
    """Table of a framework's blobs: member-000.npz and member-000.json, ..., and the calibration of their spread."""
    return f"{framework}_weights"


def member_addresses(store: Store, train: Commit, framework: Framework = "structural") -> list[str]:
    """Addresses of the members' .npz files in member order, none where it trained none; each is verified first."""
    files = table_files(train, weights_of(framework))
    for stat in files:
        store.check_file(stat)
    return [store.storage.address(stat.path) for stat in files if stat.path.endswith(".npz")]


def shipped_addresses(framework: Framework) -> list[str]:
    """Addresses of the members that come with the package."""
    return [f"{SHIPPED}{framework}/{path.name}" for path in pretrained_members(framework)]


def local_member(address: str) -> str:
    """Path on this machine of a member's .npz, its .json and calibration beside it. A path is its own address."""
    if address.startswith(SHIPPED):
        framework, name = address.removeprefix(SHIPPED).split("/")
        return next(str(path) for path in pretrained_members(cast(Framework, framework)) if path.name == name)
    for beside in (f"{address.removesuffix('.npz')}.json", f"{address.rpartition('/')[0]}/{CALIBRATION}"):
        local_file(beside)
    return local_file(address)
