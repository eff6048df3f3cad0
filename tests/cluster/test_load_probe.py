"""What is made of the numbers that vLLM tells of each step."""

from types import SimpleNamespace
from typing import Any

from headstart.cluster.adapter import LoadProbe
from headstart.cluster.engine import EngineLoad
from headstart.stages.speculation_counts import LanguageCounts, SourceCounts


def drafts(num: int, drafted: list[int], accepted: list[int]) -> Any:
    return SimpleNamespace(
        num_drafts=num, num_draft_tokens_per_pos=drafted, num_accepted_tokens_per_pos=accepted
    )


def scheduled(running: int = 0, waiting: int = 0, drafted: Any = None) -> Any:
    return SimpleNamespace(
        num_running_reqs=running,
        num_waiting_reqs=waiting,
        kv_cache_usage=running / 10,
        spec_decoding_stats=drafted,
    )


def gained(tokens: int, *, firsts: int = 0, laters: int = 0, preempted: int = 0) -> Any:
    return SimpleNamespace(
        num_preempted_reqs=preempted,
        num_generation_tokens=tokens,
        time_to_first_tokens_iter=[0.2] * firsts,
        inter_token_latencies_iter=[0.1] * laters,
    )


def test_steps_without_drafts_are_counted_beside_those_with() -> None:
    probe = LoadProbe("de")

    probe.step(scheduled(2), gained(2, firsts=2))
    probe.step(scheduled(2, 0, drafts(2, [2, 2], [2, 1])), gained(5, laters=2))
    for _ in range(10):
        probe.step(scheduled(2), gained(2, laters=2))
    before = probe.speculation()
    probe.step(scheduled(2, 0, drafts(1, [1, 1], [0, 0])), gained(2, laters=2))

    assert before.languages == {
        "de": LanguageCounts(24, 27, {"model": SourceCounts(2, [2, 2], [2, 1])})
    }
    assert probe.speculation().since(before).languages == {
        "de": LanguageCounts(2, 2, {"model": SourceCounts(1, [1, 1], [0, 0])})
    }


def test_either_half_may_be_missing() -> None:
    probe = LoadProbe()

    probe.step(scheduled(3, 4), None)
    probe.step(None, gained(1, laters=1, preempted=2))

    assert (probe.latest, probe.kv_cache_usage) == (EngineLoad(3, 4), 0.3)
    assert (probe.preempted, probe.decoded.rows, probe.decoded.tokens) == (2, 1, 1)
