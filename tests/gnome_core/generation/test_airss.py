import re

import pytest

from gnome_core.generation.airss import seed_cell
from gnome_core.generation.config import RandomSearchConfig
from gnome_core.generation.separations import spheres

LI15SI4 = ((3, 15), (14, 4))
BATIO3 = ((8, 3), (22, 1), (56, 1))


def tags(text: str) -> dict[str, str]:
    """What buildcell reads: lines with a single # at their start."""
    return dict(re.findall(r"^#(?!#)(\w+)(?:=(.*))?$", text, flags=re.M))


def test_seed_holds_what_the_generator_uses():
    text = seed_cell(BATIO3, RandomSearchConfig())
    found = tags(text)
    model = spheres(BATIO3)
    volume = model.volumes @ [3, 1, 1]
    assert [float(v) for v in found["TARGVOL"].split("-")] == pytest.approx([0.4 * volume, 1.2 * volume], abs=0.01)
    assert (found["NFORM"], found["SYMMOPS"]) == ("1-4", "1-4")
    assert {"SLACK", "OVERLAP", "COMPACT", "MAXTIME"} <= found.keys()
    pairs = dict(pair.split("=") for pair in found["MINSEP"].split()[1:])
    assert list(pairs) == ["O-O", "O-Ti", "O-Ba", "Ti-Ti", "Ti-Ba", "Ba-Ba"]
    assert float(pairs["O-Ti"]) == pytest.approx(0.4 ** (1 / 3) * model.separations[0, 1], abs=0.01)
    block = text.split("%BLOCK POSITIONS_FRAC\n")[1].split("%ENDBLOCK")[0].splitlines()
    assert [line.split()[0] for line in block] == ["O", "O", "O", "Ti", "Ba"]
    assert all(line.endswith("% NUM=1") for line in block)
    assert text.isascii()


def test_limits_shape_the_ranges():
    found = tags(seed_cell(LI15SI4, RandomSearchConfig(max_operations=48)))
    assert found["NFORM"] == "1"
    assert found["SYMMOPS"] == "{1,2,3,4,6,8,12,16,24,48}"
    with pytest.raises(ValueError, match="Li15Si4: 19 atoms"):
        seed_cell(LI15SI4, RandomSearchConfig(max_sites=18))
