import io
import os
import subprocess
import sys
import time

from rich.console import Console

from pipelines.beam import progress


def test_workers_report_to_the_line_that_the_driver_shows():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with progress.shown(console) as begin:
        begin("r0001/evaluate")
        progress.expect(90, "crystals")
        progress.advance(30)
        subprocess.run([sys.executable, "-c", "from pipelines.beam.progress import advance; advance(7)"], check=True)
        wait_for(screen, "37 of 90 crystals")
        begin("r0001/ingest")
        wait_for(screen, "r0001/ingest")
        assert "of 90" not in screen.getvalue().rpartition("r0001/ingest")[2]
    assert progress.PROGRESS_FILE not in os.environ


def wait_for(screen: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in screen.getvalue():
        assert time.monotonic() < deadline, screen.getvalue()
        time.sleep(0.1)


def test_without_a_driver_that_shows_it_progress_goes_nowhere(monkeypatch):
    monkeypatch.delenv(progress.PROGRESS_FILE, raising=False)
    progress.expect(3, "crystals")
    progress.advance()


def test_logs_have_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.05)
    log = io.StringIO()
    with progress.shown(Console(file=log)) as begin:
        time.sleep(0.2)
        assert log.getvalue() == "", "nothing runs"
        begin("r0001/evaluate")
        wait_for(log, "r0001/evaluate    0:00:00 so far\n")
        progress.expect(90, "crystals")
        progress.advance(45)
        wait_for(log, "so far, 45 of 90 crystals (50 %), about 0:00:0")
    told = log.getvalue()
    time.sleep(0.2)
    assert log.getvalue() == told


def test_a_line_of_progress_says_when_it_will_end():
    line = progress.progress_line("r0001/evaluate", 100.0, 120, 400, "crystals")
    assert line == "r0001/evaluate    0:01:40 so far, 120 of 400 crystals (30 %), about 0:03:53 left"
    assert progress.progress_line("r0001/score", 5.0, 0, 7, "shards").endswith("0 of 7 shards (0 %)")
