"""Numbers that take long are kept for a while; quick ones never are."""

import threading

import pytest

from primum.studio.fresh import KEPT, Fresh


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_quick_is_made_each_time_and_what_is_slow_is_kept_for_fifty_times_as_long():
    clock, made = Clock(), []
    fresh = Fresh(clock)

    def make(took):
        clock.now += took
        made.append(took)
        return len(made)

    assert fresh.get("a", lambda: make(0.04)) == (1, 0.0)
    assert fresh.get("a", lambda: make(0.04)) == (2, 0.0)
    assert fresh.get("a", lambda: make(1.0)) == (3, 0.0)
    clock.now += 49
    assert fresh.get("a", lambda: make(1.0)) == (3, 50.0), "age counts from when the making began"
    assert fresh.get("b", lambda: make(0.0)) == (4, 0.0), "another key is another value"
    clock.now += 2
    assert fresh.get("a", lambda: make(0.01)) == (5, 0.0)
    assert fresh.get("a", lambda: make(0.01)) == (6, 0.0), "a quick one drops the one that was kept"


def test_one_makes_it_and_the_others_take_the_last_one():
    clock, inside, go = Clock(), threading.Event(), threading.Event()
    fresh = Fresh(clock)

    def slow(value):
        clock.now += 1.0
        return value

    def stuck():
        inside.set()
        assert go.wait(30)
        return slow("new")

    fresh.get("a", lambda: slow("old"))
    clock.now += 1000
    found = []
    thread = threading.Thread(target=lambda: found.append(fresh.get("a", stuck)))
    thread.start()
    assert inside.wait(30)
    assert fresh.get("a", lambda: pytest.fail("two make it")) == ("old", 1001.0)
    go.set()
    thread.join(30)
    assert found == [("new", 0.0)]


def test_a_failure_is_told_and_the_next_one_tries_again():
    fresh = Fresh()
    with pytest.raises(ValueError, match="broken"):
        fresh.get("a", lambda: int("broken"))
    assert fresh.get("a", lambda: 7) == (7, 0.0)


def test_not_more_than_some_are_kept():
    clock = Clock()
    fresh = Fresh(clock)

    def slow(value):
        clock.now += 0.1
        return value

    for key in range(KEPT + 1):
        fresh.get(key, lambda key=key: slow(key))
    assert fresh.get(0, lambda: "again")[0] == "again"
    assert fresh.get(KEPT, lambda: "again")[0] == KEPT
