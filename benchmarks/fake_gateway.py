"""The whole gateway around fake engines: what is asked of it, and what a block of that shows."""

import asyncio
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

import numpy as np
import psutil

from headstart.benchmarks.arms import Arm
from headstart.benchmarks.estimates import Floats, pooled
from headstart.benchmarks.load import PATIENCE_S, Exchange, chat_request, offer, timeline
from headstart.benchmarks.scraped import total
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.stages.errors import SetupError

__all__ = ["BATCH_ROWS", "MODELS", "NUM_STREAMS", "Burst", "FakeGateway", "Held", "late_s"]

NUM_STREAMS = 500
STEP_S = 0.1
"""Between two tokens of a paced stream."""
SLOW_TOKENS_PER_S = 5.0
BATCH_ROWS = 256
"""Rows of a fake engine's batch. At 5 tokens/s each a replica makes 1,280 tokens/s at most: it is
the limit, and not the cores, and what has no row waits in line."""

_numbers = count()


@dataclass(frozen=True, slots=True)
class Burst:
    """Answers asked for at once."""

    num_tokens: int
    seconds: float
    """From the first request to the last byte."""
    gateway_cpu_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """Resident memory before and while idle streams are open, bytes."""

    num_streams: int
    gateway_before: int
    gateway_after: int
    replica_before: int
    replica_after: int


def _model(name: str, replicas: int, first_s: float, tokens_per_s: float) -> ModelSettings:
    fake = FakeEngineSettings(
        time_to_first_token_s=first_s, tokens_per_s=tokens_per_s, tokens_per_step=1
    )
    return ModelSettings(name=name, engine="fake", replicas=replicas, fake=fake)


MODELS = (
    # Two replicas where 500 streams shall run at once.
    _model("unthrottled", 2, 0.0, 0.0),
    _model("paced", 2, 0.05, 1 / STEP_S),
    _model("idle", 1, 600.0, 1.0),
    _model("one-replica", 1, 0.0, SLOW_TOKENS_PER_S),
    _model("two-replicas", 2, 0.0, SLOW_TOKENS_PER_S),
)


class FakeGateway:
    """A daemon that serves `MODELS`.

    Args:
        arm: Its processes, started and ready.
        url: Where it listens.
    """

    def __init__(self, arm: Arm, url: str) -> None:
        self.arm = arm
        self.url = url
        self._gateway = self._process("headstart gateway")

    async def ask(self, model: str, num_streams: int, num_tokens: int) -> list[Exchange]:
        """Fetch answers of a length, all at once."""
        requests = [self._request(model, num_tokens) for _ in range(num_streams)]
        return await offer(self.url, requests, num_streams)

    async def burst(self, model: str, num_streams: int, num_tokens: int) -> Burst:
        """Fetch answers at once and see how long it takes, and what the gateway uses meanwhile."""
        before = self._cpu_s()
        exchanges = await self.ask(model, num_streams, num_tokens)
        used = self._cpu_s() - before
        for exchange in exchanges:
            timeline(exchange, num_tokens)  # refuses what is not the answer asked for
        began = min(exchange.sent_at for exchange in exchanges)
        ended = max(exchange.ended_at for exchange in exchanges)
        return Burst(num_tokens * num_streams, ended - began, used)

    async def paced(self, num_tokens: int) -> Floats:
        """Fetch 500 paced answers; seconds by which each token was late behind the one before."""
        exchanges = await self.ask("paced", NUM_STREAMS, num_tokens)
        return late_s(exchanges, num_tokens)

    async def hold(self) -> Held:
        """Open streams that say nothing yet, and see what they take."""
        replica = self._process("ServeReplica:headstart-idle")
        before = self._gateway.memory_info().rss, replica.memory_info().rss
        address = urlsplit(self.url)
        links = []
        try:
            for _ in range(NUM_STREAMS):
                _, writer = await asyncio.open_connection(address.hostname, address.port)
                links.append(writer)
                writer.write(self._request("idle", 8))
                await writer.drain()
            async with asyncio.timeout(PATIENCE_S):
                while await asyncio.to_thread(self._num_live) < NUM_STREAMS:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            after = self._gateway.memory_info().rss, replica.memory_info().rss
        finally:
            for writer in links:
                writer.close()
        return Held(NUM_STREAMS, before[0], after[0], before[1], after[1])

    def _num_live(self) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:  # noqa: S310
            return total(answer.read().decode(), 'headstart_streams{state="live"')

    def _request(self, model: str, num_tokens: int) -> bytes:
        return chat_request(model, f"Answer number {next(_numbers)}.", num_tokens)

    def _cpu_s(self) -> float:
        times = self._gateway.cpu_times()
        return times.user + times.system

    def _process(self, part: str) -> psutil.Process:
        for process in self.arm.tree:
            with suppress(psutil.Error):
                if part in (" ".join(process.cmdline()) or process.name()):
                    return process
        raise SetupError(f"the daemon has no process named {part}")


def late_s(exchanges: Sequence[Exchange], num_tokens: int) -> Floats:
    """Seconds beyond one step between tokens, while all streams run.

    The gaps hold the engine's and the client's own lateness too: they share the gateway's cores.
    """
    found: list[Floats] = []
    arrivals = []
    for exchange in exchanges:
        own = timeline(exchange, num_tokens)
        arrivals.append(exchange.sent_at + own.first_s + np.cumsum([0.0, *own.gaps_s]))
    all_run_at = max(each[0] for each in arrivals)
    for each in arrivals:
        running = each[each >= all_run_at]
        found.append(np.diff(running) - STEP_S)
    return pooled(found)
