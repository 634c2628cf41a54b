"""What changed in a version, from CHANGELOG.md: python tools/release_notes.py VERSION

Exits with 1 unless the version is that of pyproject.toml and CITATION.cff and has a section of its own.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def section(changelog: str, version: str) -> str | None:
    """The text below "## VERSION - DATE"; None where there is none."""
    found = re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    return found[1].strip() if found else None


def versions() -> dict[str, str]:
    """The version by the file that names it."""
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    return {
        "pyproject.toml": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "CITATION.cff": cited[1] if cited else "",
    }


def main(version: str) -> int:
    """Print the notes."""
    wrong = [f"{file} says {found}" for file, found in versions().items() if found != version]
    notes = section((ROOT / "CHANGELOG.md").read_text(), version)
    if notes is None:
        wrong.append(f'CHANGELOG.md has no section "## {version} - DATE"')
    if wrong:
        print(f"{version} cannot be released: {'; '.join(wrong)}", file=sys.stderr)
        return 1
    print(notes)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
