"""From frame to event stream: the whole gateway around fake engines, at 1 to 500 streams."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import Floats, over_blocks, pooled, quantile
from headstart.benchmarks.fake_gateway import (
    BATCH_ROWS,
    MODELS,
    NUM_STREAMS,
    Burst,
    FakeGateway,
    Held,
)
from headstart.benchmarks.report import Table
from headstart.benchmarks.servers import launch_headstart, wait_until_ready
from headstart.cluster.process_memory import keep_loaded
from headstart.configs.settings import Settings

__all__ = ["Found", "GatewayPlan", "checks", "measure", "memory_table", "start", "table"]

WARM_TOKENS = 4
TICK_S = 0.01
"""Resolution of the CPU seconds that the kernel tells."""
WAVE_TOKENS = 40
"""Of an answer where replicas are the limit: 8 s at 5 tokens/s, long beside what 512 requests at
once take to set up."""


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """How much is measured."""

    num_blocks: int
    answer_tokens: Mapping[int, int]
    """Length of an unthrottled answer, by the number of streams."""
    paced_tokens: int
    """Length of each of the 500 paced answers."""
    num_waves: int
    """Blocks in which two replicas are measured beside one."""


@dataclass(slots=True)
class Found:
    """What was measured."""

    held: Held
    bursts: dict[int, list[Burst]]
    """Unthrottled, by the number of streams."""
    late_s: list[Floats] = field(default_factory=list)
    scaling: list[tuple[Burst, Burst]] = field(default_factory=list)
    """One replica and two."""


def start(settings: Settings, folder: Path) -> FakeGateway:
    """Start the daemon around fake engines.

    Raises:
        SetupError: It ends, or takes longer than five minutes.
    """
    folder = folder / "gateway"
    folder.mkdir()
    # Nobody is refused because the answer before is still being put away.
    gateway = settings.gateway.model_copy(update={"max_streams": 4 * BATCH_ROWS})
    own = settings.model_copy(update={"gateway": gateway})
    arm, _, port = launch_headstart(own, MODELS, folder)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(arm, f"{url}/readyz")
        return FakeGateway(arm, url)
    except BaseException:
        arm.stop()
        raise


def measure(daemon: FakeGateway, plan: GatewayPlan) -> Found:
    """Ask for everything, in blocks."""
    return uvloop.run(_measure(daemon, plan))


async def _measure(daemon: FakeGateway, plan: GatewayPlan) -> Found:
    for model in ("unthrottled", "paced", "one-replica", "two-replicas"):
        await daemon.burst(model, 20, WARM_TOKENS)  # loads what the first request loads
    keep_loaded()  # the client's own pauses would be taken for the daemon's
    found = Found(await daemon.hold(), {size: [] for size in plan.answer_tokens})
    for block in range(plan.num_blocks):
        for size, num_tokens in plan.answer_tokens.items():
            found.bursts[size].append(await daemon.burst("unthrottled", size, num_tokens))
        found.late_s.append(await daemon.paced(plan.paced_tokens))
        speeds = ", ".join(
            f"x{size}: {_speed_per_core(bursts[-1:]):.0f}" for size, bursts in found.bursts.items()
        )
        late = quantile(found.late_s[-1], 0.99)
        print(
            f"gateway {block + 1}/{plan.num_blocks}: tokens/s of a core {speeds}; "
            f"p99 between tokens +{late:.4f} s",
            flush=True,
        )
    for wave in range(plan.num_waves):
        found.scaling.append(await _scale(daemon, wave))
    return found


async def _scale(daemon: FakeGateway, wave: int) -> tuple[Burst, Burst]:
    """Have one replica and two do the same work: as many answers at once as two batches hold.

    With one replica half of them wait in line.
    """
    bursts: dict[str, Burst] = {}
    order = ("one-replica", "two-replicas") if wave % 2 == 0 else ("two-replicas", "one-replica")
    for model in order:
        bursts[model] = await daemon.burst(model, 2 * BATCH_ROWS, WAVE_TOKENS)
    found = bursts["one-replica"], bursts["two-replicas"]
    print(f"replicas: {_ratio([found]):.3f} times one replica's speed", flush=True)
    return found


def checks(found: Found, *, is_quick: bool) -> Iterator[Check]:
    """Judge the bars of issue 3."""
    for size, bursts in found.bursts.items():
        bar = Bar(f"gateway_speed_per_core_{size}_streams", 8_000, "higher", "tokens/s")
        yield judge(bar, over_blocks(bursts, _speed_per_core), is_quick=is_quick)
    bar = Bar(f"gateway_added_inter_token_p99_{NUM_STREAMS}_streams", 0.02, "lower", "s")
    late = over_blocks(found.late_s, lambda drawn: quantile(pooled(drawn), 0.99))
    note = "beyond the engine's step of 0.1 s; the engines' and the client's own lateness included"
    yield judge(bar, late, is_quick=is_quick, note=note)
    bar = Bar("two_replicas_speed", 1.9, "higher", "ratio")
    if found.scaling:
        yield judge(bar, over_blocks(found.scaling, _ratio), is_quick=is_quick)
    else:
        yield not_measured(bar, "takes minutes")


def table(found: Found) -> Table:
    """Speeds, by the number of streams."""
    return Table(
        "The whole gateway around unthrottled fake engines",
        ("streams", "tokens", "tokens_per_s", "gateway_cpu_s", "tokens_per_s_per_gateway_core"),
        tuple(
            (
                size,
                sum(burst.num_tokens for burst in bursts),
                _speed(bursts),
                sum(burst.gateway_cpu_s for burst in bursts),
                _speed_per_core(bursts),
            )
            for size, bursts in found.bursts.items()
        ),
    )


def memory_table(found: Found) -> Table:
    """What an idle stream takes."""
    held = found.held
    sizes = (
        ("gateway", held.gateway_before, held.gateway_after),
        ("replica", held.replica_before, held.replica_after),
    )
    return Table(
        f"Resident memory with {held.num_streams} idle streams",
        ("process", "before_mib", "with_streams_mib", "kib_per_stream"),
        tuple(
            (name, before / 2**20, after / 2**20, (after - before) / 2**10 / held.num_streams)
            for name, before, after in sizes
        ),
    )


def _speed(bursts: Sequence[Burst]) -> float:
    return sum(each.num_tokens for each in bursts) / sum(each.seconds for each in bursts)


def _speed_per_core(bursts: Sequence[Burst]) -> float:
    # An answer of a few milliseconds may fall between two ticks of the kernel's clock.
    cpu_s = max(sum(each.gateway_cpu_s for each in bursts), TICK_S)
    return sum(each.num_tokens for each in bursts) / cpu_s


def _ratio(pairs: Sequence[tuple[Burst, Burst]]) -> float:
    return _speed([two for _, two in pairs]) / _speed([one for one, _ in pairs])
