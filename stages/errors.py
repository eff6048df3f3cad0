"""Every error Headstart raises on purpose, as one tree.

```
HeadstartError
├── ClientError            they erred: 4xx, do not retry
│   ├── BadRequest  NotFound  PayloadTooLarge  HeadTooLarge  RequestTimeout  Cancelled
│   │   ├── ContextLengthExceeded  a BadRequest
│   │   └── ModelNotFound          a NotFound
│   ├── LiveRefused            of a live prompt, with a code
│   │   └── LiveConflict       not now
│   ├── Unauthenticated  Forbidden
│   └── RateLimited        retryable, later
├── EngineError            the cluster could not answer
│   ├── EngineUnavailable  EngineLost    retryable
│   │   ├── Overloaded     every place is taken
│   │   └── NotContinued   an EngineLost
│   └── EngineFailed
├── ProtocolViolation      a peer of ours broke the data plane's rules
└── SetupError             the daemon cannot start: settings, model, machine
```

Each class has the HTTP status and the stable `kind` that clients see; the gateway maps the
tree in one place. Nobody decides on the text of a message.
"""

import re
from typing import ClassVar

__all__ = [
    "BadRequest",
    "Cancelled",
    "ClientError",
    "ContextLengthExceeded",
    "EngineError",
    "EngineFailed",
    "EngineLost",
    "EngineUnavailable",
    "Forbidden",
    "HeadTooLarge",
    "HeadstartError",
    "LiveConflict",
    "LiveRefused",
    "ModelNotFound",
    "NotContinued",
    "NotFound",
    "Overloaded",
    "PayloadTooLarge",
    "ProtocolViolation",
    "RateLimited",
    "RequestTimeout",
    "SetupError",
    "Unauthenticated",
]


class HeadstartError(Exception):
    """Root of the tree.

    Args:
        message: One sentence for the person who has to act on it, naming the fix if there is one.
        param: The request field or settings key at fault, if there is exactly one.
    """

    kind: ClassVar[str] = "InternalServerError"
    http_status: ClassVar[int] = 500
    is_retryable: ClassVar[bool] = False
    retry_after_s: float = 1.0
    """Seconds after which asking again may help, where it may."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def code(self) -> int | str:
        """What a client is told in one word: the HTTP status where there is no better one."""
        return self.http_status

    @property
    def word(self) -> str:
        """The same where nobody expects vLLM's words: the name of the class, as in `not_found`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


class ClientError(HeadstartError):
    """The request is at fault."""

    kind = "BadRequestError"
    http_status = 400


class BadRequest(ClientError):
    """The request is malformed or asks for something impossible."""

    @staticmethod
    def of_engine(message: str, param: str | None) -> "BadRequest":
        """Make the error for what an engine refuses; vLLM names the field at fault."""
        kind = ContextLengthExceeded if param == "input_tokens" else BadRequest
        return kind(message, param=param)


class ContextLengthExceeded(BadRequest):
    """The prompt is more than the model's context holds."""


class NotFound(ClientError):
    """No such model, stream or route."""

    kind = "NotFoundError"
    http_status = 404


class ModelNotFound(NotFound):
    """No such model."""


class RequestTimeout(ClientError):
    """The request took too long to arrive."""

    kind = "RequestTimeoutError"
    http_status = 408


class PayloadTooLarge(ClientError):
    """The body, or the answer that it asks for, is over the configured limit."""

    kind = "PayloadTooLargeError"
    http_status = 413


class HeadTooLarge(ClientError):
    """Request line and headers are over the configured limit."""

    kind = "RequestHeaderFieldsTooLargeError"
    http_status = 431


class Unauthenticated(ClientError):
    """No key came with the request, or one that is not configured."""

    kind = "AuthenticationError"
    http_status = 401


class Forbidden(ClientError):
    """The key is good, and not for this."""

    kind = "PermissionDeniedError"
    http_status = 403


class RateLimited(ClientError):
    """The key has had its share for now."""

    kind = "RateLimitError"
    http_status = 429
    is_retryable = True

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class Cancelled(ClientError):
    """The answer was stopped on request before it was complete."""

    kind = "CancelledError"
    http_status = 409


class LiveRefused(ClientError):
    """A live prompt cannot take this event; it is as it was.

    Args:
        code: A stable word for why.
    """

    kind = "LiveRefusedError"

    def __init__(self, message: str, *, param: str | None = None, code: str = "refused") -> None:
        super().__init__(message, param=param)
        self._code = code

    @property
    def code(self) -> str:
        return self._code

    @property
    def word(self) -> str:
        return self._code


class LiveConflict(LiveRefused):
    """It cannot be taken now."""

    http_status = 409


class EngineError(HeadstartError):
    """The cluster could not answer."""


class EngineUnavailable(EngineError):
    """No replica can take the request now."""

    kind = "ServiceUnavailableError"
    http_status = 503
    is_retryable = True


class Overloaded(EngineUnavailable):
    """A bounded queue is full: places for answers, memory for logs, connections."""


class EngineLost(EngineError):
    """The replica died, or its link did, while the answer was being made."""

    kind = "ServiceUnavailableError"
    http_status = 503
    is_retryable = True


class NotContinued(EngineLost):
    """The replica was lost, and no other can go on with exactly the answer it was making."""


class EngineFailed(EngineError):
    """The engine raised; asking again would raise again."""


class ProtocolViolation(HeadstartError):
    """A peer sent what the data plane does not allow."""


class SetupError(HeadstartError):
    """The daemon cannot start; the message names the fix."""
