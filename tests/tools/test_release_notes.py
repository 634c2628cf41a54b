"""What the release workflow takes out of the changelog."""

from tests.conftest import ROOT
from tools.release_notes import main, section, versions

CHANGELOG = """# Changelog

## Unreleased

- c

## 0.2.0 - 2027-01-02

### Added

- b

## 0.1.0 - 2026-11-29

- a
"""


def test_a_version_s_own_section():
    assert section(CHANGELOG, "0.2.0") == "### Added\n\n- b"
    assert section(CHANGELOG, "0.1.0") == "- a"
    assert section(CHANGELOG, "0.1") is None
    assert section(CHANGELOG, "Unreleased") is None


def test_the_version_is_one_and_has_notes(capsys):
    (version,) = set(versions().values())
    assert section((ROOT / "CHANGELOG.md").read_text(), version)
    assert main(version) == 0
    assert "### Added" in capsys.readouterr().out
    assert main("9.9.9") == 1
    assert 'CHANGELOG.md has no section "## 9.9.9 - DATE"' in capsys.readouterr().err
