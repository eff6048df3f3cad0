"""What one link carries, and when."""

import pytest

from headstart.stages.errors import ProtocolViolation
from headstart.stages.failure import Failure
from headstart.stages.frames import Channel, Frame
from headstart.stages.mirror import MirrorSender, Part, StreamEnd
from headstart.stages.stage_clock import Mark
from headstart.stages.token_log import TokenLog
from tests.stages.strategies import HEADER, filled

WORD = Frame(0, Channel.CONTENT, "word", (7,), 1_000)
END = StreamEnd(prompt_tokens=3, output_tokens=1, finish_reasons=("stop",))
PART_BYTES = 64 * 1024


def grow(sender: MirrorSender, stream: int, log: TokenLog, frame: Frame = WORD) -> None:
    log.append(frame)
    sender.appended(stream)


def body(size_bytes: int) -> Frame:
    return Frame(0, Channel.EVENT, "", (), 0, bytes(size_bytes))


@pytest.fixture
def sender() -> MirrorSender:
    return MirrorSender(window_bytes=1 << 20)


def test_one_message_has_one_part_for_each_stream_with_news(sender: MirrorSender) -> None:
    busy, idle, late = (filled(HEADER, []) for _ in range(3))
    for stream, log in enumerate((busy, idle, late), 1):
        sender.watch(stream, log, log.header_end)
    sender.marked(3, Mark.TOKENISED, 1.5)
    grow(sender, 1, busy)
    grow(sender, 1, busy)

    start = busy.header_end
    assert sender.collect() == [
        Part(3, late.end, b"", marks=((Mark.TOKENISED, 1.5),)),
        Part(1, start, busy.read(start)),
    ]
    assert sender.collect() == []
    assert sender.in_flight_bytes == busy.end - start


def test_a_watch_begins_at_its_cursor_with_what_is_there(sender: MirrorSender) -> None:
    log = filled(HEADER, [WORD, WORD])
    sender.watch(1, log, log.header_end)

    assert sender.has_work
    assert sender.collect() == [Part(1, log.header_end, log.read(log.header_end))]


def test_the_end_rides_with_the_last_bytes(sender: MirrorSender) -> None:
    log = filled(HEADER, [])
    sender.watch(1, log, 0)
    sender.ended(1, END)

    assert sender.collect() == [Part(1, 0, log.read(0), end=END)]
    assert not sender.has_work


def test_a_number_is_free_again_once_its_stream_has_ended(sender: MirrorSender) -> None:
    sender.watch(1, filled(HEADER, []), 0)
    with pytest.raises(ProtocolViolation, match="number 1 is in use"):
        sender.watch(1, filled(HEADER, []), 0)
    sender.ended(1, END)
    sender.collect()

    sender.watch(1, filled(HEADER, []), 0)
    assert sender.has_work


def test_a_stream_without_a_log_ends_with_its_reason(sender: MirrorSender) -> None:
    refusal = StreamEnd(failure=Failure("no such stream"))
    sender.refused(4, refusal)

    assert sender.collect() == [Part(4, 0, b"", end=refusal)]


def test_news_of_a_stream_nobody_watches_is_ignored(sender: MirrorSender) -> None:
    sender.appended(9)
    sender.marked(9, Mark.TOKENISED, 1.0)
    sender.ended(9, END)

    assert not sender.has_work
    assert sender.collect() == []


def test_news_of_nothing_makes_no_part(sender: MirrorSender) -> None:
    log = filled(HEADER, [])
    sender.watch(1, log, log.end)
    sender.appended(1)

    assert sender.collect() == []
    assert not sender.has_work


def test_a_full_window_holds_bytes_back_but_neither_marks_nor_bare_ends() -> None:
    first, second, third = (filled(HEADER, []) for _ in range(3))
    sender = MirrorSender(window_bytes=first.end)
    sender.watch(1, first, 0)
    sender.watch(3, third, third.end)
    (sent,) = sender.collect()
    sender.watch(2, second, 0)
    assert not sender.has_work

    sender.marked(2, Mark.FIRST_TOKEN, 2.0)
    sender.ended(2, END)
    sender.ended(3, END)
    assert sender.has_work
    assert sender.collect() == [
        Part(2, 0, b"", marks=((Mark.FIRST_TOKEN, 2.0),)),
        Part(3, third.end, b"", end=END),
    ]

    sender.acknowledged(len(sent.data))
    assert sender.collect() == [Part(2, 0, second.read(0), end=END)]


def test_a_long_log_leaves_room_for_the_others() -> None:
    sender = MirrorSender(window_bytes=1)
    answer = [body(PART_BYTES // 2) for _ in range(4)]
    long, short = filled(HEADER, answer), filled(HEADER, [])
    sender.watch(1, long, 0)
    sender.watch(2, short, 0)

    order, sent = [], 0
    while sender.has_work:
        (part,) = sender.collect()
        assert len(part.data) <= PART_BYTES
        order.append(part.stream)
        sent += len(part.data)
        sender.acknowledged(sent)
    assert order == [1, 2, 1, 1, 1]
    assert sent == long.end + short.end


def test_marks_do_not_cost_a_waiting_stream_its_turn() -> None:
    sender = MirrorSender(window_bytes=1)
    logs = {stream: filled(HEADER, []) for stream in (1, 2, 3)}
    for stream, log in logs.items():
        sender.watch(stream, log, 0)
    (first,) = sender.collect()
    sender.marked(2, Mark.FIRST_TOKEN, 2.0)
    sender.collect()

    sender.acknowledged(len(first.data))
    assert [part.stream for part in sender.collect()] == [2]


def test_a_record_longer_than_a_part_is_sent_whole(sender: MirrorSender) -> None:
    log = filled(HEADER, [body(3 * PART_BYTES)])
    sender.watch(1, log, log.header_end)

    assert [part.data for part in sender.collect()] == [log.read(log.header_end)]


def test_an_acknowledgement_covers_what_was_sent_and_never_less_than_before(
    sender: MirrorSender,
) -> None:
    sender.watch(1, log := filled(HEADER, []), 0)
    sender.collect()

    with pytest.raises(ProtocolViolation, match="acknowledgement"):
        sender.acknowledged(log.end + 1)
    sender.acknowledged(log.end)
    with pytest.raises(ProtocolViolation, match="acknowledgement"):
        sender.acknowledged(log.end - 1)
    sender.acknowledged(log.end)
    assert sender.in_flight_bytes == 0
