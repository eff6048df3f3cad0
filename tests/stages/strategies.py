"""Records and answers of every shape the token log can hold."""

from hypothesis import strategies as st

from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.token_log import TokenLog

integers = st.integers(-(2**63), 2**64 - 1)
"""What MessagePack can carry."""

frames = st.builds(
    Frame,
    choice=integers,
    channel=st.sampled_from(Channel),
    text=st.text(),
    tokens=st.lists(integers).map(tuple),
    at_us=integers,
    payload=st.none() | st.binary(),
)

headers = st.builds(
    StreamHeader,
    status=integers,
    content_type=st.text(),
    api=st.text(),
    response_id=st.text(),
    model=st.text(),
    created=integers,
    headers=st.lists(st.tuples(st.text(), st.text())).map(tuple),
)

HEADER = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 1_700_000_000)


def filled(header: StreamHeader, answer: list[Frame], max_bytes: int = 1 << 20) -> TokenLog:
    """A log of one answer."""
    log = TokenLog(max_bytes)
    log.append(header)
    for frame in answer:
        log.append(frame)
    return log


logs = st.builds(filled, headers, st.lists(frames))
"""Logs with a header and any number of frames, still open."""


def boundaries(log: TokenLog) -> list[int]:
    """Every valid cursor of a log with a header, found by walking its frames."""
    return [0, log.header_end, *(cursor for cursor, _ in log.frames(0))]
