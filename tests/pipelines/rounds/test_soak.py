"""A small soak: `tools/soak.py` does a hundred kills."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.store.store import Store
from tools import soak


@pytest.mark.slow
def test_random_kills_lose_and_repeat_nothing(scored, two_rounds, tmp_path):
    """From the third stage on: a worker takes seconds to start, and the first two are as in any other round."""
    store = tmp_path / "store"
    shutil.copytree(scored, store)
    done = soak.soak(store, kills=2, seconds=120, longest=12, seed=5)
    assert done.n_kills > 0
    outcome = soak.compare(store, two_rounds, rounds=1)
    assert outcome["rows"] > 0
    assert not any(outcome[name] for name in ("lost", "duplicated", "different", "complaints"))


def test_a_lost_or_repeated_row_would_be_seen(two_rounds, tmp_path):
    shutil.copytree(two_rounds, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    commit = store.commit(1, "generate")
    parts = [stat for stat in commit.files if stat.table == "candidates"]
    table = store.open_parquet(parts[0]).read()
    Path(store.root, "rounds/r0001/generate/COMMIT.json").unlink()
    doubled = store.write_table(parts[0].path, "candidates", pa.concat_tables([table, table.slice(0, 2)]))
    counts = commit.counts.model_copy(update={"n_in": commit.counts.n_in + 2, "n_out": commit.counts.n_out + 2})
    files = [doubled, *(stat for stat in commit.files if stat != parts[0])]
    store.publish(commit.model_copy(update={"files": files, "counts": counts}))
    outcome = soak.compare(Path(store.root), two_rounds, rounds=2)
    assert outcome["duplicated"] == 2
    assert outcome["different"] == 1
