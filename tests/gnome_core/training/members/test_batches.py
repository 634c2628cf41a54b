import numpy as np

from gnome_core.training.members.batches import EpochPlan, Replay
from tests.gnome_core.training.members.test_loop import rocksalt_like


def seen(plan: EpochPlan, labels: np.ndarray, epoch: int) -> list[int]:
    """Rows whose labels an epoch's steps hold: labels are row numbers."""
    steps = plan.epoch(epoch)
    return sorted(int(label) for step in steps for label in step.labels[step.weights > 0])


def test_an_epoch_sees_all_new_graphs_and_some_of_the_old_ones_in_turn():
    graphs, _, is_train = rocksalt_like()
    labels, train = np.arange(len(is_train)), np.flatnonzero(is_train)
    old = labels < 40
    settings = {"batch_size": 8, "epochs": 6, "cutoff": 5.0, "seeds": [(1, 0)]}
    plan = EpochPlan(graphs, train, labels, replay=Replay(old, 10), **settings)
    epochs = [seen(plan, labels, epoch) for epoch in range(6)]
    for rows in epochs:
        assert len(rows) == len(set(rows)) == 18
        assert set(range(40, 48)) <= set(rows)
    assert len(set().union(*epochs)) > 30, "other old ones in each epoch"
    assert seen(plan, labels, 3) == epochs[3], "a pure function of seed and epoch"
    everything = EpochPlan(graphs, train, labels, replay=Replay(old, 1000), **settings)
    plain = EpochPlan(graphs, train, labels, **settings)
    for one, other in zip(everything.epoch(2), plain.epoch(2), strict=True):
        assert np.array_equal(one.labels, other.labels), "as without replay where there are not so many old ones"
