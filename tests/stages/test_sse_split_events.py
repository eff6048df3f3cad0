"""The bytes of an event stream, cut anywhere, give the same events."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.stages.frames import Channel, Frame
from headstart.stages.sse import project, split_events
from tests.stages.strategies import HEADER


def payloads_of(body: bytes, cuts: list[int]) -> tuple[list[bytes], bytes]:
    payloads: list[bytes] = []
    rest = b""
    edges = [0, *sorted(cuts), len(body)]
    for start, stop in pairwise(edges):
        events, rest = split_events(rest + body[start:stop])
        payloads += events
    return payloads, rest


def event(payload: bytes) -> bytes:
    return project(HEADER, Frame(0, Channel.EVENT, "", (), 1, payload))


one_line = st.binary(min_size=1).filter(lambda payload: b"\n" not in payload)
several_lines = st.lists(one_line, min_size=1).map(b"\n".join)


@given(st.lists(several_lines), st.lists(st.integers(0, 100)))
@example([b"a", b"b\nc"], [0, 3, 7, 8, 8, 9])
def test_payloads_do_not_depend_on_where_the_bytes_are_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    body = b"".join(map(event, payloads))

    cuts = [min(cut, len(body)) for cut in cuts]
    assert payloads_of(body, cuts) == (payloads, b"")


@given(one_line)
def test_an_unfinished_event_waits_for_its_rest(payload: bytes) -> None:
    unfinished = event(payload)[:-1]

    assert split_events(event(b"whole") + unfinished) == ([b"whole"], unfinished)


@pytest.mark.parametrize(
    "body",
    [
        b": comment\n\ndata: a\n\n",
        b"event: message\nid: 7\ndata: a\nretry: 5\n\n",
        b"\n\ndata: a\n\n: ping\n\n",
    ],
)
def test_only_data_is_kept(body: bytes) -> None:
    assert split_events(body) == ([b"a"], b"")
