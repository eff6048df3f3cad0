"""What is said to the server's end of a real link, and what it answers."""

from collections.abc import Sequence

import msgspec

from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.configs.settings import Settings

__all__ = [
    "SCHEMES",
    "Door",
    "Enter",
    "Kill",
    "Made",
    "Memory",
    "Open",
    "Used",
    "When",
    "model",
    "settings_for",
]

SCHEMES = ("snapshots", "published", "stream")
"""`quic.scheme` of each gateway."""


class Open(msgspec.Struct):
    """First line: where to listen."""

    settings: list[str]
    """Of each gateway, as `Settings.to_child` writes them."""
    host: str = "127.0.0.1"
    space: str | None = None
    """Network namespace; None is the caller's own."""


class Door(msgspec.Struct):
    """Answer to it: one gateway's address."""

    host: str
    port: int
    hashes: list[str]
    """SHA-256 of its certificates, hexadecimal."""


class Enter(msgspec.Struct):
    """A readers' first line; not answered."""

    space: str | None = None
    """Network namespace; None is the caller's own."""


class When(msgspec.Struct, tag=True):
    """When were the tokens of these answers made? Answered by one `Made` for each."""

    ids: list[str]


class Made(msgspec.Struct):
    """When each token was made, and its text."""

    at: list[float]
    texts: list[str] = []


class Memory(msgspec.Struct, tag=True):
    """Answered by one `Used` for each gateway."""


class Used(msgspec.Struct):
    """What a gateway's process has for itself."""

    uss_bytes: int
    cpu_s: float


class Kill(msgspec.Struct, tag=True):
    """Kill a gateway; answered by its `Door` once another stands there."""

    gateway: int


def model(name: str, tokens_per_s: float, answer_tokens: int = 64) -> ModelSettings:
    """A fake model.

    Args:
        answer_tokens: Of an answer to a request without a limit.
    """
    fake = FakeEngineSettings(
        time_to_first_token_s=0.05,
        tokens_per_s=tokens_per_s,
        tokens_per_step=1,
        answer_tokens=answer_tokens,
    )
    return ModelSettings(name=name, engine="fake", fake=fake)


def settings_for(
    settings: Settings, models: Sequence[ModelSettings], host: str, scheme: str, ttl_s: float
) -> Settings:
    """The settings of a gateway here.

    Args:
        host: Where its UDP socket listens.
        scheme: One of `SCHEMES`.
        ttl_s: How long finished answers are kept.
    """
    gateway = {"port": 0, "shutdown_grace_s": 0.0, "allowed_hosts": (host,)}
    quic = {"scheme": scheme, "host": host}
    own = settings.model_copy(
        update={
            "models": tuple(models),
            "gateway": settings.gateway.model_copy(update=gateway),
            "quic": settings.quic.model_copy(update=quic),
            "streams": settings.streams.model_copy(update={"finished_ttl_s": ttl_s}),
        }
    )
    return own.with_secret("of-a-benchmark-on-this-machine")
