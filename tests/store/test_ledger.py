"""Ledgers balance and add up."""

from __future__ import annotations

import pytest

from owa_data.store.ledger import add_counts, topic_counts


def test_a_ledger_that_does_not_balance_is_refused() -> None:
    assert topic_counts(5, 3, {"inactive": 2, "resampled": 0}, added=1) == {
        "read": 5,
        "kept": 3,
        "dropped": {"inactive": 2},
        "added": 1,
    }
    with pytest.raises(AssertionError, match="does not balance"):
        topic_counts(5, 3, {"inactive": 1})


def test_adding_leaves_the_given_as_they_are() -> None:
    first, second = {"b": {"y": 1}, "a": 1}, {"b": {"x": 2, "y": 3}}
    assert add_counts([first, second]) == {"a": 1, "b": {"x": 2, "y": 4}}
    assert list(add_counts([first, second])) == ["a", "b"]
    assert first == {"b": {"y": 1}, "a": 1}
