"""Whoever listens to a stream hears of everything, whatever other listeners do."""

import pytest

from headstart.cluster.stream import Stream
from headstart.stages.frames import StreamHeader
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark


class Listener:
    """Notes what it hears; leaves when it hears `leaves_at`."""

    def __init__(self, stream: Stream, leaves_at: str = "") -> None:
        self._stream = stream
        self._leaves_at = leaves_at
        self.heard: list[str] = []
        stream.listen(self)

    def appended(self) -> None:
        self._note("appended")

    def marked(self, mark: Mark, at: float) -> None:
        self._note("marked")

    def ended(self, end: StreamEnd) -> None:
        self._note("ended")

    def _note(self, event: str) -> None:
        self.heard.append(event)
        if event == self._leaves_at:
            self._stream.unlisten(self)


@pytest.mark.parametrize("leaver", [0, 1, 2])
@pytest.mark.parametrize("event", ["appended", "marked", "ended"])
def test_a_listener_that_leaves_takes_no_word_from_the_next(leaver: int, event: str) -> None:
    stream = Stream("s", 1 << 20)
    listeners = [Listener(stream, event if index == leaver else "") for index in range(3)]

    stream.append(StreamHeader(200, "text/event-stream"))
    stream.mark(Mark.FRAMED, 1.0)
    stream.finish(StreamEnd())

    everything = ["appended", "marked", "ended"]
    for index, listener in enumerate(listeners):
        expected = everything if index != leaver else everything[: everything.index(event) + 1]
        assert listener.heard == expected
