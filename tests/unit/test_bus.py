"""The bus tells; nobody waits on a subscriber, and none can harm another."""

from __future__ import annotations

import dataclasses
import inspect
import logging

import pytest

from llmos.kernel import bus as bus_module
from llmos.kernel.bus import Event, EventBus, GoalAccepted, RunEnded

ACCEPTED = GoalAccepted(run_id="r", goal="g")
ENDED = RunEnded(run_id="r", mode="follower", status="done", cost_usd=0.0, duration_s=0.1)


def test_a_handler_hears_its_type_and_nothing_else() -> None:
    heard: list[GoalAccepted] = []
    bus = EventBus()
    bus.subscribe(GoalAccepted, heard.append)
    bus.publish(ENDED)
    bus.publish(ACCEPTED)
    assert heard == [ACCEPTED]


def test_a_handler_of_the_base_type_hears_everything() -> None:
    heard: list[Event] = []
    bus = EventBus()
    bus.subscribe(Event, heard.append)
    bus.publish(ACCEPTED)
    bus.publish(ENDED)
    assert heard == [ACCEPTED, ENDED]


def test_handlers_are_told_in_order_of_subscription() -> None:
    order: list[int] = []
    bus = EventBus()
    for n in (1, 2, 3):
        bus.subscribe(Event, lambda _, n=n: order.append(n))  # type: ignore[misc]
    bus.publish(ACCEPTED)
    assert order == [1, 2, 3]


def test_a_handler_that_raises_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []
    bus = EventBus()
    bus.subscribe(Event, lambda _: 1 / 0)  # type: ignore[arg-type]
    bus.subscribe(Event, heard.append)
    with caplog.at_level(logging.ERROR):
        bus.publish(ACCEPTED)
    assert heard == [ACCEPTED]
    assert caplog.records[0].exc_info is not None


def test_unsubscribing_ends_it_and_may_be_repeated() -> None:
    heard: list[Event] = []
    bus = EventBus()
    unsubscribe = bus.subscribe(Event, heard.append)
    unsubscribe()
    unsubscribe()
    bus.publish(ACCEPTED)
    assert heard == []


def test_listening_ends_with_its_block_however_that_ends() -> None:
    heard: list[Event] = []
    bus = EventBus()
    with pytest.raises(RuntimeError), bus.listening(Event, heard.append):
        bus.publish(ACCEPTED)
        raise RuntimeError
    bus.publish(ENDED)
    assert heard == [ACCEPTED]


def test_subscribing_while_being_told_counts_from_the_next_event() -> None:
    heard: list[Event] = []
    bus = EventBus()

    def listen(_: GoalAccepted) -> None:
        bus.subscribe(Event, heard.append)

    bus.subscribe(GoalAccepted, listen)
    bus.publish(ACCEPTED)
    bus.publish(ENDED)
    assert heard == [ENDED]


def test_two_subscriptions_of_one_handler_are_two() -> None:
    heard: list[Event] = []
    bus = EventBus()
    first = bus.subscribe(Event, heard.append)
    bus.subscribe(Event, heard.append)
    bus.publish(ACCEPTED)
    first()
    bus.publish(ENDED)
    assert heard == [ACCEPTED, ACCEPTED, ENDED]


def test_every_event_is_a_frozen_keyword_only_record() -> None:
    events = [kind for _, kind in inspect.getmembers(bus_module, inspect.isclass) if issubclass(kind, Event)]
    assert len(events) > 10
    for kind in events:
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
        assert all(field.kw_only for field in dataclasses.fields(kind)), kind
