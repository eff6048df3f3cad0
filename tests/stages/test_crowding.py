"""Drafts in a KV cache that is nearly full, beside a scheduler that preempts as vLLM's does."""

import math
import random

import pytest

from headstart.stages.crowding import Crowding

BLOCK_TOKENS = 16


class Request:
    def __init__(self, num_prompt: int, num_answer: int) -> None:
        self.tokens = num_prompt
        self.end = num_prompt + num_answer
        self.blocks: list[int] = []
        self.draft = 0

    @property
    def num_lacking(self) -> int:
        return math.ceil((self.tokens + self.draft) / BLOCK_TOKENS) - len(self.blocks)


class Scheduler:
    """First come, first served; who came last is preempted. Drafts are long, and always wrong."""

    def __init__(self, num_blocks: int, max_tokens: int, crowding: Crowding | None = None) -> None:
        self.free = list(range(num_blocks))
        self.max_tokens = max_tokens
        self.crowding = crowding
        self.most = max(4, num_blocks // 16)
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.preempted = self.drafted = 0

    def run(self, requests: list[Request]) -> None:
        self.waiting = requests
        while self.waiting or self.running:
            self._step()

    def _step(self) -> None:
        before = self.preempted
        num_tokens = at = 0
        while at < len(self.running):
            request = self.running[at]
            while request.num_lacking > len(self.free) and request in self.running:
                self._preempt(self.running.pop())
            if request not in self.running:
                break
            self._allocate(request)
            num_tokens += 1 + request.draft
            at += 1
        while self.waiting and self.preempted == before and len(self.running) < self.most:
            if self.waiting[0].num_lacking > len(self.free):
                break
            self.running.append(self.waiting.pop(0))
            num_tokens += self.running[-1].tokens
            self._allocate(self.running[-1])
        if self.crowding is not None:
            self.crowding.step([[each.blocks] for each in self.running], num_tokens)
        for request in tuple(self.running):
            self._answer(request)

    def _answer(self, request: Request) -> None:
        request.tokens += 1
        if request.tokens >= request.end:
            self.running.remove(request)
            self.free += request.blocks
            return
        request.draft = min(self.max_tokens, request.end - request.tokens - 1)
        if self.crowding is not None:
            request.draft = self.crowding.room(request.tokens, request.draft)
        self.drafted += request.draft

    def _allocate(self, request: Request) -> None:
        for _ in range(request.num_lacking):
            request.blocks.append(self.free.pop())

    def _preempt(self, request: Request) -> None:
        self.preempted += 1
        self.free += request.blocks
        request.blocks, request.draft = [], 0
        self.waiting.insert(0, request)


@pytest.mark.parametrize("num_blocks", [40, 160])
@pytest.mark.parametrize("max_tokens", [4, 16])
def test_drafts_preempt_nobody(num_blocks: int, max_tokens: int) -> None:
    def run(most: int, *, is_guarded: bool = False) -> Scheduler:
        crowding = Crowding(num_blocks, BLOCK_TOKENS, most) if is_guarded else None
        scheduler = Scheduler(num_blocks, most, crowding)
        chance = random.Random(5)
        for _ in range(5):
            lengths = [(chance.randint(20, 300), chance.randint(10, 200)) for _ in range(60)]
            scheduler.run([Request(*each) for each in lengths])
        return scheduler

    plain, careless = run(0), run(max_tokens)
    guarded = run(max_tokens, is_guarded=True)

    assert careless.preempted > 1.2 * plain.preempted
    assert guarded.preempted <= 1.01 * plain.preempted
    assert guarded.drafted > 0.4 * careless.drafted


def test_blocks_of_a_common_prefix_are_counted_once() -> None:
    crowding = Crowding(num_blocks=100, block_tokens=16, max_tokens=8)
    prefix = list(range(20))

    crowding.step([[[*prefix, 20 + number]] for number in range(10)], num_tokens=10)
    assert not crowding.is_crowded
    assert crowding.room(100, 8) == 8

    crowding.step([[range(10 * number, 10 * number + 9)] for number in range(10)], num_tokens=10)
    for _ in range(20):  # the prefix is not believed in for ever
        crowding.step([[range(9 * number, 9 * number + 9)] for number in range(10)], num_tokens=10)
    assert crowding.is_crowded


def test_draft_ends_with_the_block_of_the_newest_token_where_it_is_crowded() -> None:
    crowding = Crowding(num_blocks=4, block_tokens=16, max_tokens=8)
    crowding.step([[[0, 1, 2]]], num_tokens=1)

    assert crowding.is_crowded
    assert [crowding.room(num_tokens, 8) for num_tokens in (33, 42, 47, 48, 49)] == [8, 6, 1, 0, 8]
    assert crowding.room(33, -1) == -1


def test_prompts_under_way_want_room_too() -> None:
    crowding = Crowding(num_blocks=100, block_tokens=16, max_tokens=8)

    crowding.step([[range(64)]], num_tokens=1)
    assert not crowding.is_crowded
    crowding.step([[range(64)]], num_tokens=1024)
    assert crowding.is_crowded
