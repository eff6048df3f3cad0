# Invariant: whatever bytes a peer sends for a log, `extend` takes them whole or raises
# ProtocolViolation and changes nothing; reading what it took gives frames or ProtocolViolation.
"""Random and damaged bytes in place of records."""

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Frame, encode
from headstart.stages.token_log import TokenLog
from tests.stages import strategies


@given(st.binary() | strategies.headers.map(encode), st.binary())
def test_a_new_log_takes_a_header_first_or_nothing(first: bytes, second: bytes) -> None:
    check_extend(TokenLog(1 << 20), first + second)


@given(
    strategies.logs,
    st.lists(strategies.frames).map(lambda f: b"".join(map(encode, f))),
    st.binary(),
)
def test_a_log_takes_whole_records_or_nothing(log: TokenLog, records: bytes, junk: bytes) -> None:
    check_extend(log, records + junk)


def check_extend(log: TokenLog, data: bytes) -> None:
    before, header, kept = log.read(0), log.header, list(log.frames(0))
    try:
        log.extend(data)
    except ProtocolViolation:
        assert (log.read(0), log.header) == (before, header)
        return
    assert log.read(0) == before + data
    assert (log.header is None) == (not before + data)
    taken: list[Frame] = []
    try:
        for cursor, frame in log.frames(0):
            assert log.check_cursor(cursor) == cursor
            taken.append(frame)
    except ProtocolViolation:
        pass
    assert taken[: len(kept)] == [frame for _, frame in kept]
