"""The scheduler's promises, in a simulated world: nothing sleeps, every event is checked (tests/support/world.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import World, small_world
from variet.engine import events

MODELS = ("small", "middle", "large")


def test_a_first_request_loads_its_model_and_is_served() -> None:
    world = small_world()
    asked = world.ask("small")
    world.settle()
    assert world.requests[asked].granted_ms == 300
    assert world.loaded() == {"small"}


def test_requests_for_the_resident_model_collate_before_older_foreign_ones() -> None:
    world = small_world()
    world.ask("small", busy_ms=1_500)
    world.advance(400)
    foreign = world.ask("large")
    world.advance(100)
    resident = world.ask("small")
    assert world.requests[resident].granted_ms == world.now
    assert world.requests[foreign].granted_ms is None


def test_the_gate_closes_after_max_wait_and_no_answer_is_cut() -> None:
    world = small_world()
    world.ask("small", busy_ms=30_000)
    world.advance(400)
    foreign = world.ask("large")
    world.advance(2_000)
    late = world.ask("small")
    assert world.requests[late].granted_ms is None, "behind a closed gate a younger request waits"
    world.settle()
    assert world.requests[foreign].granted_ms == pytest.approx(300 + 30_000 + 100 + 2_000)
    assert world.requests[late].granted_ms is not None


def test_requests_older_than_the_gate_are_still_let_in() -> None:
    world = small_world()
    for _ in range(4):  # two slots: two of them wait
        world.ask("small", busy_ms=5_000)
    world.advance(10)
    foreign = world.ask("large")
    world.settle()
    served = [world.requests[request_id].granted_ms for request_id in (1, 2, 3, 4, foreign)]
    assert all(ms is not None for ms in served)
    assert max(ms for ms in served[:4] if ms is not None) < (served[4] or 0)


def test_a_foreign_waiter_that_leaves_opens_the_gate_again() -> None:
    world = small_world()
    world.ask("small", busy_ms=10_000)
    world.advance(400)
    foreign = world.ask("large")
    world.advance(2_500)
    waiting = world.ask("small")
    assert world.requests[waiting].granted_ms is None
    world.leave(foreign)
    assert world.requests[waiting].granted_ms == world.now
    assert world.started == ["small"]


def test_an_idle_model_lingers_a_share_of_its_load_time() -> None:
    world = small_world(linger_share=0.5)
    world.ask("middle", busy_ms=100)
    world.advance(1_000)
    foreign = world.ask("small")
    world.settle()
    assert world.requests[foreign].granted_ms == pytest.approx(1_000 + 450 + 100 + 300)


def test_a_model_with_work_stays_for_its_minimum_residency() -> None:
    world = small_world()
    world.terms = replace(world.terms, max_wait_ms=0, min_residency_ms=3_000)
    world.scheduler.terms = world.terms
    world.ask("small", busy_ms=100_000)
    world.advance(301)
    world.ask("large")
    world.advance(2_000)
    inside = world.ask("small")
    assert world.requests[inside].granted_ms == world.now
    world.leave(inside)
    world.advance(1_500)
    after = world.ask("small")
    assert world.requests[after].granted_ms is None


def test_background_yields_but_is_promoted_in_the_end() -> None:
    world = small_world()
    background = world.ask("large", priority=events.Priority.BACKGROUND)
    interactive = world.ask("small", busy_ms=60_000)
    world.settle()
    assert world.requests[background].granted_ms is not None
    assert world.requests[interactive].granted_ms is not None


def test_a_full_queue_is_refused_with_a_time_to_come_back() -> None:
    world = small_world()
    small = replace(world.terms.models["small"], queue_limit=2)
    world.scheduler.terms = replace(world.terms, models={**world.terms.models, "small": small})
    for _ in range(2):
        world.ask("small")
    refused = world.requests[world.ask("small")].refused
    assert refused is not None and refused.kind == "queue_full" and refused.retry_after_ms


def test_a_load_that_fails_by_itself_refuses_all_waiters_with_the_reason() -> None:
    world = small_world()
    world.broken_loads.add("middle")
    first, second = world.ask("middle"), world.ask("middle")
    world.advance(70)
    for asked in (first, second):
        refused = world.requests[asked].refused
        assert refused is not None and refused.kind == "load_failed" and "broken" in refused.detail
    third = world.requests[world.ask("middle")].refused
    assert third is not None and third.kind == "backing_off" and third.retry_after_ms
    world.broken_loads.clear()
    world.advance(1_100)
    again = world.ask("middle")
    world.settle()
    assert world.requests[again].granted_ms is not None


def test_a_load_that_was_killed_is_tried_once_more() -> None:
    world = small_world()
    asked = world.ask("middle")
    world.advance(100)
    world.crash("middle")
    world.settle()
    assert world.requests[asked].granted_ms is not None
    assert world.started == ["middle", "middle"]


def test_repeated_crashes_back_off_and_a_served_request_forgives() -> None:
    world = small_world()
    for _ in range(3):
        world.ask("small", busy_ms=50_000)
        world.advance(400)
        world.crash("small")
        world.advance(150)
    refused = world.requests[world.ask("small")].refused
    assert refused is not None and refused.kind == "backing_off"
    world.advance(60_000)
    world.ask("small")
    world.settle()
    assert "small" not in world.scheduler.trouble


def test_swap_by_command_drains_lets_nobody_in_and_is_answered_when_ready() -> None:
    world = small_world()
    running = world.ask("small", busy_ms=1_000)
    world.advance(400)
    command = world.command("swap", "large")
    late = world.ask("small")
    assert world.requests[late].granted_ms is None
    assert command not in world.answers
    world.advance(900 + 100 + 2_000)
    assert world.answers[command] is None
    assert world.requests[running].granted_ms is not None and not world.requests[running].cut


def test_load_never_evicts_and_says_what_is_in_the_way() -> None:
    world = small_world()
    world.ask("small")
    world.settle()
    command = world.command("load", "large")
    assert "small" in (world.answers[command] or "")
    assert world.loaded() == {"small"}


def test_unload_drains_and_with_now_it_cuts() -> None:
    world = small_world()
    world.ask("small", busy_ms=5_000)
    world.advance(400)
    gentle = world.command("unload", "small")
    world.advance(100)
    assert gentle not in world.answers
    hard = world.command("unload", "small", now=True)
    world.advance(200)
    assert world.answers[gentle] is None and world.answers[hard] is None
    assert not world.scheduler.instances


def test_a_pinned_model_is_never_evicted() -> None:
    world = small_world()
    pinned = replace(world.terms.models["small"], pinned=True)
    world.scheduler.terms = replace(world.terms, models={**world.terms.models, "small": pinned})
    world.ask("small")
    world.settle()
    refused = world.requests[world.ask("large")].refused
    assert refused is not None and refused.kind == "does_not_fit"
    assert world.loaded() == {"small"}


def test_who_would_go_is_told_without_a_change() -> None:
    world = small_world()
    assert world.scheduler.would_go("large") == []
    world.ask("small")
    world.settle()
    assert world.scheduler.would_go("large") == ["small"] and world.loaded() == {"small"}
    pinned = replace(world.terms.models["small"], pinned=True)
    world.scheduler.terms = replace(world.terms, models={**world.terms.models, "small": pinned})
    assert world.scheduler.would_go("large") is None
    side = replace(world.terms.models["small"], side=True, demand={"host": 95})
    world.scheduler.terms = replace(world.terms, models={**world.terms.models, "small": side})
    world.scheduler.instances.clear()
    assert world.scheduler.would_go("large") is None, "what is set aside for a side model is not there"


def test_an_objection_ends_with_the_back_off() -> None:
    world = small_world()
    for _ in range(3):
        world.ask("small")
        world.advance(10)
        world.crash("small")
        world.advance(200)
    trouble = world.scheduler.trouble["small"]
    objection = world.scheduler.objection("small", trouble.until_ms - 1)
    assert objection is not None and objection[0] == "backing_off"
    assert world.scheduler.objection("small", trouble.until_ms) is None
    assert world.scheduler.objection("large", world.now) is None


def test_models_that_fit_live_together() -> None:
    world = small_world(max_resident=2)
    world.ask("small", busy_ms=10_000)
    world.ask("middle", busy_ms=10_000)
    world.advance(2_000)
    assert world.loaded() == {"small", "middle"}


def test_the_victim_is_the_one_that_comes_back_soonest() -> None:
    world = small_world(max_resident=2)
    for model in ("middle", "small"):
        world.ask(model)
        world.settle()
    world.ask("large")
    world.settle()
    assert world.loaded() == {"middle", "large"}


def test_idle_unload() -> None:
    world = small_world()
    small = replace(world.terms.models["small"], idle_unload_ms=5_000)
    world.scheduler.terms = replace(world.terms, models={**world.terms.models, "small": small})
    world.ask("small", busy_ms=100)
    world.advance(5_300)
    assert world.loaded() == {"small"}
    world.advance(300)
    assert world.loaded() == set()


def test_a_conversation_gets_its_own_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = small_world()
    slots: dict[int, int | None] = {}

    def slot_of(*conversation: str) -> int | None:
        asked = world.ask("small", conversation=conversation)
        world.advance(500)
        return slots.get(asked)

    original = world._carry_out

    def spy(effect: events.Effect, leased: dict[int, list[int]], event: events.Event) -> None:
        if isinstance(effect, events.Grant):
            slots[effect.request_id] = effect.slot
        original(effect, leased, event)

    monkeypatch.setattr(world, "_carry_out", spy)
    assert slot_of("sys", "a1") == 0
    assert slot_of("sys", "b1") == 1, "another conversation takes the empty slot"
    assert slot_of("sys", "a1", "a2", "a3") == 0
    assert slot_of("sys", "b1", "b2", "b3") == 1
    assert slot_of("sys", "c1") == 0, "a third takes the longest unused"


def test_shutting_down_refuses_waiters_and_stops_what_is_idle() -> None:
    world = small_world()
    world.ask("small", busy_ms=1_000)
    world.advance(400)
    waiting = world.ask("large")
    world.send(events.ShuttingDown())
    refused = world.requests[waiting].refused
    assert refused is not None and refused.kind == "shutting_down"
    world.settle()
    assert not world.scheduler.instances


def test_a_changed_model_drains_and_a_removed_one_refuses() -> None:
    world = small_world()
    world.ask("small", busy_ms=1_000)
    world.advance(400)
    waiting = world.ask("large")
    models = {name: terms for name, terms in world.terms.models.items() if name != "large"}
    world.send(events.Reconfigured(replace(world.terms, models=models), frozenset({"small"}), frozenset()))
    refused = world.requests[waiting].refused
    assert refused is not None and refused.kind == "unknown_model"
    again = world.ask("small")
    assert world.requests[again].granted_ms is None, "the old instance drains"
    world.settle()
    assert world.started == ["small", "small"]
    assert world.requests[again].granted_ms is not None


def test_a_model_that_is_being_pulled_is_waited_for() -> None:
    world = small_world()
    world.scheduler.pulling = {"large"}
    asked = world.ask("large")
    world.advance(50_000)
    other = world.ask("small")
    world.settle()
    assert world.requests[other].granted_ms is not None, "a pull blocks nobody else"
    world.send(events.Available("large"))
    world.settle()
    assert world.requests[asked].granted_ms is not None


def changed(world: World, model: str, **changes: object) -> events.Terms:
    """The world's terms with other terms for one model."""
    models = dict(world.scheduler.terms.models)
    models[model] = replace(models[model], **changes)  # type: ignore[arg-type]
    return replace(world.scheduler.terms, models=models)


def test_a_later_swap_supersedes_what_was_wished_before() -> None:
    world = small_world()
    first, second = world.command("load", "large"), world.command("swap", "small")
    world.advance(200)
    world.ask("middle")
    world.settle()
    assert "superseded" in (world.answers[first] or "") and world.answers[second] is None
    assert world.started.count("large") <= 1


def test_an_unload_with_waiters_and_room_is_done_once() -> None:
    world = small_world(max_resident=2)
    for _ in range(3):
        world.ask("small", busy_ms=500)
    world.advance(400)
    command = world.command("unload", "small")
    for _ in range(100):
        world.advance(20)
        world.send(events.Tick())
    assert world.answers[command] is None and world.started.count("small") == 2
    world.settle()
    assert len(world.granted) == 3


def test_a_command_never_reopens_what_a_reload_made_stale() -> None:
    world = small_world()
    world.ask("small", busy_ms=1_000)
    world.advance(400)
    world.send(events.Reconfigured(changed(world, "small", slots=1), frozenset({"small"})))
    command = world.command("swap", "small")
    assert command not in world.answers
    world.settle()
    assert world.answers[command] is None and world.started == ["small", "small"]


def test_what_a_reload_made_impossible_is_refused_at_once() -> None:
    world = small_world()
    world.ask("small", busy_ms=5_000)
    world.advance(400)
    waiting, command = world.ask("large"), world.command("swap", "large")
    world.send(events.Reconfigured(changed(world, "large", problem="there is no GPU 5")))
    refused = world.requests[waiting].refused
    assert refused is not None and "GPU 5" in refused.detail and "GPU 5" in (world.answers[command] or "")


def test_a_finished_pull_leaves_the_others_as_they_are() -> None:
    world = small_world()
    world.scheduler.pulling = {"small", "large"}
    asked = world.ask("small")
    for model in ("small", "large"):
        world.send(events.Reconfigured(world.terms))
        world.send(events.Available(model))
    world.settle()
    assert world.requests[asked].granted_ms is not None


def test_side_models_have_their_memory_set_aside() -> None:
    world = small_world(max_resident=3)
    world.send(events.Reconfigured(changed(world, "small", side=True, demand={"host": 30})))
    world.send(events.Reconfigured(changed(world, "large", demand={"host": 70, events.RESIDENT_COUNT: 1})))
    tier = world.ask("large", busy_ms=10_000)
    world.advance(2_100)
    side = world.ask("small")
    world.advance(400)
    assert world.requests[tier].granted_ms is not None and world.requests[side].granted_ms is not None
    middle = world.ask("middle")
    world.settle()
    assert world.requests[middle].granted_ms is not None and "small" in world.loaded(), "a side model is no victim"
    world.send(events.Reconfigured(changed(world, "large", demand={"host": 80, events.RESIDENT_COUNT: 1})))
    refused = world.requests[world.ask("large")].refused
    assert refused is not None and refused.kind == "cannot_run"


def test_after_a_hopeless_head_the_next_is_served() -> None:
    world = small_world(max_resident=3)
    world.send(events.Reconfigured(changed(world, "small", pinned=True, demand={"host": 50})))
    world.ask("small")
    world.settle()
    world.scheduler.pulling = {"middle", "large"}
    hopeless, fine = world.ask("large"), world.ask("middle")
    world.send(events.Reconfigured(changed(world, "large", demand={"host": 80}), pulling=frozenset()))
    world.settle()
    assert world.requests[hopeless].refused is not None and world.requests[fine].granted_ms is not None


def test_resident_is_answered_by_what_is_loaded_and_never_swaps() -> None:
    world = small_world()
    on_empty = world.ask("small", anywhere=True)
    world.settle()
    assert world.requests[on_empty].granted_ms is not None and world.started == ["small"]
    first = world.ask("large", busy_ms=10_000)
    world.settle(5_000)
    assert world.loaded() == {"large"}
    anywhere = world.ask("small", anywhere=True)
    world.advance(1)
    assert world.requests[anywhere].granted_ms == world.now - 1 and world.requests[first].granted_ms is not None
    # One that waits behind a gate goes to the model that comes, and does not bring the old one back.
    world.ask("middle")
    world.advance(2_100)
    late = world.ask("large", anywhere=True, busy_ms=1)
    world.settle()
    assert world.requests[late].granted_ms is not None and world.started == ["small", "large", "middle"]


def test_whoever_takes_anything_gets_nothing_once_the_engine_shuts_down() -> None:
    world = small_world()
    for _ in range(2):
        world.ask("small", busy_ms=5_000)
    world.advance(400)
    world.send(events.ShuttingDown())
    late = world.ask("large", anywhere=True)
    assert world.requests[late].refused is not None
    world.settle()
    assert world.started == ["small"] and not world.scheduler.instances


def test_resident_is_answered_where_its_own_model_became_a_side_model() -> None:
    world = small_world()
    world.send(events.Reconfigured(changed(world, "small", side=True)))
    asked = world.ask("small", anywhere=True)
    world.settle()
    assert world.requests[asked].granted_ms is not None


def test_resident_waits_for_what_others_wait_for() -> None:
    world = small_world()
    anywhere = world.ask("small", anywhere=True)  # nothing is loaded: its own model comes
    world.ask("large")
    world.settle()
    assert world.requests[anywhere].granted_ms is not None and world.started == ["small", "large"]
    other = small_world()
    other.scheduler.pulling.add("large")
    other.ask("large")
    anywhere = other.ask("small", anywhere=True)
    other.settle(5_000)
    assert other.requests[anywhere].granted_ms is not None, "a download holds nobody up"


def test_a_load_that_found_less_memory_than_planned_is_tried_again_at_once() -> None:
    world = small_world()
    world.broken_loads.add("large")
    asked = world.ask("large")
    instance = next(iter(world.scheduler.instances.values()))
    smaller = replace(world.terms.models["large"], demand={"host": 5, events.RESIDENT_COUNT: 1})
    world.broken_loads.clear()
    world.send(events.Reconfigured(replace(world.terms, models={**world.terms.models, "large": smaller})))
    world.send(events.Exited(instance.instance_id, False, "no room", again=True))
    world.send(events.Stopped(instance.instance_id))
    world.settle()
    granted_ms = world.requests[asked].granted_ms
    assert granted_ms is not None and world.started == ["large", "large"]
    assert granted_ms < 2_500, "no back-off"


ACTIONS = st.one_of(
    st.tuples(
        st.just("ask"),
        st.sampled_from(MODELS),
        st.integers(1, 8_000),
        st.sampled_from(list(events.Priority)),
        st.booleans(),
        st.booleans(),
    ),
    st.tuples(st.just("advance"), st.integers(1, 4_000)),
    st.tuples(st.just("leave"), st.integers(0, 50)),
    st.tuples(st.just("crash"), st.sampled_from(MODELS), st.booleans()),
    st.tuples(st.just("command"), st.sampled_from(["load", "swap", "unload", "preload"]), st.sampled_from(MODELS)),
    st.tuples(
        st.just("reload"),
        st.sampled_from(MODELS),
        st.sampled_from([{"slots": 1}, {"pinned": True}, {"side": True}, {}]),
    ),
    st.tuples(st.just("tick")),
    st.tuples(st.just("shutdown")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.integers(1, 3))
def test_whatever_happens_nothing_is_lost_and_the_end_is_clean(
    actions: list[tuple[object, ...]], resident: int
) -> None:
    """Each event also checks: ledger never exceeded, no answer cut, FIFO in a class, one lease a request."""
    world = small_world(max_resident=resident)
    commands = []
    for action in actions:
        match action:
            case ("ask", str(model), int(busy), events.Priority() as priority, bool(slot), bool(anywhere)):
                world.ask(model, busy, priority=priority, needs_slot=slot, anywhere=anywhere)
            case ("advance", int(ms)):
                world.advance(ms)
            case ("leave", int(index)) if world.requests:
                world.leave(list(world.requests)[index % len(world.requests)])
            case ("crash", str(model), bool(by_signal)):
                world.crash(model, by_signal)
            case ("command", str(kind), str(model)):
                commands.append(world.command(kind, model))
            case ("reload", str(model), dict(changes)):
                world.send(events.Reconfigured(changed(world, model, **changes), frozenset({model})))
            case ("tick",):
                world.send(events.Tick())
            case ("shutdown",) if len(actions) % 4 == 0:
                world.send(events.ShuttingDown())
    world.settle()
    for request in world.requests.values():
        assert request.granted_ms is not None or request.refused is not None or request.left
    assert not world.scheduler.leases and not world.scheduler.waiters
    assert set(commands) <= set(world.answers)
    assert all(not one.leases for one in world.scheduler.instances.values())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 500), st.sampled_from(MODELS), st.integers(1, 3_000)), min_size=1, max_size=40)
)
def test_no_request_starves(arrivals: list[tuple[int, str, int]]) -> None:
    """Bound: `max_wait`, then for each older request its answer, and for each model one stop, load and residency."""
    world = small_world()
    for pause, model, busy in arrivals:
        world.advance(pause)
        world.ask(model, busy)
    world.settle()
    swap = world.stop_ms + max(world.load_ms.values()) + world.terms.min_residency_ms
    for request in world.requests.values():
        assert request.granted_ms is not None
        older = [one.busy_ms for one in world.requests.values() if one.asked_ms <= request.asked_ms]
        streams = sum(older) + 3 * 3_000  # and the longest younger stream that collated, per model
        turns = len(older) + 3
        assert request.granted_ms - request.asked_ms <= world.terms.max_wait_ms + streams + turns * swap


def test_two_saturating_clients_alternate_at_max_wait() -> None:
    """With both models always asked for, each waits about max_wait and the other's longest answer, never more."""
    world = small_world()
    worst = 0.0
    pending = {model: world.ask(model, 1_000) for model in ("small", "middle")}
    for _ in range(4_000):
        world.advance(50)
        for model, asked in list(pending.items()):
            request = world.requests[asked]
            if request.granted_ms is not None:
                worst = max(worst, request.granted_ms - request.asked_ms)
                pending[model] = world.ask(model, 1_000)
    assert worst <= world.terms.max_wait_ms + 1_000 + world.stop_ms + 900 + world.terms.min_residency_ms
    assert world.started.count("small") > 10
