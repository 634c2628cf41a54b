"""Ledgers: appended by many at once, read whole, in a bucket that fails."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.errors import StoreError
from pipelines.store.ledger import Ledger
from pipelines.store.store import Store


@pytest.fixture
def store(gcs) -> Store:
    return Store("gs://lab/a/store")


def one(store: Store) -> Ledger:
    return Ledger(store, "jobs/toy/ledger")


def test_of_many_that_append_at_once_each_has_read_all_before_it(store, gcs):
    gcs.fail("POST .*uploadType", status=0, times=4, delay=0.1)
    gcs.fail("POST .*uploadType", status=503, times=3, done_first=True)

    def count(who: int) -> None:
        for _ in range(3):
            one(store).append(lambda records: {"who": who, "before": len(records)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    records = one(store).records()
    assert [record["before"] for record in records] == list(range(12))
    assert {who: sum(r["who"] == who for r in records) for who in range(4)} == dict.fromkeys(range(4), 3)


def test_what_decides_for_nothing_appends_nothing(store):
    assert one(store).append(lambda records: None) is None
    assert one(store).append(lambda records: {"n": 1}) == {"n": 1}
    assert one(store).append(lambda records: None if records else {"n": 2}) is None
    assert list(one(store).records()) == [{"n": 1}]


def test_records_that_a_listing_does_not_show_yet_are_read(store, gcs):
    one(store).append(lambda records: {"n": 1})
    gcs.list_the_past()
    one(store).append(lambda records: {"n": 2})
    assert [record["n"] for record in one(store).records()] == [1, 2]
    late = one(store)
    assert len(late.records()) == 2
    one(store).append(lambda records: {"n": 3})
    assert [record["n"] for record in late.records()] == [1, 2, 3], "only what is new is read"


def test_a_record_that_is_gone_or_changed_is_refused(store, gcs):
    for n in (1, 2, 3):
        one(store).append(lambda records, n=n: {"n": n})
    name = "jobs/toy/ledger/00000002.json"
    kept = store.storage.read(name)
    store.storage.write(name, kept.replace(b'"n": 2', b'"n": 5'))
    with pytest.raises(StoreError, match=r"00000002.json has been changed"):
        one(store).records()
    store.storage.delete(name)
    with pytest.raises(StoreError, match=r"00000002.json is missing"):
        one(store).records()
