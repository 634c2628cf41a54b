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
    far = progress.Progress(120, 400, "crystals", 100.0)
    line = progress.progress_line("r0001/evaluate", 100.0, far)
    assert line == "r0001/evaluate    0:01:40 so far, 120 of 400 crystals (30 %), about 0:03:53 left"
    assert progress.progress_line("r0001/score", 5.0, far._replace(done=0, total=7, unit="shards")).endswith(
        "0 of 7 shards (0 %)"
    )


def test_a_stage_is_kept_as_it_gets_further_and_never_fails_for_it(monkeypatch):
    monkeypatch.setattr(progress, "KEEP_EVERY", 0.02)
    monkeypatch.delenv(progress.PROGRESS_FILE, raising=False)
    told: list[progress.Progress] = []

    def keep(so_far: progress.Progress) -> None:
        told.append(so_far)
        raise OSError("disk full")

    with progress.kept(keep):
        time.sleep(0.1)
        assert told == [], "it has said nothing yet"
        for done in (10, 30):
            progress.expect(40, "crystals")
            progress.advance(done)
            deadline = time.monotonic() + 20
            while not told or told[-1].done < done:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    assert [(so_far.total, so_far.unit) for so_far in told] == [(40, "crystals")] * len(told)
    assert (told[-1].done, len(told)) == (40, len({so_far.done for so_far in told}))
    assert progress.PROGRESS_FILE not in os.environ


def test_the_time_left_is_told_once_something_is_done():
    assert str(progress.Progress(120, 400, "crystals", 100.0)) == "120 of 400 crystals (30 %), about 0:03:53 left"
    assert str(progress.Progress(0, 400, "crystals", 100.0)) == "0 of 400 crystals (0 %)"


def test_lines_go_to_whoever_watches():
    log = io.StringIO()
    progress.tell("nobody hears")
    with progress.shown(Console(file=log)):
        progress.tell("3 crystals")
    progress.tell("nobody hears")
    assert log.getvalue() == "3 crystals\n"


def test_what_costs_more_counts_for_more(monkeypatch, tmp_path):
    path = tmp_path / "progress"
    path.write_bytes(b"")
    monkeypatch.setenv(progress.PROGRESS_FILE, str(path))
    assert progress.read(path, 60.0) is None
    progress.expect(4, "jobs", 60.0)
    assert str(progress.read(path, 60.0)) == "0 of 4 jobs (0 %)"
    progress.advance(1, 45.0)
    assert str(progress.read(path, 90.0)) == "1 of 4 jobs (75 %), about 0:00:30 left"
    progress.advance(3, 15.1)  # rounding
    assert str(progress.read(path, 120.0)) == "4 of 4 jobs (100 %), about 0:00:00 left"
