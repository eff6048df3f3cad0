"""The data plane against Ray Serve handles: the same frames of fake engines, at set speeds."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge
from headstart.benchmarks.child import Child, command
from headstart.benchmarks.estimates import over_blocks, pooled, quantile
from headstart.benchmarks.frame_times import Ask, Delivery
from headstart.benchmarks.report import Table
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.configs.settings import RaySettings, Settings

__all__ = ["FramePlan", "Frames", "checks", "measure", "start_readers", "table"]

NUM_STREAMS = 64
TOKENS_PER_S = 50.0
PACED, UNTHROTTLED = "paced", "unthrottled"


@dataclass(frozen=True, slots=True)
class FramePlan:
    """How much is measured."""

    num_blocks: int
    paced_tokens: int
    """Length of each of the 64 paced answers."""
    unthrottled_tokens: int
    """Length of each unthrottled answer."""


@dataclass(frozen=True, slots=True)
class Frames:
    """One reader's blocks."""

    name: str
    paced: list[Delivery]
    unthrottled: list[Delivery]
    """As many streams at once as when paced."""
    alone: list[Delivery]
    """Unthrottled, one stream."""


def start_readers(folder: Path) -> tuple[Child, Child]:
    """Start the reader on the data plane and the one on Serve handles, and wait for both.

    Raises:
        SetupError: One of them ends.
    """
    settings = _settings().to_child().encode()
    readers: list[Child] = []
    try:
        for name, entry in (("data plane", "read_data_plane"), ("serve handle", "read_handles")):
            argv = command("headstart.benchmarks.frame_children", entry)
            readers.append(Child(name, argv, folder / f"{entry}.log"))
            readers[-1].tell(settings)
            readers[-1].hear(bool)
            readers[-1].arm.suspend()
    except BaseException:
        for reader in readers:
            reader.arm.stop()
        raise
    return readers[0], readers[1]


def measure(readers: Sequence[Child], plan: FramePlan) -> list[Frames]:
    """Have both readers fetch the same answers, in turn.

    Args:
        readers: Suspended.
    """
    found = [Frames(reader.arm.name, [], [], []) for reader in readers]
    pairs = list(zip(readers, found, strict=True))
    for block in range(plan.num_blocks):
        for reader, frames in pairs if block % 2 == 0 else reversed(pairs):
            with reader.arm.awake():
                _ask(reader, Ask(PACED, NUM_STREAMS, 1))  # wakes what was suspended
                frames.paced.append(_ask(reader, Ask(PACED, NUM_STREAMS, plan.paced_tokens)))
                ask = Ask(UNTHROTTLED, NUM_STREAMS, plan.unthrottled_tokens)
                frames.unthrottled.append(_ask(reader, ask))
                ask = Ask(UNTHROTTLED, 1, plan.unthrottled_tokens)
                frames.alone.append(_ask(reader, ask))
        late = " and ".join(f"{_late_s(frames.paced[-1:], 0.99):.4f} s" for frames in found)
        done = f"{block + 1}/{plan.num_blocks}"
        print(f"frames {done}: p99 of data plane and serve handle {late}", flush=True)
    return found


def checks(data_plane: Frames, *, is_quick: bool) -> Iterator[Check]:
    """Judge the bars of issue 2."""
    bar = Bar("data_plane_added_p99_64_streams", 0.01, "lower", "s")
    late = over_blocks(data_plane.paced, lambda drawn: _late_s(drawn, 0.99))
    yield judge(bar, late, is_quick=is_quick)
    bar = Bar("data_plane_speed_one_connection", 10_000, "higher", "tokens/s")
    yield judge(bar, over_blocks(data_plane.unthrottled, _speed), is_quick=is_quick)


def table(found: Sequence[Frames]) -> Table:
    """Both readers' figures."""
    return Table(
        f"Frames of fake engines, {NUM_STREAMS} streams of {TOKENS_PER_S:g} tokens/s",
        (
            *("reader", "tokens", "added_p50_s", "added_p99_s", "paced_tokens_per_s"),
            *("unthrottled_tokens_per_s", "unthrottled_one_stream_tokens_per_s"),
        ),
        tuple(
            (
                frames.name,
                sum(each.num_tokens for each in frames.paced),
                _late_s(frames.paced, 0.5),
                _late_s(frames.paced, 0.99),
                _speed(frames.paced),
                _speed(frames.unthrottled),
                _speed(frames.alone),
            )
            for frames in found
        ),
    )


def _ask(reader: Child, ask: Ask) -> Delivery:
    reader.tell(msgspec.json.encode(ask))
    return reader.hear(Delivery)


def _late_s(deliveries: Sequence[Delivery], share: float) -> float:
    return quantile(pooled([np.array(each.late_s) for each in deliveries]), share)


def _speed(deliveries: Sequence[Delivery]) -> float:
    return sum(each.num_tokens for each in deliveries) / sum(each.seconds for each in deliveries)


def _settings() -> Settings:
    speeds = {
        PACED: FakeEngineSettings(tokens_per_s=TOKENS_PER_S, tokens_per_step=1),
        UNTHROTTLED: FakeEngineSettings(time_to_first_token_s=0, tokens_per_s=0, tokens_per_step=1),
    }
    models = tuple(
        ModelSettings(name=name, engine="fake", fake=speed) for name, speed in speeds.items()
    )
    ray = RaySettings(metrics_export_port=0)
    return Settings(models=models, ray=ray).with_secret(secrets.token_hex(32))
