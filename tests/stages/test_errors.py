"""What clients and the daemon's callers may rely on in each error."""

import pickle
from collections.abc import Iterator

import pytest

from headstart.stages import errors
from headstart.stages.errors import ClientError, EngineError, HeadstartError


def subclasses(root: type[HeadstartError]) -> Iterator[type[HeadstartError]]:
    yield root
    for child in root.__subclasses__():
        yield from subclasses(child)


@pytest.mark.parametrize(
    ("error", "kind", "http_status", "is_retryable"),
    [
        (errors.BadRequest, "BadRequestError", 400, False),
        (errors.NotFound, "NotFoundError", 404, False),
        (errors.PayloadTooLarge, "PayloadTooLargeError", 413, False),
        (errors.HeadTooLarge, "RequestHeaderFieldsTooLargeError", 431, False),
        (errors.LiveRefused, "LiveRefusedError", 400, False),
        (errors.LiveConflict, "LiveRefusedError", 409, False),
        (errors.Cancelled, "CancelledError", 409, False),
        (errors.Unauthenticated, "AuthenticationError", 401, False),
        (errors.Forbidden, "PermissionDeniedError", 403, False),
        (errors.RateLimited, "RateLimitError", 429, True),
        (errors.Overloaded, "ServiceUnavailableError", 503, True),
        (errors.EngineUnavailable, "ServiceUnavailableError", 503, True),
        (errors.EngineLost, "ServiceUnavailableError", 503, True),
        (errors.NotContinued, "ServiceUnavailableError", 503, True),
        (errors.EngineFailed, "InternalServerError", 500, False),
        (errors.ProtocolViolation, "InternalServerError", 500, False),
        (errors.SetupError, "InternalServerError", 500, False),
    ],
)
def test_each_error_has_a_stable_face(
    error: type[HeadstartError], kind: str, http_status: int, is_retryable: bool
) -> None:
    assert (error.kind, error.http_status, error.is_retryable) == (kind, http_status, is_retryable)


def test_each_error_has_a_stable_word() -> None:
    words = {error("").word for error in subclasses(HeadstartError)}
    assert words >= {
        "bad_request",
        "context_length_exceeded",
        "engine_failed",
        "engine_lost",
        "engine_unavailable",
        "forbidden",
        "model_not_found",
        "not_found",
        "overloaded",
        "payload_too_large",
        "rate_limited",
        "unauthenticated",
    }
    assert errors.LiveRefused("", code="out_of_range").word == "out_of_range"


def test_client_errors_are_4xx_and_retryable_exactly_when_429() -> None:
    for error in subclasses(ClientError):
        assert 400 <= error.http_status < 500
        assert error.is_retryable == (error.http_status == 429)


def test_engine_errors_are_retryable_exactly_when_503() -> None:
    for error in subclasses(EngineError):
        assert error.http_status >= 500
        assert error.is_retryable == (error.http_status == 503)


def test_every_error_is_public() -> None:
    tree = {error.__name__ for error in subclasses(HeadstartError)}

    assert tree >= set(errors.__all__)
    assert all(hasattr(errors, name) for name in errors.__all__)


def test_error_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(errors.BadRequest("no such choice", param="n")))

    assert type(error) is errors.BadRequest
    assert (str(error), error.message, error.param) == ("no such choice", "no such choice", "n")


def test_time_to_wait_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(errors.RateLimited("later", retry_after_s=7.5)))

    assert (error.message, error.retry_after_s) == ("later", 7.5)
