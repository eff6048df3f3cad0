"""Whatever the order of appends, marks, ends and acknowledgements, the mirror is the original."""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from headstart.stages.frames import Channel, Frame, record_bounds
from headstart.stages.mirror import MirrorSender, Part, StreamEnd
from headstart.stages.stage_clock import Mark
from headstart.stages.token_log import TokenLog
from tests.stages.strategies import HEADER, boundaries, filled

PART_BYTES = 64 * 1024
LARGEST_BODY_BYTES = PART_BYTES + 5_000


@dataclass
class Original:
    number: int
    log: TokenLog
    marks: list[tuple[Mark, float]] = field(default_factory=list)
    end: StreamEnd | None = None


@dataclass
class Mirror:
    """What the receiver has of one stream."""

    data: bytes
    marks: list[tuple[Mark, float]] = field(default_factory=list)
    end: StreamEnd | None = None


bodies = st.sampled_from([None, 0, 100, 30_000, LARGEST_BODY_BYTES]).map(
    lambda size: None if size is None else bytes(size)
)
answers = st.lists(
    st.builds(
        Frame, st.just(0), st.just(Channel.CONTENT), st.text(), st.just((7,)), st.just(1), bodies
    ),
    min_size=1,
    max_size=4,
)


class Link(RuleBasedStateMachine):
    """One sender, and a receiver that acknowledges when it likes."""

    live = Bundle("live")

    @initialize(window_bytes=st.sampled_from([1, 50, 1_000, 100_000, 1 << 22]))
    def open(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self.sender = MirrorSender(window_bytes)
        self.originals: list[Original] = []
        self.mirrors: dict[int, Mirror] = {}
        self.received_bytes = 0
        self.acknowledged_bytes = 0

    @rule(target=live, answer=answers, data=st.data())
    def watch(self, answer: list[Frame], data: st.DataObject) -> Original:
        log = filled(HEADER, answer, max_bytes=1 << 26)
        cursor = data.draw(st.sampled_from(boundaries(log)))
        stream = Original(len(self.originals), log)
        self.originals.append(stream)
        self.mirrors[stream.number] = Mirror(log.read(0)[:cursor])
        self.sender.watch(stream.number, log, cursor)
        return stream

    @rule(stream=live, answer=answers)
    def append(self, stream: Original, answer: list[Frame]) -> None:
        for frame in answer:
            stream.log.append(frame)
            self.sender.appended(stream.number)

    @rule(stream=live)
    def append_nothing(self, stream: Original) -> None:
        self.sender.appended(stream.number)

    @rule(stream=live, mark=st.sampled_from(Mark))
    def mark(self, stream: Original, mark: Mark) -> None:
        stream.marks.append((mark, float(len(stream.marks))))
        self.sender.marked(stream.number, mark, float(len(stream.marks) - 1))

    @rule(stream=consumes(live))
    def end(self, stream: Original) -> None:
        stream.log.close()
        stream.end = StreamEnd(output_tokens=stream.number)
        self.sender.ended(stream.number, stream.end)

    @rule()
    def collect(self) -> None:
        had_work = self.sender.has_work
        parts = self.sender.collect()
        assert had_work or not parts
        assert len({part.stream for part in parts}) == len(parts)
        for part in parts:
            self.receive(part)

    def receive(self, part: Part) -> None:
        mirror = self.mirrors[part.stream]
        assert mirror.end is None, "nothing follows the end"
        assert part.data or part.marks or part.end
        if part.data:
            assert part.offset == len(mirror.data)
            assert len(part.data) <= PART_BYTES or len(list(record_bounds(part.data))) == 1
        mirror.data += part.data
        mirror.marks += part.marks
        mirror.end = part.end
        self.received_bytes += len(part.data)

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        unacknowledged = self.received_bytes - self.acknowledged_bytes
        self.acknowledged_bytes += int(share * unacknowledged)
        self.sender.acknowledged(self.acknowledged_bytes)

    @precondition(lambda self: self.behind)
    @rule()
    def open_the_window(self) -> None:
        """Each stream gets on within as many messages as there are streams that wait."""
        waiting = {number: len(self.mirrors[number].data) for number in self.behind}
        for _ in waiting:
            self.acknowledge(1.0)
            self.collect()
        for number, had_bytes in waiting.items():
            assert len(self.mirrors[number].data) > had_bytes

    @property
    def behind(self) -> list[int]:
        return [
            stream.number
            for stream in self.originals
            if len(self.mirrors[stream.number].data) < stream.log.end
        ]

    @invariant()
    def never_more_in_flight_than_the_window_and_a_part(self) -> None:
        largest_part = LARGEST_BODY_BYTES + 10_000
        assert self.sender.in_flight_bytes == self.received_bytes - self.acknowledged_bytes
        assert self.sender.in_flight_bytes < self.window_bytes + largest_part

    @invariant()
    def a_mirror_is_a_beginning_of_its_original(self) -> None:
        for stream in self.originals:
            mirror = self.mirrors[stream.number]
            assert stream.log.read(0).startswith(mirror.data)
            assert stream.marks[: len(mirror.marks)] == mirror.marks
            assert mirror.end is None or len(mirror.data) == stream.log.end

    def teardown(self) -> None:
        for stream in self.originals:
            if stream.end is None:
                self.end(stream)
        while any(self.mirrors[stream.number].end is None for stream in self.originals):
            self.acknowledge(1.0)
            assert self.sender.has_work, "nothing sent, nothing owed, and streams left"
            self.collect()
        for stream in self.originals:
            mirror = self.mirrors[stream.number]
            assert (mirror.data, mirror.marks) == (stream.log.read(0), stream.marks)
            assert mirror.end is stream.end


test_link = Link.TestCase
