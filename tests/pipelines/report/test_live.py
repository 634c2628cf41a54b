"""`gnome serve`: the page of a store that grows, and who may read it."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from pipelines.cli.server import serve_report
from pipelines.errors import UserError
from pipelines.report.live import state_of
from pipelines.store.records import stage_path
from pipelines.store.store import Store
from tests.pipelines.report.chromium import CHROMIUM, PATIENCE, Chromium
from tests.pipelines.report.serving import get, served_here

SERVE = "from pipelines.cli.app import main; main()"


@contextmanager
def served(root: Path, *options: str) -> Iterator[str]:
    """The address of a server of its own process."""
    command = [sys.executable, "-c", SERVE, "serve", str(root), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(2)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in err


@pytest.fixture
def growing(two_rounds, tmp_path) -> Path:
    """A store in its second round, whose hull is being made; the rest of the round is beside it, in `later`."""
    root = Path(shutil.copytree(two_rounds, tmp_path / "growing"))
    (root / "rounds" / "r0002" / "ROUND.json").unlink()
    for stage in ("hull", "train"):
        place = root / stage_path(2, stage)
        later = tmp_path / "later" / stage
        later.parent.mkdir(exist_ok=True)
        place.rename(later)
    attempt = next((tmp_path / "later" / "hull" / "attempts").iterdir())
    (root / stage_path(2, "hull") / "attempts" / attempt.name).mkdir(parents=True)
    return root


def test_the_state_says_what_runs_and_changes_with_every_commit(growing, tmp_path):
    before = state_of(Store.open(str(growing)))
    assert before.lines[0].startswith("Round 2: 6 of 8 stages are done; hull began ")
    assert before.lines[1].startswith("Last committed: r0002/ingest, ")
    assert state_of(Store.open(str(growing))).version == before.version
    commit(growing, tmp_path, "hull")
    after = state_of(Store.open(str(growing)))
    assert after.version != before.version
    assert after.lines[0] == "Round 2: 7 of 8 stages are done; train has not begun."


def commit(root: Path, tmp_path: Path, stage: str) -> None:
    """What a running round does last: the attempt's files are there, then its commit."""
    shutil.copytree(tmp_path / "later" / stage, root / stage_path(2, stage), dirs_exist_ok=True)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package `chromium`")
def test_a_page_renews_itself_when_a_round_goes_on_and_keeps_what_the_reader_chose(growing, tmp_path):
    browser = Chromium(tmp_path / "profile")
    files = {path: path.stat().st_mtime_ns for path in growing.rglob("*") if path.is_file()}
    try:
        with served(growing) as address:
            browser.open(address)
            browser.until("document.getElementById('live').textContent.includes('hull began')")
            first = browser.run("document.querySelector('header').textContent")
            browser.run("document.querySelector('[data-key=formula]')?.click()")
            assert "The hull of round 1" in first
            commit(growing, tmp_path, "hull")
            browser.until("document.querySelector('header').textContent.includes('The hull of round 2')")
            browser.until("document.getElementById('live').textContent.includes('7 of 8')")
            sorts = "document.querySelector('[data-key=formula]')?.closest('th').ariaSort ?? 'ascending'"
            assert browser.run(sorts) == "ascending"
            assert browser.faults() == []
            assert {url.split("/")[2] for url in browser.requests()} == {address.split("/")[2]}
    finally:
        browser.close()
    assert {path: path.stat().st_mtime_ns for path in files} == files, "it only reads"


def test_on_this_machine_no_other_name_is_answered_and_nothing_is_written(two_rounds):
    with served_here(two_rounds) as address:
        status, text, headers = get(address + "state")
        assert status == 200
        assert json.loads(text)["lines"][0] == "Round 2 is finished."
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert get(address + "state", Host="evil.example")[0] == 400
        assert get(address + "../rounds/r0000/config.json")[0] == 404
        post = urllib.request.Request(address, data=b"", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(post, timeout=PATIENCE)
        port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1:{port}: .*; choose --port or --host"):
            serve_report(Store.open(str(two_rounds)), "127.0.0.1", port)


def test_a_token_opens_it_once_and_leaves_the_address(two_rounds):
    with served_here(two_rounds, "a-token") as here:
        assert get(here)[0] == get(here + "state")[0] == get(here + "?token=x")[0] == 403
        assert get(here + "state", Cookie="gnome-token=a-token")[0] == 200
        connection = http.client.HTTPConnection(here.split("/")[2])
        connection.request("GET", "/?token=a-token")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["location"]) == (303, "./")
        assert answer.headers["set-cookie"].startswith("gnome-token=a-token; HttpOnly; Path=/; SameSite=strict")
        connection.close()


def test_bound_elsewhere_the_command_prints_a_token(two_rounds, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: asked.append(sockets[0].close()))
    for host, with_token in (("0.0.0.0", True), ("127.0.0.1", False)):
        serve_report(Store.open(str(two_rounds)), host, 0)
        address = capsys.readouterr().out
        assert ("/?token=" in address) == with_token
        assert len(address.partition("=")[2]) > 30 or not with_token
    assert len(asked) == 2
