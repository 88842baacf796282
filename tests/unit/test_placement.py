"""Plans: the owner's file comes out as the owner runs it, and no plan takes memory that is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import headers
from variet.engine import config, config_file, gguf_facts, hardware
from variet.engine.facts import Facts, Layer
from variet.engine.memory import MIB, Shape
from variet.engine.placement import Device, Room, Wish, place
from variet.engine.plan import Plan, make_plan

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def owner_facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Facts]:
    folder = tmp_path_factory.mktemp("headers")
    result = {}
    for name in headers.OWNER_MODELS:
        path = headers.write_header(name, folder / f"{name}.gguf", vocabulary=8)
        with path.open("rb") as stream:
            result[name] = gguf_facts.facts_of([gguf_facts.read_header(stream, name)])
    return result


@pytest.fixture(scope="module")
def owner_plan(owner_facts: dict[str, Facts]) -> Plan:
    file = config_file.load(ROOT / "config" / "engine_models.json")
    return make_plan(file, hardware.describe(file.hardware), Path("/nowhere"), owner_facts)


def test_dense_models_use_both_gpus(owner_plan: Plan) -> None:
    for name in ("gemma-4-31b", "qwen3.5-27b"):
        placement = owner_plan.models[name]
        assert placement.problem is None
        assert placement.split.gpu_indices == (0, 1) and placement.split.host_expert_layers == 0
        share = placement.demand_mib["gpu0"] / placement.demand_mib["gpu1"]
        assert share == pytest.approx(1, abs=0.05), "equal cards, equal load"


def test_the_122b_uses_gpu_1_alone_with_experts_on_the_host(owner_plan: Plan) -> None:
    placement = owner_plan.models["qwen3.5-122b-a10b"]
    assert placement.problem is None
    assert placement.split.gpu_indices == (1,) and placement.split.host_expert_layers > 40
    assert 55_000 < placement.demand_mib["host"] < 80_000
    assert any("GPU 0 and GPU 1" in reason for reason in placement.why), "says why not both"


def test_the_small_experts_fit_whole(owner_plan: Plan) -> None:
    for name in ("gemma-4-26b-a4b", "qwen3.5-35b-a3b"):
        placement = owner_plan.models[name]
        assert placement.problem is None and placement.split.host_expert_layers == 0


def test_one_big_tier_at_a_time(owner_plan: Plan) -> None:
    assert owner_plan.together == ()


def test_experts_stream_through_the_fast_link_wherever_it_is(owner_facts: dict[str, Facts]) -> None:
    """llama.cpp keeps the experts of the first layers on the host, and those layers are on the first GPU."""
    file = config_file.load(ROOT / "config" / "engine_models.json")
    described = file.hardware.gpus or ()
    swapped = file.hardware.model_copy(update={"gpus": tuple(reversed(described))})
    plan = make_plan(file.model_copy(update={"hardware": swapped}), hardware.describe(swapped), Path("/x"), owner_facts)
    placement = plan.models["qwen3.5-122b-a10b"]
    assert placement.problem is None and placement.split.gpu_indices[0] == 0
    assert placement.split.host_expert_layers <= placement.split.tensor_split[0]


def test_tiers_are_planned_beside_the_side_models(owner_facts: dict[str, Facts]) -> None:
    file = config_file.load(ROOT / "config" / "engine_models.json")
    side = {"files": {"model": "path:/e.gguf"}, "kind": "embedding", "gpus": [1], "context_tokens": 512}
    with_side = config.EngineConfig.model_validate(
        {**file.model_dump(by_alias=True), "side_models": {"embedder": side}}
    )
    layer = Layer(30 * MIB, 0, 0, 512, 512, 0, 0)
    embedder = Facts("t", "", (layer,) * 12, 0, 0, 768, 3072, 12, 30_000, 512, 0, 0, 0, 0, 0)
    facts = {**owner_facts, "embedder": embedder}
    plan = make_plan(with_side, hardware.describe(file.hardware), Path("/nowhere"), facts)
    taken = plan.models["embedder"].demand_mib["gpu1"]
    for name in headers.OWNER_MODELS:
        if plan.models[name].problem is None:
            assert plan.models[name].demand_mib.get("gpu1", 0) + taken <= plan.capacity_mib["gpu1"]
    assert plan.models["qwen3.5-27b"].problem is None


def test_a_full_second_card_is_left_out() -> None:
    layer = Layer(100 * MIB, 0, 0, 1024, 1024, 0, 0)
    facts = Facts("t", "", (layer,) * 30, 0, 0, 2048, 8192, 16, 150_000, 32_768, 0, 0, 0, 0, 0)
    room = Room((Device(0, 24_000, 12_000.0), Device(1, 300, 12_000.0)), 32_000, 2_000)
    placement = place(facts, room, Wish(SHAPE))
    assert placement.problem is None and placement.split.gpu_indices == (0,)


def test_a_dense_model_too_large_for_its_card_runs_partly_on_the_processor(owner_facts: dict[str, Facts]) -> None:
    facts = owner_facts["qwen3.5-27b"]
    room = Room((Device(0, 11_500, 12_000.0),), 64_000, 2_000)
    placement = place(facts, room, Wish(SHAPE))
    split = placement.split
    assert placement.problem is None and split.gpu_layers is not None and 20 < split.gpu_layers < len(facts.layers)
    assert placement.demand_mib["gpu0"] > 10_500, "as much as fits"
    assert "processor" in placement.why[0] and "try" in placement.why[0]
    learned = place(facts, room, Wish(SHAPE, learned_gpu_mib=1_000)).split.gpu_layers
    assert learned is not None and learned < split.gpu_layers, "smaller after a failed allocation"


def test_a_card_without_room_leaves_the_work_to_the_processor(owner_facts: dict[str, Facts]) -> None:
    facts = owner_facts["qwen3.5-27b"]
    tiny = Room((Device(0, 200, 12_000.0),), 64_000, 2_000)
    placement = place(facts, tiny, Wish(SHAPE))
    assert placement.problem is None and placement.split.gpu_indices == () and "no GPU has room" in placement.why[0]
    assert place(facts, tiny, Wish(SHAPE, "all")).problem is not None, "what the owner asked for cannot be had"


SHAPE = Shape(context_tokens=4096, slots=1, kv_type="f16", swa_full=False, micro_batch_tokens=512, checkpoints=4)
LAYERS = st.builds(
    Layer,
    dense_bytes=st.integers(1, 400 * MIB),
    expert_bytes=st.just(0),
    largest_expert_bytes=st.just(0),
    key_elements=st.integers(0, 2048),
    value_elements=st.integers(0, 2048),
    window=st.sampled_from([0, 1024]),
    recurrent_bytes=st.sampled_from([0, 3 * MIB]),
)


@st.composite
def models(draw: st.DrawFn) -> Facts:
    layers = draw(st.lists(LAYERS, min_size=1, max_size=20))
    experts = draw(st.sampled_from([0, 8]))
    if experts:
        size = draw(st.integers(1, 600 * MIB))
        layers = [replace(layer, expert_bytes=size, largest_expert_bytes=size // 3) for layer in layers]
    return Facts(
        architecture="test", name="", layers=tuple(layers), embedding_bytes=draw(st.integers(0, 900 * MIB)),
        output_bytes=draw(st.integers(0, 900 * MIB)), embedding_length=2048, feed_forward_length=8192, heads=16,
        vocabulary=150_000, trained_context=32_768, experts=experts, experts_used=2 if experts else 0,
        expert_feed_forward_length=512, repacked_bytes=0, unused_bytes=0,
    )  # fmt: skip


DEVICES = st.lists(st.tuples(st.integers(0, 24_000), st.integers(1, 30_000)), max_size=3).map(
    lambda pairs: tuple(Device(index, free, float(link)) for index, (free, link) in enumerate(pairs))
)


@settings(max_examples=300, deadline=None)
@given(models(), DEVICES, st.integers(0, 64_000), st.sampled_from(["auto", "all", "none", (0,), (0, 1), (2,)]))
def test_a_plan_without_problem_fits_and_is_always_the_same(
    facts: Facts, gpus: tuple[Device, ...], host_mib: int, wish: str | tuple[int, ...]
) -> None:
    room = Room(gpus, host_mib, 2_000)
    placement = place(facts, room, Wish(SHAPE, wish))
    assert placement == place(facts, room, Wish(SHAPE, wish))
    if placement.problem is not None:
        assert len(placement.problem) > 10
        return
    assert all(amount <= room.capacity[device] for device, amount in placement.demand_mib.items())
    assert placement.why and placement.load_s > 0
    if placement.split.gpu_indices:
        on_gpus = placement.split.gpu_layers or len(facts.layers) + 1
        assert sum(placement.split.tensor_split) == on_gpus, "every layer and the head have a place"
    if isinstance(wish, tuple):
        assert set(placement.split.gpu_indices) == set(wish)


@settings(max_examples=100, deadline=None)
@given(models(), st.integers(1_000, 24_000))
def test_more_memory_never_makes_a_plan_impossible(facts: Facts, free: int) -> None:
    def fits(extra: int) -> bool:
        room = Room((Device(0, free + extra, 12_000.0),), 32_000, 2_000)
        return place(facts, room, Wish(SHAPE)).problem is None

    assert not fits(0) or fits(4_000)
