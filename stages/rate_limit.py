"""How much one key may have: answers at once, requests and tokens a minute.

Requests and tokens are token buckets that hold a minute's worth and fill steadily. Tokens are
charged when an answer ends, because the gateway knows neither the prompt's tokens nor, before the
end, the answer's: a bucket may be overdrawn, and then nothing is admitted until the debt is paid.
What a key can overdraw is what its answers in the making cost, which `max_concurrent` and the
engine's limits on one request bound.
"""

from dataclasses import dataclass

__all__ = ["Bucket", "Quota", "RateLimit", "Refusal"]

_RETRY_S = 1.0
"""When a place may be free again: nobody knows how long an answer takes."""
_EPSILON = 1e-9
"""Of a unit: what adding up many short times may lose."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no answer now."""

    limit: str
    """The limit that was reached, as its setting is called."""
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Quota:
    """One bucket as a client may see it."""

    unit: str
    limit: int
    remaining: int
    reset_s: float
    """Seconds until the bucket is full."""


class Bucket:
    """Holds a minute's worth, fills steadily, may be overdrawn."""

    def __init__(self, per_minute: int) -> None:
        self.capacity = per_minute
        self._level = float(per_minute)
        self._at: float | None = None

    def level(self, now: float) -> float:
        """Return what is in it; below zero is debt. A clock that goes back fills nothing."""
        if self._at is None or now > self._at:
            passed_s = 0.0 if self._at is None else now - self._at
            self._level = min(self.capacity, self._level + passed_s * self.capacity / 60)
            self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take out `amount`, whether or not it is there."""
        self._level = self.level(now) - amount

    def wait_s(self, now: float, amount: float = 1.0) -> float:
        """Return the seconds until `amount` is there; 0 if it is."""
        missing = amount - self.level(now)
        return missing * 60 / self.capacity if missing > _EPSILON else 0.0


class RateLimit:
    """Admits the requests of one key.

    Args:
        max_concurrent: Most answers in the making; None is no limit, as for the others.
        requests_per_minute: Requests that are admitted; refused ones cost nothing.
        tokens_per_minute: Prompt and output tokens.
    """

    def __init__(
        self,
        max_concurrent: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        self.num_running = 0
        self._max_concurrent = max_concurrent
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute)

    def refusal(self, now: float) -> Refusal | None:
        """Say why a request would not be admitted now; None if it would."""
        refusals = []
        if self._max_concurrent is not None and self.num_running >= self._max_concurrent:
            refusals.append(Refusal("max_concurrent", _RETRY_S))
        for name, bucket in self._buckets():
            if wait_s := bucket.wait_s(now):
                refusals.append(Refusal(f"{name}_per_minute", wait_s))
        return max(refusals, key=lambda refusal: refusal.retry_after_s, default=None)

    def admit(self, now: float) -> Refusal | None:
        """Admit a request, which `ended` must follow, or say why not."""
        if (refusal := self.refusal(now)) is not None:
            return refusal
        self.num_running += 1
        if self._requests is not None:
            self._requests.take(1, now)
        return None

    def resume(self) -> None:
        """Count an answer that was admitted elsewhere, which `ended` must follow.

        What is under way cannot be refused: it may take the key over its limit.
        """
        self.num_running += 1

    def ended(self, num_tokens: int, now: float) -> None:
        """Give back an admitted request's place and charge what it cost."""
        self.num_running -= 1
        if self._tokens is not None:
            self._tokens.take(num_tokens, now)

    def quotas(self, now: float) -> list[Quota]:
        """Return what is left."""
        return [
            Quota(
                name,
                bucket.capacity,
                max(0, int(bucket.level(now) + _EPSILON)),
                bucket.wait_s(now, bucket.capacity),
            )
            for name, bucket in self._buckets()
        ]

    def _buckets(self) -> list[tuple[str, Bucket]]:
        named = (("requests", self._requests), ("tokens", self._tokens))
        return [(name, bucket) for name, bucket in named if bucket is not None]
