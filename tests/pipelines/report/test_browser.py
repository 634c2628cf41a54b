"""The report in headless Chromium: every figure draws, nothing is logged as an error, nothing stays blank."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from pipelines.reading.analyses import StoredAnalysis
from pipelines.report.page import write_report
from tests.pipelines.report.analyses import every_analysis

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package `chromium`")
# Advice about speed that plotly.js causes; everything else on the console is a fault of ours.
ADVICE = ("willReadFrequently", "GL Driver Message", "GPU stall")
PHONE, DESK = 390, 1000  # CSS pixels
BARS = (0x3D, 0x85, 0xC8)  # the funnel's bars of round 1


def chromium(url: str, profile: Path, *options: str) -> tuple[str, list[str]]:
    """(standard output, console lines that are not mere advice)."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        f"--user-data-dir={profile}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        *options,
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, [line for line in console if not any(advice in line for advice in ADVICE)]


@pytest.fixture(scope="module")
def page(report_data, tmp_path_factory) -> Path:
    analyses = tuple(StoredAnalysis(analysis, 2) for analysis in every_analysis(report_data.jobs))
    data = dataclasses.replace(report_data, analyses=analyses)
    return write_report(data, tmp_path_factory.mktemp("report") / "report.html")


def test_every_figure_is_drawn_without_errors(page, report_data, tmp_path):
    crystal = report_data.stable[3]
    dom, console = chromium(f"{page.as_uri()}#crystal-{crystal.id}", tmp_path, "--dump-dom")
    assert console == []
    body = re.sub(r"(?s)<script.*?</script>", "", dom)
    places = re.findall(r'<div class="(plot(?: [a-z-]+)*)" (?:data-figure|id="viewer")', body)
    assert len(places) > 8
    assert all("js-plotly-plot" in classes for classes in places)
    assert len(re.findall(r'<svg class="main-svg"', body)) >= len(places)
    assert re.findall(r'<tr id="crystal-([^"]*)"[^>]*aria-selected="true"', body) == [crystal.id]


def test_the_picture_is_not_blank_on_a_phone_and_a_desk(page, tmp_path):
    # Chromium's own windows are never as narrow as a phone, so both pages are put into frames.
    frames, picture = page.with_name("frames.html"), tmp_path / "page.png"
    place = "position:absolute;top:0;height:1600px;border:0"
    boxes = "".join(
        f'<iframe src="{page.name}" style="{place};left:{left}px;width:{width}px"></iframe>'
        for left, width in ((0, PHONE), (PHONE, DESK))
    )
    frames.write_text(f"<!DOCTYPE html><body>{boxes}</body>")
    size = f"--window-size={PHONE + DESK},1600"
    _, console = chromium(frames.as_uri(), tmp_path / "profile", size, f"--screenshot={picture}")
    assert console == []
    image = Image.open(picture).convert("RGB")
    for left, width in ((0, PHONE), (PHONE, DESK)):
        seen = image.crop((left, 0, left + width, 1600))
        assert min(ImageStat.Stat(seen).var) > 50
        assert BARS in {color for _, color in seen.getcolors(1 << 24)}
