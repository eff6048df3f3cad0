"""Whatever the network does short of losing everything, the reader gets the answer."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.stages.datagram_events import SnapshotReceived
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.datagram_sender import DatagramSender, SenderLimits
from headstart.stages.frames import Channel, Frame
from headstart.stages.published_eloquent import PublishedReceiver, PublishedSender
from headstart.stages.wire import Snapshot, decode_datagram
from tests.stages import strategies
from tests.stages.lossy_pair import LossyPair
from tests.stages.strategies import HEADER, filled

PAYLOADS = st.sampled_from([128, 200, 1150])
GAPS = st.sampled_from([0.0, 0.003, 0.02, 0.1])
SCHEMES = pytest.mark.parametrize("scheme", ["ours", "published"])

texts = st.text("aé流🙂", min_size=1, max_size=8) | st.text("ab🙂", min_size=100, max_size=400)
tokens = st.builds(
    Frame,
    choice=st.integers(0, 1),
    channel=st.sampled_from(Channel),
    text=texts,
    tokens=st.lists(st.integers(0, 50_000), max_size=4).map(tuple),
    at_us=st.integers(0, 2_000_000),
)


def pair(scheme: str, payload: int, seed: int, loss: float) -> LossyPair:
    log = filled(HEADER, [])
    if scheme == "published":
        return LossyPair(
            PublishedSender(3, log, max_payload=payload),
            PublishedReceiver(3),
            log,
            Random(seed),
            loss,
        )
    sender = DatagramSender(3, log, limits=SenderLimits(max_payload=payload))
    return LossyPair(sender, DatagramReceiver(3), log, Random(seed), loss)


def check(link: LossyPair, payload: int) -> None:
    assert bytes(link.shown) == link.log.read(0)
    assert link.receiver.is_complete
    assert max(map(len, link.datagrams)) <= payload


@SCHEMES
@settings(max_examples=60)
@given(
    answer=st.lists(tokens | strategies.frames, max_size=40),
    payload=PAYLOADS,
    gap_s=GAPS,
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.02, 0.2, 0.5, 0.8]),
)
def test_the_answer_arrives_byte_for_byte(
    scheme: str, answer: list[Frame], payload: int, gap_s: float, seed: int, loss: float
) -> None:
    link = pair(scheme, payload, seed, loss)

    link.stream(answer, gap_s)

    check(link, payload)


@SCHEMES
@pytest.mark.parametrize("size", [1_000, 5_000, 100_000])
def test_a_body_longer_than_a_datagram_arrives(scheme: str, size: int) -> None:
    body = Frame(0, Channel.EVENT, "", (), 0, bytes(range(256)) * (size // 256))
    text = Frame(0, Channel.CONTENT, "流é" * (size // 5), (1,), 5)
    link = pair(scheme, 300, size, 0.1)

    link.stream([body, text, body], 0.05)

    check(link, 300)


@settings(max_examples=40)
@given(answer=st.lists(tokens, min_size=1, max_size=30), payload=PAYLOADS, gap_s=GAPS)
def test_every_datagram_shows_by_itself(answer: list[Frame], payload: int, gap_s: float) -> None:
    link = pair("ours", payload, 1, 0.3)
    link.stream(answer, gap_s)
    whole = link.log.read(0)

    for datagram in link.datagrams:
        snapshot = decode_datagram(datagram)
        assert isinstance(snapshot, Snapshot)
        (piece,) = snapshot.pieces
        reader = DatagramReceiver(3, whole[: piece.start])
        reader.feed(SnapshotReceived(snapshot), 0.0)
        assert reader.log == whole[: piece.stop]


def test_another_session_goes_on_from_where_a_reader_was() -> None:
    answer = [Frame(0, Channel.CONTENT, f"{index} ", (index,), index) for index in range(50)]
    log = filled(HEADER, answer)
    log.close()
    whole = log.read(0)
    for have in [0, log.header_end, *(cursor for cursor, _ in log.frames(0))][::3]:
        sender = DatagramSender(3, log, have=have)
        link = LossyPair(sender, DatagramReceiver(3, whole[:have]), log, Random(have), 0.2)

        link.finish()

        assert link.receiver.is_complete
