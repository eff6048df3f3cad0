"""A request has one account, whoever reads its answer."""

import pytest

from headstart.cluster.stream import Stream
from headstart.monitoring.labels import Route
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.request_pace import RequestPace
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark
from tests.monitoring.exposition import Exposition

HEADER = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 1_700_000_000)


class Account:
    """A request's account, its stream and what is told of it."""

    def __init__(self) -> None:
        self.metrics = Metrics(["fake"], "0")
        self.pace = RequestPace(self.metrics, Route.CHAT, 1.0)
        self.pace.asked_for("fake")
        self.stream = Stream("a", 1 << 20)
        self.stream.append(HEADER)
        for number in range(10):
            self.stream.append(Frame(0, Channel.CONTENT, "word", (number,), number))
        self.pace.follow(self.stream)

    def value(self, name: str, **labels: str) -> float:
        return Exposition.parse(self.metrics.expose()).value(name, **labels)

    @property
    def num_counted(self) -> float:
        return self.value("headstart_output_tokens_total", model="fake")

    @property
    def num_requests(self) -> float:
        labels = {"route": Route.CHAT, "outcome": "completed", "model": "fake"}
        return self.value("headstart_requests_total", **labels)


@pytest.fixture
def account() -> Account:
    return Account()


def test_a_reader_that_joins_counts_what_the_first_had_not_written(account: Account) -> None:
    account.pace.wrote(4, 2.0)
    joined = account.pace.join(0)
    assert joined is not None
    joined.wrote(3, 2.1)
    joined.acknowledged(2.2, None)
    assert account.stream.clock.get(Mark.DELIVERED) is None
    account.pace.wrote(1, 2.3)
    account.pace.left(None)

    joined.wrote(4, 2.4)
    joined.acknowledged(2.5, 2.6)

    assert account.num_counted == 7
    assert account.stream.clock.get(Mark.SENT) == 2.4
    assert account.stream.clock.get(Mark.DELIVERED) == 2.5
    assert account.stream.clock.get(Mark.RENDERED) == 2.6


def test_a_reader_from_a_cursor_on_is_not_charged_for_what_lies_before(account: Account) -> None:
    account.pace.wrote(4, 2.0)
    account.pace.left(None)
    *_, (cursor, _) = list(account.stream.log.frames(0))[:6]
    joined = account.pace.join(cursor)
    assert joined is not None

    joined.wrote(2, 2.4)

    assert account.num_counted == 8


def test_a_request_is_counted_out_when_all_who_joined_are_done(account: Account) -> None:
    joined = account.pace.join(0)
    assert joined is not None
    account.pace.left(None)
    account.stream.finish(StreamEnd())
    assert account.num_requests == 0

    joined.acknowledged(2.2, 2.3)
    joined.left(None)

    assert account.num_requests == 1
    assert (
        account.value("headstart_stage_duration_seconds_count", stage="render", model="fake") == 1
    )
    assert account.pace.join(0) is None


def test_one_that_leaves_early_counts_nobody_out(account: Account) -> None:
    joined = account.pace.join(0)
    assert joined is not None
    joined.left(None)
    account.stream.finish(StreamEnd())
    assert account.num_requests == 0

    account.pace.left(None)
    assert account.num_requests == 1
