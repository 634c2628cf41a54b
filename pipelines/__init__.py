"""Beam pipelines, the round store and the `gnome` command line. The only package that imports Beam.

`open_store` is for notebooks and scripts, and is loaded when it is first used; docs/library.md shows it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.library import open_store as open_store

__all__ = ["open_store"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module("pipelines.library"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
