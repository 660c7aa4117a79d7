"""Batches are those of torch's DataLoader, whether they are read one by one or several at once."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gradwire_server.engine.batches import AHEAD_BYTES, Batches
from gradwire_server.engine.sources import Batch, TensorSource

NUM_SAMPLES = 203
INPUTS = torch.randn(NUM_SAMPLES, 3)
TARGETS = torch.arange(NUM_SAMPLES)


def make(*, ahead: bool, shuffle: bool = True, drop_last: bool = False) -> Batches:
    return Batches(
        TensorSource([INPUTS], [TARGETS]),
        batch_size=7,
        shuffle=shuffle,
        drop_last=drop_last,
        ahead=ahead,
    )


def equal(first: Batch, second: Batch) -> bool:
    return all(map(torch.equal, (*first[0], *first[1]), (*second[0], *second[1])))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_are_those_of_a_loader(*, ahead: bool, shuffle: bool, drop_last: bool) -> None:
    loader = DataLoader(
        TensorDataset(INPUTS, TARGETS), batch_size=7, shuffle=shuffle, drop_last=drop_last
    )
    torch.manual_seed(3)
    wanted = [list(loader) for _ in range(3)]
    torch.manual_seed(3)
    batches = make(ahead=ahead, shuffle=shuffle, drop_last=drop_last)
    for epoch in wanted:
        batches.begin_epoch()
        assert batches.num_batches == len(epoch)
        for index, (inputs, targets) in enumerate(epoch):
            assert equal(batches.batch(index), ([inputs], [targets]))


def test_any_batch_can_be_the_next() -> None:
    torch.manual_seed(3)
    one_by_one = make(ahead=False)
    one_by_one.begin_epoch()
    torch.manual_seed(3)
    ahead = make(ahead=True)
    ahead.begin_epoch()
    for index in (0, 1, 2, 17, 18, 3, 3, 28, 0):
        assert equal(ahead.batch(index), one_by_one.batch(index))


def test_who_changes_a_batch_changes_no_other_and_no_data() -> None:
    batches = make(ahead=True, shuffle=False)
    batches.begin_epoch()
    for index in range(batches.num_batches):
        (inputs,), _ = batches.batch(index)
        assert torch.equal(inputs, INPUTS[7 * index : 7 * index + 7])
        inputs.zero_()


def test_large_batches_are_read_one_by_one() -> None:
    samples = torch.zeros(4, AHEAD_BYTES // 4)
    batches = Batches(
        TensorSource([samples], []), batch_size=1, shuffle=False, drop_last=False, ahead=True
    )
    batches.begin_epoch()
    for index in range(4):
        (inputs,), _ = batches.batch(index)
        assert inputs.untyped_storage().nbytes() == AHEAD_BYTES


def test_a_checkpoint_has_none_of_the_batches_to_come() -> None:
    batches = make(ahead=True)
    batches.begin_epoch()
    batches.batch(0)
    batches.batch(1)
    state = batches.__getstate__()
    assert not state["_ahead"]
    assert state["_order"] is None
