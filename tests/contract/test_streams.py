"""The life of a stream: aborted, attached to, closed with its engine."""

import asyncio

import pytest

from headstart.cluster.stream import Stream
from headstart.stages.errors import BadRequest, NotFound, ProtocolViolation
from headstart.stages.stage_clock import Mark
from tests.contract.asking import RESPONSES, Subject
from tests.support.streams import body, chunks, finished
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

LONG = 1500
"""Tokens of an answer that no engine here completes within a test."""


async def begun(stream: Stream) -> Stream:
    """Wait until an answer has its first record."""
    await soon(stream.grown(0))
    assert stream.end is None
    return stream


async def ended(stream: Stream) -> None:
    await soon(stream.finished())


async def test_abort_of_streamed_answer(subject: Subject) -> None:
    stream = await begun(subject.serve(max_tokens=LONG, stream=True, ignore_eos=True))

    await subject.engine.abort(stream.id)

    await ended(stream)
    assert stream.end is not None
    assert stream.end.is_aborted
    assert stream.end.output_tokens < LONG
    await eventually(lambda: subject.engine.load().running == 0)


async def test_stages_of_an_aborted_answer_lead_up_to_its_last_frame(subject: Subject) -> None:
    stream = await begun(subject.serve(max_tokens=LONG, stream=True, ignore_eos=True))
    await soon(stream.until(lambda: len(list(stream.log.frames(0))) > 3))

    await subject.engine.abort(stream.id)

    await ended(stream)
    marks = range(Mark.RECEIVED, Mark.FRAMED + 1)
    passed = [stream.clock.get(Mark(mark)) for mark in marks]
    assert None not in passed
    assert passed == sorted(passed, key=lambda at: at or 0.0)


async def test_abort_of_streamed_response(subject: Subject) -> None:
    asked = {"input": "Name three colours.", "max_output_tokens": LONG, "ignore_eos": True}
    stream = await begun(subject.serve(RESPONSES, **asked, stream=True))

    await subject.engine.abort(stream.id)

    await ended(stream)
    assert stream.end is not None
    assert stream.end.is_aborted
    await eventually(lambda: subject.engine.load().running == 0)


async def test_abort_of_whole_answer(subject: Subject) -> None:
    stream = subject.serve(max_tokens=LONG, ignore_eos=True)
    other = await begun(subject.serve(max_tokens=LONG, ignore_eos=True, stream=True))
    await eventually(lambda: subject.engine.load().running == 2)

    await subject.engine.abort(stream.id)

    await ended(stream)
    assert stream.end is not None
    assert stream.end.is_aborted
    assert stream.log.end == 0
    assert other.end is None
    await subject.engine.abort(other.id)
    await ended(other)
    await eventually(lambda: subject.engine.load().running == 0)


async def test_abort_at_once(subject: Subject) -> None:
    stream = subject.serve(max_tokens=LONG, stream=True, ignore_eos=True)

    await subject.engine.abort(stream.id)

    await ended(stream)
    assert stream.end is not None
    assert stream.end.is_aborted
    await eventually(lambda: subject.engine.load().running == 0)


async def test_abort_ignores_what_is_over(subject: Subject) -> None:
    stream = await finished(subject.serve(max_tokens=2))
    end = stream.end

    await subject.engine.abort(stream.id)
    await subject.engine.abort("never-was")

    assert stream.end is end
    assert (await finished(subject.serve(max_tokens=2))).end is not None


async def test_aborted_answer_leaves_others_alone(subject: Subject) -> None:
    one = await begun(subject.serve(max_tokens=LONG, stream=True, ignore_eos=True))
    two = await begun(subject.serve(max_tokens=20, stream=True, ignore_eos=True))

    await subject.engine.abort(one.id)

    assert len(chunks(await finished(two))) > 2


async def test_attach_reads_on(subject: Subject) -> None:
    stream = await begun(subject.serve(max_tokens=20, stream=True, ignore_eos=True))
    cursor = stream.log.end

    attached = subject.engine.attach(stream.id, cursor)

    await finished(attached)
    await finished(stream)
    assert attached.log.read(cursor) == stream.log.read(cursor)
    assert subject.engine.attach(stream.id, stream.log.end).log.end == stream.log.end


async def test_attach_refuses_what_is_no_cursor(subject: Subject) -> None:
    stream = await finished(subject.serve(max_tokens=4, stream=True))

    for cursor in (1, stream.log.header_end + 1, stream.log.end + 1):
        with pytest.raises(BadRequest):
            subject.engine.attach(stream.id, cursor)


async def test_attach_to_unknown_stream(subject: Subject) -> None:
    """Who asks another process cannot know at once: the stream then ends with the reason."""
    try:
        stream = subject.engine.attach("never-was", 0)
    except NotFound:
        return
    await ended(stream)
    assert stream.end is not None
    assert stream.end.failure is not None
    assert not stream.end.failure.to_error().is_retryable
    assert "never-was" in stream.end.failure.message


async def test_stream_id_in_use_is_refused(subject: Subject) -> None:
    asked = subject.request(max_tokens=4)
    first = subject.engine.serve(asked)

    with pytest.raises(ProtocolViolation):
        subject.engine.serve(asked)

    assert body(await finished(first))["choices"]


async def test_close_ends_live_streams(closable: Subject) -> None:
    streamed = await begun(closable.serve(max_tokens=LONG, stream=True, ignore_eos=True))
    whole = closable.serve(max_tokens=LONG, ignore_eos=True)
    await eventually(lambda: closable.engine.load().running == 2)
    unbegun = closable.serve(max_tokens=LONG)

    async with asyncio.timeout(60):
        await closable.engine.close()
        await closable.engine.close()

    for stream in (streamed, whole, unbegun):
        assert stream.end is not None
        assert stream.end.is_aborted or stream.end.failure is not None
