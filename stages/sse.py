"""Chunks of the OpenAI protocol, to frames and back.

The replica reads the server-sent events that vLLM's own app writes and turns each into a
`Frame`; any reader's `project` turns header and frame back into the identical bytes. A chunk that
is nothing but a text delta costs no JSON in the log: it is rebuilt from a template. Every other
chunk (role, finish, usage, log-probabilities, tools, errors) rides along verbatim. Which of the
two it is gets decided by comparing bytes, so a projection can never differ from its original.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec

from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.responses_sse import LAST_EVENTS, ResponsesParser, name_of, project_response

__all__ = [
    "DONE",
    "AnyParser",
    "EventParser",
    "TakeTokens",
    "is_last",
    "parser_of",
    "project",
    "split_events",
]

DONE = b"[DONE]"
"""Payload of the event that ends a stream."""

TakeTokens = Callable[[int], tuple[int, ...]]

_CHAT_TAIL = b'},"logprobs":null,"finish_reason":null,"token_ids":null}]}'
_COMPLETION_TAIL = (
    b',"logprobs":null,"finish_reason":null,"stop_reason":null,'
    b'"prompt_token_ids":null,"token_ids":null}]}'
)
_OBJECTS = {"chat": b"chat.completion.chunk", "completion": b"text_completion"}
_TEMPLATES: dict[tuple[str, Channel], tuple[bytes, bytes]] = {
    ("chat", Channel.CONTENT): (b',"delta":{"content":', _CHAT_TAIL),
    ("chat", Channel.REASONING): (b',"delta":{"reasoning":', _CHAT_TAIL),
    ("completion", Channel.CONTENT): (b',"text":', _COMPLETION_TAIL),
}
"""What vLLM 0.32 writes around the text of a plain delta; see tests/golden."""


_Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What a frame can carry; a chunk with any other number is kept verbatim."""


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class _Choice(msgspec.Struct):
    index: _Whole = 0
    delta: _Delta | None = None
    text: str | None = None


class _Chunk(msgspec.Struct):
    id: str = ""
    object: str = ""
    created: _Whole = 0
    model: str = ""
    choices: list[_Choice] = []


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_json = msgspec.json.Encoder()


def _stamp(header: StreamHeader) -> bytes:
    """How every chunk of an answer begins."""
    return b'{"id":%b,"object":"%b","created":%d,' % (
        _json.encode(header.response_id),
        _OBJECTS[header.api],
        header.created,
    )


def _prefix(header: StreamHeader) -> bytes:
    return b'%b"model":%b,"choices":[{"index":' % (_stamp(header), _json.encode(header.model))


def _payload(header: StreamHeader, prefix: bytes, frame: Frame) -> bytes | None:
    """Payload of a plain delta, or None where no template says it."""
    template = _TEMPLATES.get((header.api, frame.channel))
    if template is None:
        return None
    before, after = template
    return b"%b%d%b%b%b" % (prefix, frame.choice, before, _json.encode(frame.text), after)


def project(header: StreamHeader, frame: Frame) -> bytes:
    """Rebuild one event of an event stream, `data: ...` and blank line included.

    Raises:
        ProtocolViolation: The frame has neither a payload nor a template.
    """
    if header.api == "responses":
        return project_response(frame)
    payload = frame.payload
    if payload is None:
        payload = _payload(header, _prefix(header), frame) if header.api in _OBJECTS else None
        if payload is None:
            raise ProtocolViolation(f"no template for {header.api!r} on channel {frame.channel!r}")
    elif b"\n" in payload:
        payload = payload.replace(b"\n", b"\ndata: ")
    return b"data: %b\n\n" % payload


def is_last(header: StreamHeader, frame: Frame) -> bool:
    """Whether a frame is the one that ends a whole answer."""
    if header.api == "responses":
        return name_of(frame.payload) in LAST_EVENTS
    return frame.payload == DONE


def split_events(buffer: bytes, *, has_names: bool = False) -> tuple[list[bytes], bytes]:
    """Split a body of server-sent events into payloads and the unfinished rest.

    Comments, fields other than `data` and events without any are dropped: vLLM sends none that
    matter here.

    Args:
        has_names: Whether events are kept as their `event:` and `data:` lines; otherwise a payload
            is what follows `data:`.
    """
    *blocks, rest = buffer.split(b"\n\n")
    read = _named if has_names else _data
    return [payload for block in blocks if (payload := read(block.split(b"\n")))], rest


def _data(lines: list[bytes]) -> bytes:
    return b"\n".join(line[6:] for line in lines if line.startswith(b"data: "))


def _named(lines: list[bytes]) -> bytes:
    if not _data(lines):
        return b""
    return b"\n".join(line for line in lines if line.startswith((b"event: ", b"data: ")))


class EventParser:
    """Turns one stream's event payloads into its header and frames.

    Args:
        api: `chat`, `completion`, or empty for an API whose chunks are always kept verbatim.
        status: HTTP status of the stream.
        content_type: Content type of the stream.
        known: Header of the same answer as another engine had begun it: its id and its time of
            creation are put in the place of this stream's own.
    """

    __slots__ = ("_api", "_content_type", "_known", "_prefix", "_stamps", "_status", "header")

    def __init__(
        self, api: str, status: int, content_type: str, known: StreamHeader | None = None
    ) -> None:
        self._api = api
        self._status = status
        self._content_type = content_type
        self._known = known
        self._prefix = b""
        self._stamps = (b"", b"")
        """How this engine's chunks begin, and how they shall."""
        self.header: StreamHeader | None = None
        """Known after the first `parse`."""

    def parse(self, payload: bytes, take: TakeTokens, at_us: int) -> Frame:
        """Turn one payload into a frame.

        Args:
            payload: What follows `data: ` in the event.
            take: Called with a choice index; hands over the token ids not yet framed for it.
            at_us: Microseconds since the stream began.
        """
        chunk = self._decode(payload)
        if self.header is None:
            self._begin(chunk)
        assert self.header is not None
        own, known = self._stamps
        if own != known and payload.startswith(own):
            payload = known + payload[len(own) :]
        choice = self._first_choice(chunk)
        if choice is None:
            return Frame(0, Channel.EVENT, "", (), at_us, payload)
        channel, text = self._read(choice)
        if channel is Channel.EVENT:
            # The tokens that prompted it belong to the delta that follows.
            return Frame(choice.index, channel, "", (), at_us, payload)
        frame = Frame(choice.index, channel, text, take(choice.index), at_us)
        if self._prefix and _payload(self.header, self._prefix, frame) == payload:
            return frame
        return msgspec.structs.replace(frame, payload=payload)

    def _begin(self, chunk: _Chunk | None) -> None:
        api = self._api if chunk and chunk.id and chunk.object else ""
        self.header = StreamHeader(
            status=self._status,
            content_type=self._content_type,
            api=api,
            response_id=chunk.id if chunk else "",
            model=chunk.model if chunk else "",
            created=chunk.created if chunk else 0,
        )
        if api:
            known = self._known
            if known is not None and known.api == api:
                self._stamps = (_stamp(self.header), _stamp(known))
                self.header = msgspec.structs.replace(
                    self.header, response_id=known.response_id, created=known.created
                )
            self._prefix = _prefix(self.header)

    @staticmethod
    def _decode(payload: bytes) -> _Chunk | None:
        try:
            return _chunk_decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @staticmethod
    def _first_choice(chunk: _Chunk | None) -> _Choice | None:
        return chunk.choices[0] if chunk and chunk.choices else None

    @staticmethod
    def _read(choice: _Choice) -> tuple[Channel, str]:
        delta = choice.delta
        if delta is None or choice.text is not None:
            return Channel.CONTENT, choice.text or ""
        if delta.reasoning:
            return Channel.REASONING, delta.reasoning
        if delta.tool_calls and bytes(delta.tool_calls) not in (b"", b"null", b"[]"):
            return Channel.TOOL, ""
        if delta.role is not None and not delta.content:
            return Channel.EVENT, ""  # opens the choice
        return Channel.CONTENT, delta.content or ""


AnyParser = EventParser | ResponsesParser


def parser_of(
    api: str, status: int, content_type: str, known: StreamHeader | None = None
) -> AnyParser:
    """Make the parser of an API's events; see `EventParser` for the arguments."""
    if api == "responses":
        return ResponsesParser(status, content_type)
    return EventParser(api, status, content_type, known)
