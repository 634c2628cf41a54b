"""Making a first-principles engine of its name."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from dft.config import DftConfig
from dft.names import ENGINES

if TYPE_CHECKING:
    from dft.jobs.engine import Engine


def make_engine(name: str, dft: DftConfig) -> Engine:
    """The first-principles engine of that name. Raises ValueError naming the ones there are."""
    if name not in ENGINES:
        raise ValueError(f"no first-principles engine {name!r}; there is: {', '.join(ENGINES)}")
    return resolve_name(ENGINES[name])(getattr(dft, name), dft.wall_time, dft.max_errors)
