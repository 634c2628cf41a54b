"""Where this user's caches and data are."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Ours, below the user's cache folder: what can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gnome-flywheel")


def data_folder() -> Path:
    """Ours, below the user's data folder: what cannot simply be made again."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share", "gnome-flywheel")
