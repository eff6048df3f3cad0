"""Carries one token log to one reader over a QUIC session.

`DatagramSender` decides what to send and when; this is the shell around it: timers, the carrier,
the request's account. Where the path takes no datagrams, or none are wanted, the log goes over a
reliable stream.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from headstart.client.carrier import Carrier
from headstart.client.session_wire import End
from headstart.cluster.stream import Stream
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import AckOutcome, Fallback
from headstart.monitoring.transport_meter import TransportMeter
from headstart.pipeline.errors import error_object
from headstart.pipeline.log_pipe import LogPipe
from headstart.pipeline.request_pace import JoinedPace, RequestPace
from headstart.stages.congestion import ByteRate
from headstart.stages.datagram_events import (
    AckReceived,
    CarrierBlocked,
    CarrierReady,
    CatchUp,
    Finished,
    LogGrew,
    PathChanged,
    ReaderAdvanced,
    SenderAction,
    SenderEvent,
    Transmit,
)
from headstart.stages.datagram_sender import MIN_PAYLOAD, DatagramSender, SenderLimits
from headstart.stages.errors import (
    BadRequest,
    EngineFailed,
    HeadstartError,
    ProtocolViolation,
    RequestTimeout,
)
from headstart.stages.mirror import StreamEnd
from headstart.stages.path_watch import PathWatch
from headstart.stages.published_eloquent import PublishedSender
from headstart.stages.render_gaps import RenderGaps
from headstart.stages.stage_clock import Mark
from headstart.stages.wire import Ack, log_digest

__all__ = ["LogReader"]

_log = structlog.get_logger(__name__)

_SILENCE_S = 30.0
"""Without one acceptable acknowledgement for so long, nobody reads."""
_ACK_BURST = 50
_TIMER_S = 0.0015
"""uvloop's timers are rounded to milliseconds and fire up to one early; so much later none does."""


class LogReader:
    """One reader of one stream. A `StreamListener`.

    Args:
        number: The session's for the log.
        stream: What is read.
        after: The reader's cursor.
        carrier: Moves the bytes.
        settings: Limits.
        meter: Told of everything that is sent and confirmed.
        say: Called with the one message that the reader gets on the control stream.
        left: Called once, when nothing more will be sent.
        pace: The request's account, or this reader's part in it.
    """

    def __init__(
        self,
        number: int,
        stream: Stream,
        after: int,
        carrier: Carrier,
        settings: QuicSettings,
        meter: TransportMeter,
        say: Callable[[End], None],
        left: Callable[[int], None],
        pace: RequestPace | JoinedPace | None = None,
    ) -> None:
        self._number = number
        self._stream = stream
        self._carrier = carrier
        self._settings = settings
        self._meter = meter
        self._say = say
        self._left = left
        self._pace = pace
        self._is_over = False
        self._sent_until = self._counted = after
        """Up to where datagrams and catch-up streams are to bring the log; and what was noted."""
        self._grown: deque[tuple[int, float]] = deque()
        """Ends of what the log gained, and when."""
        self._gaps = RenderGaps()
        self._ack_rate = ByteRate(settings.max_acks_per_s, _ACK_BURST)
        self._heard_at = self._progressed_at = time.monotonic()
        self._taken = 0
        """What its reader had taken when that was last looked at."""
        self._watch = PathWatch()
        self._pipes: list[LogPipe] = []
        self._whole: LogPipe | None = None
        """Carries all the rest, where datagrams do not."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._machine: DatagramSender | PublishedSender | None = None
        self._after = after

    def start(self) -> None:
        """Begin to read."""
        payload = self._carrier.max_payload()
        if self._settings.scheme == "stream" or payload < MIN_PAYLOAD:
            self._fall_back(Fallback.NO_DATAGRAMS, self._after)
        else:
            self._machine = self._sender(payload)
        self._stream.listen(self)
        if self._stream.end is not None:
            self.ended(self._stream.end)
        else:
            self.appended()

    def _sender(self, payload: int) -> DatagramSender | PublishedSender:
        log = self._stream.log
        if self._settings.scheme == "published":
            return PublishedSender(self._number, log, self._after, payload)
        limits = SenderLimits(
            max_payload=payload,
            min_frame_s=self._settings.min_frame_s,
            bytes_per_s=self._settings.bytes_per_s,
        )
        rtt_s = self._carrier.stats().srtt_s
        return DatagramSender(self._number, log, self._after, limits, rtt_s)

    # As a `StreamListener`.

    def appended(self) -> None:
        if self._machine is not None:
            self._grown.append((self._stream.log.end, time.monotonic()))
        self._try(self._take_news)

    def marked(self, mark: Mark, at: float) -> None:
        """The replica's marks are the request's own business."""

    def ended(self, end: StreamEnd) -> None:
        # First, because writing what is left may be all that this reader still has to do.
        self._say(self._end())
        self._try(self._take_news)

    # As the session's.

    def acked(self, ack: Ack) -> AckOutcome:
        """Take an acknowledgement and say what became of it."""
        try:
            return self._take_ack(ack)
        except Exception as error:
            self._failed(error)
            return AckOutcome.REFUSED

    def ready(self) -> None:
        """The carrier takes datagrams again."""
        self._try(lambda: self._feed(CarrierReady()))

    def path_changed(self) -> None:
        """What was measured of the path is of another one."""
        self._try(lambda: self._feed(PathChanged()))

    def broken(self, reason: Fallback) -> None:
        """The carrier will take no datagrams any more."""
        self._try(lambda: self._go_on_without_datagrams(reason))

    def pump(self) -> None:
        """Write to reliable streams what they have room for."""
        if self._pipes:
            self._try(self._pump)

    def stopped(self, stream_id: int) -> None:
        """The client wants no more of a stream: nothing else brings what was to come by it."""
        if any(pipe.stream_id == stream_id and not pipe.is_done for pipe in self._pipes):
            self._try(lambda: self._give_up(BadRequest("a stream of it was stopped")))

    def expire(self, now: float, limit_s: float) -> None:
        """Give up where something waits for the reader, who has taken nothing for so long."""
        self._try(lambda: self._check_progress(now, limit_s))

    def _check_progress(self, now: float, limit_s: float) -> None:
        log = self._stream.log
        by_streams = sum(pipe.confirmed for pipe in self._pipes)
        by_datagrams = 0 if self._machine is None else self._machine.confirmed
        taken = by_streams + by_datagrams
        confirmed = by_datagrams if self._whole is None else by_streams
        has_all = confirmed == log.end and not log.is_closed
        if taken != self._taken or has_all:
            self._taken, self._progressed_at = taken, now
        elif now > self._progressed_at + limit_s:
            self._give_up(RequestTimeout(f"nothing of the answer was taken for {limit_s:g} s"))

    def _take_ack(self, ack: Ack) -> AckOutcome:
        now = time.monotonic()
        if self._ack_rate.free_at > now:
            return AckOutcome.LIMITED
        self._ack_rate.spend(1, now)
        if self._machine is None:
            return AckOutcome.ACCEPTED  # on its way since before the fall-back
        if self._pipes and ack.have > self._handed_over:
            return AckOutcome.REFUSED  # a stream is to bring it, and has not been given it yet
        try:
            actions = self._machine.feed(AckReceived(ack), now)
        except ProtocolViolation:
            return AckOutcome.REFUSED
        self._heard_at = now
        self._watch.acked(ack.newest)
        was_clamped = any(
            isinstance(action, ReaderAdvanced) and action.was_clamped for action in actions
        )
        self._act(actions, now)
        return AckOutcome.CLAMPED if was_clamped else AckOutcome.ACCEPTED

    def _go_on_without_datagrams(self, reason: Fallback) -> None:
        if self._machine is not None and not self._is_over:
            start = self._machine.confirmed
            self._machine = None
            self._fall_back(reason, start)
            if self._stream.end is not None:
                self._say(self._end())
            self._pump()

    def _pump(self) -> None:
        if sum([pipe.pump() for pipe in self._pipes]):
            self._note_sent(time.monotonic())
        if self._whole is not None and self._whole.is_done:
            self.close()
        elif self._pipes:
            self._pipes = [pipe for pipe in self._pipes if not pipe.is_done]

    def close(self) -> None:
        """Stop reading. The answer goes on."""
        if self._is_over:
            return
        self._is_over = True
        self._stream.unlisten(self)
        if self._timer is not None:
            self._timer.cancel()
        for pipe in self._pipes:
            pipe.close()
        if isinstance(self._machine, DatagramSender):
            self._meter.finished(self._machine.round_trip.smoothed_s)
        if self._pace is not None:
            self._pace.left(None)
        self._left(self._number)

    def _take_news(self) -> None:
        self._feed(LogGrew())
        if self._pipes:
            self._pump()

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        # Whatever is wrong with one reader, the stream and its other readers go on.
        _log.exception("reader_failed", stream=self._stream.id)
        if not self._is_over:
            self._give_up(EngineFailed(f"the gateway could not read the answer on: {error}"))

    def _fall_back(self, reason: Fallback, start: int) -> None:
        self._meter.fell_back(reason)
        for pipe in self._pipes:
            pipe.close()
        self._whole = LogPipe(self._carrier, self._number, self._stream.log, start, None)
        self._pipes = [self._whole]

    def _feed(self, event: SenderEvent) -> None:
        if self._machine is not None and not self._is_over:
            now = time.monotonic()
            self._act(self._machine.feed(event, now), now)

    def _act(self, actions: list[SenderAction], now: float) -> None:
        for action in actions:
            if isinstance(action, Transmit):
                self._transmit(action, now)
            elif isinstance(action, CatchUp):
                self._meter.caught_up()
                log = self._stream.log
                self._pipes.append(
                    LogPipe(self._carrier, self._number, log, action.start, action.stop)
                )
                self._sent_until = action.stop
                self._pump()
            elif isinstance(action, ReaderAdvanced):
                self._advanced(action)
            elif isinstance(action, Finished):
                self.close()
        if not self._is_over:
            self._arm()

    def _transmit(self, action: Transmit, now: float) -> None:
        self._meter.sent(action.cause, len(action.datagram), action.fresh_bytes)
        if action.fresh_bytes:
            self._sent_until += action.fresh_bytes
            self._note_sent(now)
        self._watch.sent(self._carrier.stats().packets_confirmed, now)
        takes_more = self._carrier.send_latest(self._number, action.datagram)
        if not takes_more and self._machine is not None:
            self._machine.feed(CarrierBlocked(), now)

    @property
    def _handed_over(self) -> int:
        """Up to where all of the log has been handed to the carrier."""
        if self._whole is not None:
            return self._whole.cursor
        unwritten = [pipe.cursor for pipe in self._pipes if not pipe.is_written]
        return min([*unwritten, self._sent_until])

    def _note_sent(self, now: float) -> None:
        """Tell the request's account of what has left."""
        if self._pace is None:
            return
        until = self._handed_over
        if until <= self._counted:
            return
        num_tokens = 0
        for cursor, frame in self._stream.log.frames(self._counted, until - self._counted):
            if cursor > until:
                break
            num_tokens += len(frame.tokens)
            self._counted = cursor
        self._pace.wrote(num_tokens, now)

    def _advanced(self, action: ReaderAdvanced) -> None:
        generated_at: float | None = None
        while self._grown and self._grown[0][0] <= action.cursor:
            _, at = self._grown.popleft()
            generated_at = at if generated_at is None else generated_at
        shown_at = action.delivered_at if action.rendered_at is None else action.rendered_at
        if generated_at is not None:
            gap = self._gaps.shown(generated_at, action.delivered_at, shown_at)
            if gap is not None:
                self._meter.shown(gap)
        if self._pace is not None:
            self._pace.acknowledged(action.delivered_at, action.rendered_at)

    def _arm(self) -> None:
        """Wake up when the machine asks; a timer that is early enough is left as it is."""
        assert self._machine is not None
        due = self._machine.deadline()
        if due is None:
            due = self._heard_at + _SILENCE_S
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        delay_s = max(0.0, due - time.monotonic()) + _TIMER_S
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._woken)

    def _woken(self) -> None:
        self._timer = None
        if self._machine is None or self._is_over:
            return
        now = time.monotonic()
        if now > self._heard_at + _SILENCE_S:
            self._give_up(RequestTimeout(f"no acknowledgement came for {_SILENCE_S:g} s"))
            return
        if self._watch.has_failed(self._carrier.stats().packets_confirmed, now):
            self.broken(Fallback.UNANSWERED)
            return
        machine = self._machine
        self._try(lambda: self._act(machine.expire(now), now))

    def _give_up(self, error: HeadstartError) -> None:
        self._say(End(self._number, self._handed_over, is_whole=False, error=error_object(error)))
        self.close()

    def _end(self) -> End:
        end, log = self._stream.end, self._stream.log
        assert end is not None
        error = end.to_error()
        digest = "" if self._machine else log_digest(log.read(0)).hex()
        return End(
            self._number, log.end, digest, error=None if error is None else error_object(error)
        )
