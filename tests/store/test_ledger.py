"""Ledgers balance and add up."""

from __future__ import annotations

import pytest

from owa_data.store.ledger import add_by_split_and_group, add_counts, topic_counts


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


def test_sums_by_split_and_group_are_those_of_their_ledgers() -> None:
    ledgers = [
        ("train", "x", {"a": 1}),
        ("test", "x", {"a": 2, "b": {"c": 1}}),
        ("train", "y", {"a": 4}),
        ("train", "x", {"a": 8}),
    ]
    total, by_split, by_group = add_by_split_and_group(ledgers)
    assert total == {"a": 15, "b": {"c": 1}}
    assert by_split == {"test": {"a": 2, "b": {"c": 1}}, "train": {"a": 13}}
    assert by_group == {"x": {"a": 11, "b": {"c": 1}}, "y": {"a": 4}}
    assert ledgers[0] == ("train", "x", {"a": 1})
    assert add_by_split_and_group([]) == ({}, {}, {})
