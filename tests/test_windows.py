"""Windows and rows: every event of a split is a target exactly once, with enough context."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siren_rope_jax.data.windows import (
    Targets,
    pack_rows,
    plan_windows,
    split_targets,
    window_start,
)
from tests.refusals import refused

INDEX = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8
).map(lambda rows: np.asarray([(sum(row), *row) for row in rows]))
SPLITS = st.sampled_from(["train", "validation", "test"])


@given(INDEX, SPLITS, st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_every_event_is_a_target_once_with_its_context(index, split, length, stride, moved):
    stride = min(stride, length)
    windows = plan_windows(split_targets(index, split), length, stride, moved)
    column = ["train", "validation", "test"].index(split) + 1
    expected = [
        (user, event)
        for user, row in enumerate(index)
        for event in range(row[1:column].sum(), row[1 : column + 1].sum())
    ]
    targets = []
    for user, start, target, stop in windows.tolist():
        assert 0 <= start <= target < stop <= start + length
        targets += [(user, event) for event in range(target, stop)]
        for event in range(target, stop):
            assert event - start >= min(event, length - stride)
            assert moved or start == window_start(np.int64(event), length, stride)
        if moved and stop == index[user, 1 : column + 1].sum():
            assert stop - start == min(stop, length)
    assert targets == expected


@given(INDEX, st.integers(1, 12), st.booleans())
def test_rows_hold_every_window_once_and_never_overflow(index, length, pack):
    windows = plan_windows(split_targets(index, "train"), length, length)
    rows = pack_rows(windows, length, pack)
    np.testing.assert_array_equal(np.sort(rows.windows), np.sort(windows))
    for row in map(rows.windows_of, range(len(rows))):
        assert 0 < (row["stop"] - row["start"]).sum() <= length
    assert not len(rows.windows_of(len(rows) + 1))


def test_packing_is_dense():
    rng = np.random.default_rng(0)
    counts = rng.geometric(0.15, 5_000)
    windows = plan_windows(Targets(0 * counts, counts), 64, 64)
    rows = pack_rows(windows, 64)
    assert (windows["stop"] - windows["start"]).sum() / (len(rows) * 64) > 0.98


@pytest.mark.parametrize(
    ("length", "stride", "about"), [(8, 9, "stride"), (8, 0, "stride"), (0, 1, "length")]
)
def test_impossible_lengths_and_strides_are_refused(length, stride, about):
    with refused(about):
        plan_windows(Targets(np.zeros(1, int), np.ones(1, int)), length, stride)
