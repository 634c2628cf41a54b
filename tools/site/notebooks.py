"""Notebooks that are kept as scripts ("percent" format, which editors and Jupytext open as notebooks)."""

from __future__ import annotations

import re

CELL = re.compile(r"^# %%(.*)$", re.M)


def cells(script: str) -> list[tuple[str, str]]:
    """("markdown" or "code", text) of each cell. What precedes the first "# %%" belongs to none."""
    pieces = CELL.split(script)[1:]
    found = []
    for head, body in zip(pieces[::2], pieces[1::2], strict=True):
        if "[markdown]" in head:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip("\n").splitlines())
            found.append(("markdown", text))
        else:
            found.append(("code", body.strip("\n")))
    return found


def as_markdown(script: str) -> str:
    """The script as a page."""
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells(script)) + "\n"
