"""docs/paper.md: its counts are those of its rows, and the commands that it names are there."""

import re
from collections import Counter

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "paper.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if re.search(r"\| (yes|partly|no) \|$", line)]


def test_the_counts_are_those_of_the_rows():
    counts = Counter(row[-1].strip() for row in ROWS)
    said = re.search(r"Of (\d+) points (\d+) are here, (\d+) partly and (\d+) not\.", PAGE)
    assert [int(n) for n in said.groups()] == [len(ROWS), counts["yes"], counts["partly"], counts["no"]]
    assert {len(row) for row in ROWS} == {5}


def test_what_is_not_here_shows_nothing_and_says_why():
    for row in ROWS:
        shown, why = row[3].strip(), row[2].strip()
        assert (shown == "-") == (row[-1].strip() == "no"), row
        assert len(why) > 3, row


def test_every_command_is_there():
    import typer

    from pipelines.cli.app import app

    def names(command, prefix: str) -> set[str]:
        inner = getattr(command, "commands", {})
        return {prefix}.union(*(names(child, f"{prefix} {name}".strip()) for name, child in inner.items()))

    known = names(typer.main.get_command(app), "")
    for text in re.findall(r"`gnome ([^`]+)`", PAGE):
        words = [word for word in text.split() if word.islower() or word in known]
        words = [word for word in words if not word.startswith("-")]
        group = next((n for n in range(len(words), 0, -1) if " ".join(words[:n]) in known), 0)
        assert group, text
        if words[0] == "analyse":
            assert " ".join(words[:2]) in known, text
