"""Beam metrics in two helpers. They are attempted values; commits take their counts from the data."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from apache_beam.metrics import Metrics

NAMESPACE = "gnome"


def inc(name: str, n: int = 1) -> None:
    Metrics.counter(NAMESPACE, name).inc(n)


@contextmanager
def timer(name: str) -> Generator[None]:
    """Add the block's wall time to the counter `<name>_ms`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        inc(f"{name}_ms", round(1000 * (time.perf_counter() - start)))


def counters(result) -> dict[str, int]:
    """Our counters of a finished pipeline, summed over steps."""
    found: dict[str, int] = {}
    for counter in result.metrics().query()["counters"]:
        if counter.key.metric.namespace == NAMESPACE:
            name = counter.key.metric.name
            found[name] = found.get(name, 0) + (counter.result or 0)
    return dict(sorted(found.items()))
