"""What comes before a live prompt's text, and how text becomes a request."""

from dataclasses import dataclass, field, replace
from secrets import token_urlsafe
from typing import Annotated, Any

import msgspec

from headstart.cluster.engine import EngineRequest
from headstart.pipeline.inbound import Inbound, Salting, understand
from headstart.pipeline.input_language import InputLanguages
from headstart.pipeline.live_events import SessionConfig
from headstart.stages.errors import LiveRefused

__all__ = ["CHAT", "DETACHED", "LiveContext", "Message", "rendered", "salt_of"]

Message = dict[str, Any]

CHAT = "/v1/chat/completions"
_HEADERS = {"content-type": "application/json"}
DETACHED = _HEADERS | {"x-headstart-detach": "1"}
_OURS = frozenset({"model", "messages", "tools", "stream", "priority"})
"""Fields of a request that `sampling` does not set."""
_RENDERED = ("add_special_tokens", "cache_salt", "chat_template", "chat_template_kwargs")
"""Of them, those that change a prompt's ids or where they are cached: a thought needs them too."""
_DRAFTED_BY = ("speculation", "language")
"""Of its `headstart`, what says how an answer is drafted."""

_NOT_TOLD = InputLanguages()


class _Salted(msgspec.Struct):
    cache_salt: Annotated[str, msgspec.Meta(min_length=1)] | None = None


@dataclass(frozen=True, slots=True)
class LiveContext:
    """One session's, at one time."""

    instructions: str | None = None
    messages: list[Message] = field(default_factory=list)
    tools: list[Message] = field(default_factory=list)
    sampling: dict[str, Any] = field(default_factory=dict)
    private_salt: str | None = None
    """In place of a cache salt in `sampling`, where nobody else shall find what is cached; it is
    nowhere but here and in the requests of the session, which forgets it at its end."""

    def changed(self, config: SessionConfig) -> "LiveContext":
        """Return what it is after a change.

        Raises:
            LiveRefused: `sampling` has fields that are none.
        """
        unset = msgspec.UNSET
        if config.sampling is not unset and (reserved := _OURS & config.sampling.keys()):
            name = min(reserved)
            raise LiveRefused(f"`{name}` is no sampling field", param=name, code="invalid_event")
        fields = ("instructions", "messages", "tools", "sampling")
        given = {name: getattr(config, name) for name in fields}
        if config.private_cache is not unset:
            is_wanted, salt = config.private_cache, self.private_salt
            given["private_salt"] = (salt or token_urlsafe()) if is_wanted else None
        return replace(self, **{name: value for name, value in given.items() if value is not unset})

    def followed_by(self, *messages: Message) -> "LiveContext":
        """Return it with a longer conversation."""
        return replace(self, messages=[*self.messages, *messages])

    @property
    def num_chars(self) -> int:
        """How much of a session's room it takes."""
        rest = (self.instructions, self.messages, self.tools, self.sampling)
        return len(msgspec.json.encode(rest).decode())

    def plain(self, text: str) -> list[Message]:
        """Return the conversation that ends with a text."""
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return [*system, *self.messages, {"role": "user", "content": text}]

    def body(self, model: str, messages: list[Message], **more: object) -> bytes:
        """Return the body of the request that has a conversation answered."""
        fields = {"model": model, "messages": messages}
        return msgspec.json.encode(self.sampling | fields | self._tools | self._salt | more)

    def thought_body(self, model: str, messages: list[Message], max_tokens: int) -> bytes:
        """Return the body of a request for a thought: the same prompt, and no call of a tool."""
        kept = {name: self.sampling[name] for name in _RENDERED if name in self.sampling}
        fields = {"model": model, "messages": messages, "stream": True, "temperature": 0}
        none = {"tool_choice": "none"} if self.tools else {}
        limit = {"max_tokens": max_tokens}
        own = self._tools | self._salt | self._wish
        return msgspec.json.encode(kept | fields | own | none | limit)

    @property
    def _wish(self) -> dict[str, Any]:
        """How the session asks to be drafted for: a thought is as any answer in that."""
        asked = self.sampling.get("headstart") or {}
        wish = {name: asked[name] for name in _DRAFTED_BY if name in asked}
        return {"headstart": wish} if wish else {}

    @property
    def _salt(self) -> dict[str, str]:
        return {} if self.private_salt is None else {"cache_salt": self.private_salt}

    @property
    def _tools(self) -> dict[str, Any]:
        return {"tools": self.tools} if self.tools else {}


def understood(
    body: bytes, salting: Salting | None, languages: InputLanguages = _NOT_TOLD
) -> Inbound:
    """Return a chat request as the gateway understands it."""
    return understand(body, _HEADERS, salting, CHAT, languages)


def request_of(inbound: Inbound) -> EngineRequest:
    """Return what an engine gets of a chat request."""
    return EngineRequest("", "POST", CHAT, inbound.headers, inbound.body)


def rendered(body: bytes, salting: Salting | None) -> EngineRequest:
    """Return a request as an engine renders it."""
    return request_of(understood(body, salting))


def salt_of(request: EngineRequest) -> str | None:
    """Return the cache salt that a request has for its engine.

    Raises:
        LiveRefused: It is none.
    """
    try:
        return msgspec.json.decode(request.body, type=_Salted).cache_salt
    except msgspec.ValidationError:
        raise LiveRefused(
            "cache_salt must be text that is not empty", param="cache_salt", code="invalid_event"
        ) from None
