"""The stages of a round, in order, and the commits that each reads."""

from __future__ import annotations

FIRST_ROUND = ("snapshot", "hull", "train")
PROPOSE = ("generate", "score", "select", "emit")
LEARN = ("evaluate", "ingest", "hull", "train")


def stages_of(round_: int) -> tuple[str, ...]:
    return FIRST_ROUND if round_ == 0 else PROPOSE + LEARN


def inputs_of(round_: int, stage: str) -> list[tuple[int, str]]:
    """(round, stage) of the commits that a stage reads."""
    last = round_ - 1
    earlier = range(1, round_)
    snapshot = [(0, "snapshot")]
    labelled = snapshot + [(r, "ingest") for r in range(1, round_ + 1)]
    proposed = [(r, "emit") for r in earlier]
    evaluated = [(r, "evaluate") for r in earlier]
    return {
        "snapshot": [],
        "generate": snapshot + [(r, "ingest") for r in earlier] + proposed + [(last, "hull")],
        "score": [(round_, "generate"), (last, "hull"), (last, "train")],
        "select": [(round_, "score"), (last, "hull")],
        "emit": [(round_, "select"), (last, "hull"), *proposed],
        # First-principles jobs end when they end: earlier rounds' late results come in with this round's.
        "evaluate": [*proposed, (round_, "emit"), *evaluated],
        "ingest": [*snapshot, *proposed, (round_, "emit"), (round_, "evaluate")],
        "hull": labelled,
        "train": labelled + ([(last, "train")] if round_ else []),
    }[stage]
