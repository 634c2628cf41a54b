"""`gnome replay`: campaigns on a table with hidden labels, resumable, with a page of curves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import ValidationError

from gnome_core.analysis.replay import Dataset, ReplayConfig, Round, read_dataset, replay, summarise
from gnome_core.analysis.result import Analysis
from pipelines.errors import UserError
from pipelines.report.exports import export_analysis


def parse_config(**settings) -> ReplayConfig:
    """The settings, checked. Raises UserError naming the first that is wrong."""
    try:
        return ReplayConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{'.'.join(str(part) for part in first['loc'][:1])}: {first['msg']}") from None


def run_replay(
    path: Path,
    output: Path,
    config: ReplayConfig,
    *,
    label: str,
    distance: str | None,
    stable_below: float,
    holdout: bool,
    jobs: int = 1,
    progress: Callable[[str], None] = lambda text: None,
) -> Analysis:
    """Run every campaign that `output` does not hold yet, and write tables and page there.

    Finished campaigns are lines of OUTPUT/campaigns.jsonl, kept as long as data and settings are the same. Raises
    UserError for a table that cannot be replayed.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        progress("reading")
        table = pq.read_table(path)
        data = read_dataset(table, label=label, distance=distance, stable_below=stable_below, holdout=holdout)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: {error}") from error
    output.mkdir(parents=True, exist_ok=True)
    journal = output / "campaigns.jsonl"
    digest = _digest(data, config)
    rounds: list[Round] = []
    done = _finished(journal, digest)
    wanted = [(policy, seed) for seed in range(config.seeds) for policy in config.policies]
    for number, (policy, seed) in enumerate(wanted, 1):
        if (policy, seed) not in done:
            progress(f"campaign {number} of {len(wanted)}: {policy}, seed {seed}")
            campaign = list(replay(data, policy, seed, config, jobs))
            with journal.open("a") as file:
                file.write(json.dumps({"digest": digest, "rounds": [vars(r) for r in campaign]}) + "\n")
            done[policy, seed] = campaign
        rounds += done[policy, seed]
    analysis = summarise(data, config, rounds)
    export_analysis(analysis, output, "csv")
    return analysis


def _digest(data: Dataset, config: ReplayConfig) -> str:
    """What a campaign depends on. Policies and seeds are left out: each campaign is its own."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (data.features, data.label, data.distance):
        digest.update(array.tobytes())
    settings = config.model_dump(exclude={"policies", "seeds"})
    digest.update(json.dumps([settings, data.stable_below, data.learns_distance]).encode())
    return digest.hexdigest()


def _finished(journal: Path, digest: str) -> dict[tuple[str, int], list[Round]]:
    """Campaigns of this data and these settings; a line that a kill cut short is passed over."""
    found = {}
    for line in journal.read_text().splitlines() if journal.is_file() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["digest"] == digest:
            campaign = [Round(**row) for row in record["rounds"]]
            found[campaign[0].policy, campaign[0].seed] = campaign
    return found
