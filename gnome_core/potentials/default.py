"""What `embedded` stands for: the potential that is used where none is named."""

from __future__ import annotations

EMBEDDED = "embedded"
DEFAULT = "chgnet-distilled"
BEFORE = "chgnet"  # what it stood for once: where a round's own settings say `embedded`, and in stores that it began


def meant(name: str, default: str = DEFAULT) -> str:
    """The name of an evaluator or potential, alone or as KIND:NAME, with `default` in place of `embedded`."""
    kind, colon, potential = name.rpartition(":")
    return f"{kind}{colon}{default}" if potential == EMBEDDED else name
