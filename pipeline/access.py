"""Who asks, whether they may, and what they have left: the one gate of every carrier.

Knows nothing of HTTP servers or sockets, so that whatever carries requests can ask it.
"""

import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

from headstart.cluster.stream import Stream
from headstart.configs.access import AccessSettings, KeySettings
from headstart.stages.access import Secrets, bearer, position
from headstart.stages.errors import Forbidden, NotFound, RateLimited, Unauthenticated
from headstart.stages.rate_limit import Bucket, RateLimit, Refusal

__all__ = ["ANYONE", "Access", "Caller", "Lease", "new_stream_id"]

_OPEN_PATHS = ("/", "/healthz", "/readyz", "/health")
_OPEN_FOLDER = "/web/"
"""What the page is made of: it has to be there before anybody can enter a key."""


def new_stream_id() -> str:
    """Return an id that cannot be guessed."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: one of the configured keys."""

    key: KeySettings | None = None
    """None is anyone, where no key is configured."""

    @property
    def key_id(self) -> str:
        """What the key is called; empty where there is none."""
        return "" if self.key is None else self.key.id

    def may_use(self, model: str) -> bool:
        """Whether a model is within the key's scope."""
        return self.key is None or not self.key.models or model in self.key.models


ANYONE = Caller()


class Lease:
    """An admitted request's place among its key's answers.

    Given back when the block ends, free of charge, unless an answer has taken it over.
    """

    def __init__(self, close: Callable[[int], None]) -> None:
        self._close = close
        self._is_handed_on = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_handed_on:
            self._close(0)

    def last_as_long_as(self, stream: Stream) -> None:
        """Keep the place until the stream ends, then charge its tokens."""
        self._is_handed_on = True
        stream.on_end(lambda: self._close(_cost(stream)))


class Access:
    """Keys, their scopes, their limits, and what is derived from them.

    Args:
        settings: The keys.
        secret: Of the cluster, the same in every gateway: what salts and stream ids come from.
        now: A monotonic clock, in seconds.
    """

    def __init__(self, settings: AccessSettings, secret: str, now: Callable[[], float]) -> None:
        self._callers = [Caller(key) for key in settings.keys]
        self._hashes = [key.hash for key in settings.keys]
        self._secrets = Secrets(secret)
        self._metrics_need_key = settings.metrics_need_key
        self._now = now
        self._limits = {
            key.id: RateLimit(key.max_concurrent, key.requests_per_minute, key.tokens_per_minute)
            for key in settings.keys
        }
        self._warm = {
            key.id: Bucket(key.live_tokens_per_minute)
            for key in settings.keys
            if key.live_tokens_per_minute is not None
        }
        self._thinking = {
            key.id: Bucket(key.thinking_tokens_per_minute)
            for key in settings.keys
            if key.thinking_tokens_per_minute
        }

    @property
    def needs_key(self) -> bool:
        """Whether any key is configured; without, whoever can reach the gateway may ask."""
        return bool(self._callers)

    def is_open(self, path: str) -> bool:
        """Whether a route needs no key."""
        if path == "/metrics":
            return not self._metrics_need_key
        return path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER)

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """Return who asks.

        Args:
            headers: Of the request; names in lower case, or found in any case.

        Raises:
            Unauthenticated: Keys are configured, and none of them came along.
        """
        if not self.needs_key:
            return ANYONE
        key = bearer(headers.get("authorization"))
        if key is None:
            raise Unauthenticated("no API key: send it as `Authorization: Bearer KEY`")
        index = position(key, self._hashes)
        if index is None:
            raise Unauthenticated("the API key is not one of this server's")
        return self._callers[index]

    def admit(self, caller: Caller) -> Lease:
        """Give a request a place, to be used in a `with`.

        Raises:
            RateLimited: The key has had its share for now.
        """
        if caller.key is None:
            return Lease(lambda _num_tokens: None)
        limit = self._limits[caller.key.id]
        _raise(limit.admit(self._now()))
        return self._lease(limit)

    def check(self, caller: Caller) -> None:
        """Refuse a request that would not be admitted, before its body is read.

        Raises:
            RateLimited: The key has had its share for now.
        """
        if caller.key is not None:
            _raise(self._limits[caller.key.id].refusal(self._now()))

    def _lease(self, limit: RateLimit) -> Lease:
        return Lease(lambda num_tokens: limit.ended(num_tokens, self._now()))

    def resume(self, stream: Stream) -> None:
        """Let an answer that a gateway before this one admitted count among its key's."""
        for caller in self._callers:
            if caller.key is not None and self._owns(caller.key, stream.id):
                limit = self._limits[caller.key.id]
                limit.resume()
                self._lease(limit).last_as_long_as(stream)

    def check_live(self, caller: Caller) -> None:
        """Let only keys that are meant for it send prompts as they are typed.

        Raises:
            Forbidden: The key is not.
        """
        if caller.key is not None and not caller.key.live:
            raise Forbidden("the API key may not send live prompts")

    def warm_buckets(self, caller: Caller) -> list[Bucket]:
        """Return what limits the tokens that a caller's live prompts compute ahead."""
        bucket = self._warm.get(caller.key.id) if caller.key is not None else None
        return [] if bucket is None else [bucket]

    def check_thinking(self, caller: Caller) -> None:
        """Let only keys that have a budget for it have a model think about what they type.

        Raises:
            Forbidden: The key has none.
        """
        if caller.key is not None and caller.key.thinking_tokens_per_minute == 0:
            raise Forbidden("the API key may not have live prompts thought about", param="mode")

    def thinking_buckets(self, caller: Caller) -> list[Bucket]:
        """Return what limits the tokens of thoughts about a caller's live prompts."""
        bucket = self._thinking.get(caller.key.id) if caller.key is not None else None
        return [] if bucket is None else [bucket]

    def quota_headers(self, caller: Caller) -> list[tuple[str, str]]:
        """Return what is left, in the headers that OpenAI's clients know; none without limits."""
        quotas = self._limits[caller.key.id].quotas(self._now()) if caller.key else []
        return [
            (f"x-ratelimit-{what}-{quota.unit}", value)
            for quota in quotas
            for what, value in (
                ("limit", str(quota.limit)),
                ("remaining", str(quota.remaining)),
                ("reset", f"{quota.reset_s:.3f}s"),
            )
        ]

    def salting(self, caller: Caller) -> Callable[[str | None], str] | None:
        """Return what makes the engine's cache salt of the client's own; None lets that be."""
        return None if caller.key is None else partial(self._secrets.cache_salt, caller.key.id)

    def stream_id(self, caller: Caller) -> str:
        """Return the id of a new stream, which only `caller` can use."""
        stream = new_stream_id()
        if caller.key is None:
            return stream
        return f"{stream}.{self._secrets.owner_tag(caller.key.id, stream)}"

    def check_owner(self, caller: Caller, stream_id: str) -> None:
        """Let only the key that made a stream use it: its id is not a credential.

        Raises:
            NotFound: It is another's, told in the words for one that does not exist.
        """
        if caller.key is not None and not self._owns(caller.key, stream_id):
            raise NotFound(f"no stream {stream_id}: unknown or expired")

    def _owns(self, key: KeySettings, stream_id: str) -> bool:
        stream, _, tag = stream_id.partition(".")
        expected = self._secrets.owner_tag(key.id, stream)
        return secrets.compare_digest(tag.encode(), expected.encode())


def _raise(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise RateLimited(
            f"the API key's {refusal.limit} is used up; try again in "
            f"{math.ceil(refusal.retry_after_s)} s",
            retry_after_s=refusal.retry_after_s,
        )


def _cost(stream: Stream) -> int:
    end = stream.end
    return 0 if end is None else end.prompt_tokens + end.output_tokens
