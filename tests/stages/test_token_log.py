"""The append-only log: what may be appended, and what any reader gets from any cursor."""

from collections.abc import Callable
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.errors import BadRequest, PayloadTooLarge, ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader, encode
from headstart.stages.token_log import TokenLog
from tests.stages import strategies
from tests.stages.strategies import HEADER, boundaries, filled

FRAME = Frame(0, Channel.CONTENT, "word", (7,), 1_000)


def state(log: TokenLog) -> tuple[bytes, StreamHeader | None, int]:
    return log.read(0), log.header, log.header_end


@given(strategies.headers, st.lists(strategies.frames))
def test_every_boundary_gives_the_frames_behind_it(
    header: StreamHeader, answer: list[Frame]
) -> None:
    log = filled(header, answer)
    cursors = boundaries(log)

    assert log.header == header
    assert [frame for _, frame in log.frames(0)] == answer
    assert log.num_frames == len(answer)
    for index, cursor in enumerate(cursors[1:]):
        assert [frame for _, frame in log.frames(cursor)] == answer[index:]
        assert [after for after, _ in log.frames(cursor)] == cursors[index + 2 :]


@given(strategies.logs)
def test_valid_cursors_are_the_boundaries_and_nothing_else(log: TokenLog) -> None:
    valid = set(boundaries(log))

    for cursor in range(-2, log.end + 3):
        if cursor in valid:
            assert log.check_cursor(cursor) == cursor
        else:
            with pytest.raises(BadRequest) as refusal:
                log.check_cursor(cursor)
            assert refusal.value.param == "after"


@given(strategies.logs)
def test_a_read_gives_all_that_the_limit_allows_but_at_least_a_record(log: TokenLog) -> None:
    cursors, whole = boundaries(log), log.read(0)
    for index, after in enumerate(cursors[:-1]):
        following = cursors[index + 1 :]
        for limit in range(log.end - after + 2):
            stop = max((c for c in following if c <= after + limit), default=following[0])
            assert log.read(after, limit) == whole[after:stop]


@given(strategies.logs, st.lists(st.none() | st.integers(0, 200), min_size=1))
def test_reads_of_any_limits_add_up_to_the_whole(log: TokenLog, limits: list[int | None]) -> None:
    cursors, whole = boundaries(log), b""
    for limit in cycle(limits):
        part = log.read(len(whole), limit)
        if not part:
            break
        whole += part
        assert len(whole) in cursors

    assert whole == log.read(0)


@given(strategies.logs, st.lists(st.integers(0, 200), min_size=1))
def test_a_log_fed_with_reads_of_another_is_its_twin(log: TokenLog, limits: list[int]) -> None:
    twin = TokenLog(log.max_bytes)
    for limit in cycle(limits):
        if twin.end == log.end:
            break
        twin.extend(log.read(twin.end, limit))

    assert state(twin) == state(log)
    assert boundaries(twin) == boundaries(log)
    assert all(twin.check_cursor(cursor) == cursor for cursor in boundaries(log))


def test_an_empty_log_has_nothing_but_its_beginning() -> None:
    log = TokenLog(100)
    log.extend(b"")

    assert state(log) == (b"", None, 0)
    assert log.end == 0
    assert log.check_cursor(0) == 0
    assert list(log.frames(0)) == []


def test_reading_past_the_end_gives_nothing() -> None:
    log = filled(HEADER, [FRAME])

    assert log.read(log.end) == log.read(log.end, 10) == b""
    assert list(log.frames(log.end)) == []


@pytest.mark.parametrize(
    "add", [lambda log: log.append(FRAME), lambda log: log.extend(encode(FRAME))]
)
def test_a_log_that_would_outgrow_its_limit_stays_as_it_was(
    add: Callable[[TokenLog], None],
) -> None:
    fits = len(encode(HEADER)) + len(encode(FRAME))
    log = filled(HEADER, [], max_bytes=fits)
    add(log)
    before = state(log)

    with pytest.raises(PayloadTooLarge, match=f"its log of {fits} bytes"):
        add(log)
    assert state(log) == before
    assert log.end == fits


@pytest.mark.parametrize(
    "add", [lambda log: log.append(FRAME), lambda log: log.extend(encode(FRAME))]
)
def test_a_closed_log_can_only_be_read(add: Callable[[TokenLog], None]) -> None:
    log = filled(HEADER, [FRAME])
    log.close()
    log.close()

    with pytest.raises(ProtocolViolation, match="closed"):
        add(log)
    assert log.is_closed
    assert [frame for _, frame in log.frames(0)] == [FRAME]


@pytest.mark.parametrize(
    "add", [lambda log: log.append(FRAME), lambda log: log.extend(encode(FRAME))]
)
def test_a_log_begins_with_a_header(add: Callable[[TokenLog], None]) -> None:
    log = TokenLog(100)

    with pytest.raises(ProtocolViolation, match="header"):
        add(log)
    assert state(log) == (b"", None, 0)


def test_a_log_has_one_header() -> None:
    log = filled(HEADER, [FRAME])
    before = state(log)

    with pytest.raises(ProtocolViolation, match="one header"):
        log.append(HEADER)
    assert state(log) == before


def test_half_a_record_is_refused_whole() -> None:
    log = filled(HEADER, [])
    before = state(log)

    with pytest.raises(ProtocolViolation, match="inside a record"):
        log.extend(encode(FRAME) + encode(FRAME)[:-1])
    assert state(log) == before
