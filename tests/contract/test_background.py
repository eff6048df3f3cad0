"""Requests in the background: answered like any other, and after all others."""

from typing import Any

import msgspec
import pytest

from headstart.cluster.stream import Stream
from headstart.stages.stage_clock import Mark
from tests.contract.asking import Subject, saying
from tests.support.events import text
from tests.support.streams import events, finished
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

ROWS = 2
"""`max_thoughts` of the subjects."""


def behind(subject: Subject, prompt: str = "Name three colours.", **fields: Any) -> Stream:
    asked = subject.request(messages=saying(prompt), stream=True, **fields)
    return subject.engine.serve(msgspec.structs.replace(asked, is_background=True))


async def test_the_answer_is_the_same(subject: Subject) -> None:
    quiet = await finished(behind(subject, max_tokens=8))
    plain = await finished(subject.serve(stream=True, max_tokens=8))

    assert quiet.end is not None
    assert quiet.end.failure is None
    assert quiet.end.output_tokens == 8
    assert text(events(quiet)) == text(events(plain))


async def test_only_so_many_run_at_once(subject: Subject) -> None:
    streams = [behind(subject, max_tokens=1000, ignore_eos=True) for _ in range(ROWS + 1)]
    first, last = streams[:ROWS], streams[ROWS]
    for one in first:
        await soon(one.grown(0))
    assert last.clock.get(Mark.TOKENISED) is None

    await soon(subject.engine.abort(first[0].id))

    await soon(last.grown(0))
    for one in streams:
        await soon(subject.engine.abort(one.id))
        await finished(one)


async def test_one_that_waits_for_its_place_can_be_aborted(subject: Subject) -> None:
    streams = [behind(subject, max_tokens=1000, ignore_eos=True) for _ in range(ROWS + 1)]
    for one in streams[:ROWS]:
        await soon(one.grown(0))
    held = streams[ROWS]

    await soon(subject.engine.abort(held.id))

    await finished(held)
    assert held.end is not None
    assert held.end.is_aborted
    assert held.end.output_tokens == 0
    for one in streams[:ROWS]:
        assert one.end is None
        await soon(subject.engine.abort(one.id))
        await finished(one)
    await eventually(lambda: subject.engine.load().running == 0)


async def test_none_begins_before_an_answer_that_waits(subject: Subject) -> None:
    plain = subject.serve(max_tokens=1, stream=True)
    quiet = behind(subject, max_tokens=1)

    await finished(quiet)

    assert plain.clock.get(Mark.FIRST_TOKEN) is not None
    first = plain.clock.get(Mark.FIRST_TOKEN)
    begun = quiet.clock.get(Mark.TOKENISED)
    assert first is not None
    assert begun is not None
    assert first <= begun + _CLOCK_S
    await finished(plain)


_CLOCK_S = 0.01
"""By which clocks of two processes may differ."""
