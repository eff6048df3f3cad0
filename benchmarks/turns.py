"""Turns on a real model: every server gets the same prompts, so close together that drift cancels.

The machine's speed drifts by a tenth between blocks of several seconds. A turn is therefore a
palindrome of short batches, such as `ours, baseline, baseline, ours`: what drifts steadily while it
lasts weighs on all servers alike. A server in the middle of a turn stays awake for both of its
batches, which saves a third of the wakings.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import uvloop

from headstart.benchmarks.answer_times import Answers, Pair, batch_of, joined, speed
from headstart.benchmarks.load import chat_request, offer
from headstart.benchmarks.servers import Server

__all__ = ["ServingPlan", "Shift", "measure", "num_prompts", "shifts"]

WARM_TOKENS = 2
HALVES = 2
"""Batches of one server in a turn."""


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """How much is measured."""

    num_rounds: int
    answer_tokens: int
    turns: Mapping[int, int]
    """Turns in a round by concurrency; a turn has as many answers in each of its batches."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Batches of one server in a row, by their number within the turn."""

    server: int
    halves: tuple[int, ...]


def shifts(num_servers: int, turn: int) -> Iterator[Shift]:
    """Yield who serves what in a turn: there and back again; who begins alternates."""
    there = list(range(num_servers))
    if turn % 2:
        there.reverse()
    *outer, middle = there
    for server in outer:
        yield Shift(server, (0,))
    yield Shift(middle, tuple(range(HALVES)))
    for server in reversed(outer):
        yield Shift(server, (1,))


def num_prompts(plan: ServingPlan) -> int:
    """How many different prompts the plan needs."""
    return plan.num_rounds * sum(HALVES * size * turns for size, turns in plan.turns.items())


def measure(
    servers: Sequence[Server], texts: Sequence[str], plan: ServingPlan
) -> dict[str, dict[int, list[Pair]]]:
    """Measure the servers in turn.

    No server has seen a prompt of a batch before, and all see the same ones in the same order, so
    their prefix caches hold equally little. Servers beyond the second take part in the first turn
    of each round and concurrency only: from them less is to be told.

    Args:
        servers: Ours, then the baselines; suspended.
        texts: Prompts, at least as many as the plan needs.

    Returns: Ours beside each baseline: by its name and by concurrency.
    """
    assert len(texts) >= num_prompts(plan)
    fresh = iter(texts)
    found: dict[str, dict[int, list[Pair]]] = {
        server.arm.name: {concurrency: [] for concurrency in plan.turns} for server in servers[1:]
    }
    for number in range(plan.num_rounds):
        for concurrency, num_turns in plan.turns.items():
            for turn in range(num_turns):
                present = servers if turn == 0 else servers[:2]
                asked = [list(itertools.islice(fresh, concurrency)) for _ in range(HALVES)]
                ours, *baselines = _turn(present, number + turn, asked, plan.answer_tokens)
                for server, baseline in zip(present[1:], baselines, strict=True):
                    found[server.arm.name][concurrency].append(Pair(ours, baseline))
        _say(number + 1, plan, found)
    return found


def _turn(
    servers: Sequence[Server], turn: int, asked: Sequence[Sequence[str]], answer_tokens: int
) -> list[Answers]:
    parts: list[list[Answers]] = [[] for _ in servers]
    for shift in shifts(len(servers), turn):
        server = servers[shift.server]
        batches = [
            [chat_request(server.model, text, answer_tokens) for text in asked[half]]
            for half in shift.halves
        ]
        with server.arm.awake():
            parts[shift.server] += uvloop.run(_offer(server, batches, answer_tokens))
    return [joined(each) for each in parts]


async def _offer(
    server: Server, batches: Sequence[Sequence[bytes]], answer_tokens: int
) -> list[Answers]:
    # Wakes whatever a suspended process finds stale, and is not measured.
    await offer(server.url, [chat_request(server.model, "Say one.", WARM_TOKENS)], concurrency=1)
    exchanges = [await offer(server.url, batch, len(batch)) for batch in batches]
    return [batch_of(each, answer_tokens) for each in exchanges]


def _say(number: int, plan: ServingPlan, found: Mapping[str, Mapping[int, list[Pair]]]) -> None:
    latest = "; ".join(
        f"{name} "
        + ", ".join(
            f"x{size} {speed([pairs[-1].ours]):.1f} and {speed([pairs[-1].baseline]):.1f}"
            for size, pairs in sizes.items()
        )
        for name, sizes in found.items()
    )
    print(f"real model {number}/{plan.num_rounds}: tokens/s of ours and {latest}", flush=True)
