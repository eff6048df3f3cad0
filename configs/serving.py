"""Settings of what stands between a client and a replica: gateway, token logs, data plane."""

from ipaddress import ip_address
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from headstart.configs.fields import MAX_PORT, MIB, File, Port, Secret
from headstart.configs.section import Section, wrong

__all__ = [
    "MAX_MESSAGE_BYTES",
    "DataPlaneSettings",
    "GatewaySettings",
    "QuicSettings",
    "StreamSettings",
]

MAX_MESSAGE_BYTES = 64 * MIB
"""Longest message of the data plane; a longer one would cost the link, and all answers on it."""

_OTHER_FILES = 512
"""That a gateway has open besides its clients' connections: links to replicas, refused connections
that linger, logs."""

HostName = Annotated[
    str,
    StringConstraints(
        pattern=r"^([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)$"
    ),
]
"""A name or an address, without brackets or a port."""
Origin = Annotated[
    str, StringConstraints(pattern=r"^(\*|(https?|[a-z]+-extension)://[A-Za-z0-9.:\[\]-]+)$")
]


class GatewaySettings(Section):
    """The HTTP side."""

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Without API keys (`access.keys`) loopback only.",
    )
    port: Port = Field(default=8000, description="TCP port; 0 takes any free one.")
    tls_cert_file: File | None = Field(
        default=None,
        description="Certificate chain in PEM form, read at start; with `tls_key_file`. Unset: "
        "plain HTTP.",
    )
    tls_key_file: File | None = Field(
        default=None, description="The certificate's key in PEM form, without a passphrase."
    )
    cors_origins: tuple[Origin, ...] = Field(
        default=(),
        description="Origins whose pages may call the API from a browser, such as "
        "`https://chat.example.org`; `*` is all of them. Empty: none but its own.",
    )
    allowed_hosts: tuple[HostName, ...] = Field(
        default=(),
        description="Names that `Host` may have, beside `host` and those of loopback, where no API "
        "key is configured: such as a proxy's that passes its own on. Others get 403.",
    )
    page: bool = Field(
        default=True,
        description="Serve the chat page at `/` and the browser module under `/web/`; both need no "
        "key, the answers do.",
    )
    max_connections: int = Field(
        default=4096, ge=1, description="Most open connections; further ones get 503."
    )
    keep_alive_s: float = Field(
        default=30.0, gt=0, description="Seconds that a connection may idle between requests."
    )
    max_header_bytes: int = Field(
        default=32 * 1024,
        ge=1024,
        le=MIB,
        description="Longest request line plus headers, bytes; longer ones get 431.",
    )
    header_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="Longest wait for a request's line and headers, seconds; later ones get 408. "
        "A TLS handshake has as long.",
    )
    max_body_bytes: int = Field(
        default=8 * MIB,
        ge=1024,
        le=32 * MIB,
        description="Longest request body, bytes; longer ones get 413.",
    )
    max_bodies_bytes: int = Field(
        default=256 * MIB,
        ge=MIB,
        description="Most that all requests hold while their bodies arrive, bytes; further ones "
        "get 503. Keys share it: one alone gets half. At least twice `max_body_bytes`.",
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="Longest wait for a request's body, seconds."
    )
    send_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="Longest wait for a client that does not read what is sent, seconds; then its "
        "connection is cut.",
    )
    heartbeat_s: float = Field(
        default=15.0,
        gt=0,
        description="Seconds of silence after which an event stream sends a comment.",
    )
    max_streams: int = Field(
        default=512,
        ge=1,
        description="Most answers in the making at once; further requests get 503.",
    )
    shutdown_grace_s: float = Field(
        default=10.0, ge=0, description="Seconds that running answers get to finish on shutdown."
    )

    @property
    def num_files(self) -> int:
        """Files that the gateway may have open at once."""
        return self.max_connections + _OTHER_FILES

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or _is_loopback(self.host)

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if self.max_bodies_bytes < 2 * self.max_body_bytes:
            raise wrong(
                "max_bodies_bytes",
                f"must be at least twice max_body_bytes, {2 * self.max_body_bytes}",
            )
        return self

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            missing = "tls_key_file" if self.tls_key_file is None else "tls_cert_file"
            raise wrong(missing, "tls_cert_file and tls_key_file go together: set both or neither")
        return self


class StreamSettings(Section):
    """The token logs that a process keeps in memory."""

    finished_ttl_s: float = Field(
        default=300.0, ge=0, description="Seconds that a finished answer can still be resumed."
    )
    max_total_bytes: int = Field(
        default=256 * MIB,
        ge=MIB,
        description="Most that all logs of a process cost, bytes, with 2,560 for each finished "
        "one; the oldest of these go first.",
    )
    max_stream_bytes: int = Field(
        default=16 * MIB,
        ge=64 * 1024,
        description="Most that one answer's log holds, bytes; who asks for more gets 413. With "
        "`data_plane.window_bytes` it has to fit one message of 64 MiB.",
    )

    max_request_bytes: int = Field(
        default=32 * MIB,
        ge=0,
        le=48 * MIB,
        description="Most that the requests of live detached answers hold, bytes; they are kept "
        "for another replica to go on with. Keys share it: one alone gets half. What does not fit "
        "cannot be moved.",
    )

    @model_validator(mode="after")
    def _one_fits_in_all(self) -> Self:
        if self.max_stream_bytes > self.max_total_bytes:
            raise wrong(
                "max_stream_bytes", f"must be at most max_total_bytes, {self.max_total_bytes}"
            )
        return self


class QuicSettings(Section):
    """The UDP side: answers in datagrams, over QUIC and WebTransport."""

    enabled: bool = Field(
        default=True, description="Serve QUIC beside HTTP. Off: clients stay with event streams."
    )
    host: str | None = Field(
        default=None, description="Address to listen on. Unset: the gateway's."
    )
    port: Port | None = Field(
        default=None,
        description="UDP port; 0 takes any free one. Unset: the number of the gateway's TCP port.",
    )
    public_host: HostName | None = Field(
        default=None,
        description="Name or address at which clients reach the UDP port, where it is not the one "
        "at which they reach HTTP: behind NAT, or where a proxy takes HTTP alone. `/v1/transport` "
        "announces it. Unset: `host`, or what the client asked.",
    )
    public_port: int | None = Field(
        default=None,
        ge=1,
        le=MAX_PORT,
        description="UDP port at which clients reach `port`, where it has another number there: "
        "behind a load balancer, or one that a container's is mapped to. `/v1/transport` announces "
        "it. Unset: the one that is listened on.",
    )
    certificate_file: File | None = Field(
        default=None,
        description="PEM file with the certificate chain. Unset: one of its own, valid 13 days "
        "and renewed in time, whose SHA-256 clients learn from `/v1/transport`.",
    )
    key_file: File | None = Field(
        default=None, description="PEM file with the certificate's private key."
    )
    idle_timeout_s: float = Field(
        default=30.0,
        ge=1,
        le=600,
        description="Silence, or time without a request or an answer, after which a connection "
        "ends, seconds.",
    )
    max_connections: int = Field(
        default=1024, ge=1, description="Most connections; further ones get no answer."
    )
    retry_above: int = Field(
        default=64,
        ge=0,
        description="Handshakes in progress above which a new client must first prove its "
        "address, at the price of a round trip.",
    )
    max_streams: int = Field(
        default=32, ge=1, description="Most answers that one connection reads at once."
    )
    max_acks_per_s: float = Field(
        default=200.0,
        ge=20,
        description="Acknowledgements a second of one stream that are looked at; our readers "
        "send 100 at most.",
    )
    bytes_per_s: float = Field(
        default=32_000.0,
        ge=1000,
        description="Most datagram bytes of one stream a second, in the long run.",
    )
    min_frame_s: float = Field(
        default=0.02,
        ge=0.005,
        le=0.05,
        description="Time between two datagrams of a stream with new text, seconds, if it comes so "
        "fast; up to half of it sooner for one that takes its turn early. With a long round trip "
        "it is up to 0.05.",
    )
    scheme: Literal["snapshots", "published", "stream"] = Field(
        default="snapshots",
        description="What a datagram holds. `published` is the Eloquent paper's rule, for "
        "comparison only: slower, dearer, without metrics of the reader's. `stream`: no datagrams "
        "for anybody; answers come on reliable streams, where one lost packet holds up all after "
        "it. No help where a network polices UDP: streams are UDP packets too.",
    )

    @model_validator(mode="after")
    def _key_comes_with_certificate(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            missing = "key_file" if self.key_file is None else "certificate_file"
            raise wrong(missing, "certificate_file and key_file are set together")
        return self


class DataPlaneSettings(Section):
    """The connections on which replicas send tokens to the gateway."""

    secret: Secret | None = Field(
        default=None,
        description="Guards the connections: at least 16 letters, digits or `+/=_.~-`. Unset: a "
        "new one each run. Required with `ray.address`.",
    )
    window_bytes: int = Field(
        default=4 * MIB,
        ge=64 * 1024,
        le=32 * MIB,
        description="Most that a replica sends ahead of the gateway's acknowledgement, bytes for "
        "each connection. The floor is above one engine step's message.",
    )
    bind_host: str = Field(
        default="127.0.0.1",
        description="IP address that replicas listen on; `0.0.0.0` where gateways are on other "
        "nodes.",
    )
    ping_interval_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="Seconds between pings that tell a dead peer from a quiet one.",
    )

    max_failovers: int = Field(
        default=3,
        ge=0,
        description="Times that a detached answer is moved to another replica when its own is "
        "lost; then its reader is told to ask again.",
    )
    failover_wait_s: float = Field(
        default=120.0,
        gt=0,
        description="Longest that a detached answer waits for a replica that can go on with it, "
        "seconds.",
    )

    @property
    def silence_limit_s(self) -> float:
        """Seconds without a word after which a peer counts as dead: five pings."""
        return 5 * self.ping_interval_s

    @property
    def secret_value(self) -> str:
        """The secret in clear.

        Raises:
            ValueError: The daemon has not set one yet.
        """
        if self.secret is None:
            raise ValueError("data_plane.secret is not set")
        return self.secret.get_secret_value()

    @field_validator("bind_host")
    @classmethod
    def _bind_host_is_an_address(cls, host: str) -> str:
        ip_address(host)
        return host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
