"""Our daemon against `vllm serve`, on a real model: first token, inter-token time, throughput."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import uvloop

from headstart.benchmarks.answer_times import (
    Answers,
    Pair,
    added,
    block_of,
    first_median_s,
    gap_s,
    ratio,
    speed,
)
from headstart.benchmarks.checks import Bar, Check, judge
from headstart.benchmarks.load import chat_request, offer
from headstart.benchmarks.report import Table
from headstart.benchmarks.servers import Server

__all__ = ["CONCURRENCIES", "ServingPlan", "checks", "measure", "table"]

CONCURRENCIES = (1, 4)
WARM_TOKENS = 8


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """How much is measured."""

    num_pairs: int
    answer_tokens: int
    num_requests: Mapping[int, int]
    """Requests of one server in a block, by concurrency."""


def measure(
    ours: Server, baseline: Server, texts: Sequence[str], plan: ServingPlan
) -> dict[int, list[Pair]]:
    """Measure both servers in turn, each block of prompts on one and then on the other.

    Who comes first alternates. Each server has seen no prompt of a block before, and both see the
    same ones in the same order, so their prefix caches hold equally little.

    Args:
        ours: Suspended.
        baseline: Suspended.
        texts: Prompts, as many as the plan needs.

    Returns: The pairs by concurrency.
    """
    fresh = iter(texts)
    pairs: dict[int, list[Pair]] = {concurrency: [] for concurrency in CONCURRENCIES}
    for turn in range(plan.num_pairs):
        asked = {
            concurrency: list(itertools.islice(fresh, plan.num_requests[concurrency]))
            for concurrency in CONCURRENCIES
        }
        order = (ours, baseline) if turn % 2 == 0 else (baseline, ours)
        found = {server.arm.name: _block(server, asked, plan.answer_tokens) for server in order}
        for concurrency in CONCURRENCIES:
            pair = Pair(found[ours.arm.name][concurrency], found[baseline.arm.name][concurrency])
            pairs[concurrency].append(pair)
        _say(turn + 1, plan.num_pairs, {c: pairs[c][-1] for c in CONCURRENCIES})
    return pairs


def checks(pairs: Mapping[int, Sequence[Pair]], *, is_quick: bool) -> Iterator[Check]:
    """Judge the bars of issue 2."""
    bar = Bar("added_ttft_median_concurrency_1", 0.005, "lower", "s")
    yield judge(bar, added(pairs[1], first_median_s), is_quick=is_quick)
    for concurrency in CONCURRENCIES:
        bar = Bar(f"inter_token_p99_concurrency_{concurrency}", 1.1, "lower", "ratio")
        yield judge(bar, ratio(pairs[concurrency], gap_s(0.99)), is_quick=is_quick)
    for concurrency in CONCURRENCIES:
        bar = Bar(f"throughput_concurrency_{concurrency}", 0.97, "higher", "ratio")
        yield judge(bar, ratio(pairs[concurrency], speed), is_quick=is_quick)


def table(pairs: Mapping[int, Sequence[Pair]]) -> Table:
    """Each server's own figures."""
    rows: list[tuple[str | float | int | None, ...]] = []
    for concurrency in CONCURRENCIES:
        for name in ("headstart", "vllm serve"):
            blocks = [
                pair.ours if name == "headstart" else pair.baseline for pair in pairs[concurrency]
            ]
            rows.append((name, concurrency, *_figures(blocks)))
    return Table(
        "Real model, closed loop",
        (
            *("server", "concurrency", "answers", "ttft_median_s"),
            *("gap_p50_s", "gap_p90_s", "gap_p99_s", "tokens_per_s"),
        ),
        tuple(rows),
    )


def _figures(blocks: Sequence[Answers]) -> tuple[float | int, ...]:
    return (
        sum(len(block.first_s) for block in blocks),
        first_median_s(blocks),
        *(gap_s(share)(blocks) for share in (0.5, 0.9, 0.99)),
        speed(blocks),
    )


def _block(
    server: Server, asked: Mapping[int, Sequence[str]], answer_tokens: int
) -> dict[int, Answers]:
    with server.arm.awake():
        return uvloop.run(_ask(server, asked, answer_tokens))


async def _ask(
    server: Server, asked: Mapping[int, Sequence[str]], answer_tokens: int
) -> dict[int, Answers]:
    # Wakes whatever a suspended process finds stale, and is not measured.
    warm = [chat_request(server.model, f"Say {number}.", WARM_TOKENS) for number in range(4)]
    await offer(server.url, warm, concurrency=4)
    found = {}
    for concurrency, texts in asked.items():
        requests = [chat_request(server.model, text, answer_tokens) for text in texts]
        exchanges = await offer(server.url, requests, concurrency)
        found[concurrency] = block_of(exchanges, answer_tokens)
    return found


def _say(turn: int, num_turns: int, latest: Mapping[int, Pair]) -> None:
    speeds = ", ".join(
        f"x{concurrency}: {speed([pair.ours]):.1f} and {speed([pair.baseline]):.1f}"
        for concurrency, pair in latest.items()
    )
    print(
        f"real model {turn}/{num_turns}: tokens/s of headstart and vllm serve {speeds}", flush=True
    )
