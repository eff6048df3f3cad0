"""The gateway's certificate for QUIC: from files, or its own and renewed before it expires.

Browsers take a certificate that nobody vouches for where the page names its SHA-256, if it is an
ECDSA one and valid for two weeks at most (WebTransport's `serverCertificateHashes`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headstart.configs.serving import QuicSettings
from headstart.pipeline.tls import check_files
from headstart.stages.errors import SetupError

__all__ = [
    "Certificates",
    "SelfSigned",
    "check",
    "ends_soon",
    "from_files",
    "is_wildcard",
    "wall_clock",
]

_VALID = timedelta(days=13)
"""Fourteen is the most that browsers take, clocks that differ included."""
_BACKDATED = timedelta(hours=1)
_RENEWED_BEFORE = timedelta(days=6)
"""Clocks may differ by so much; a page is told of a certificate a week before it is used."""
_ENDS_SOON = timedelta(days=7)
"""Left to whoever has to renew one."""


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate of our own and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def sha256(self) -> bytes:
        """What a page names it by."""
        return self.certificate.fingerprint(hashes.SHA256())

    @property
    def renewed_at(self) -> datetime:
        """When the next one is to take its place."""
        return self.certificate.not_valid_after_utc - _RENEWED_BEFORE

    @classmethod
    def make(cls, host: str, now: datetime) -> "SelfSigned":
        """Make one that is to be used from now on, for a host and for this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Headstart gateway")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now - _BACKDATED + _VALID)
            .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)


class Certificates:
    """Keeps a QUIC configuration's certificate fresh.

    Args:
        configuration: Of the server; connections made from now on use what it holds.
        host: What clients connect to.
        now: Wall clock time, with its zone.
    """

    def __init__(self, configuration: QuicConfiguration, host: str, now: datetime) -> None:
        self._configuration = configuration
        self._host = host
        self._serve(SelfSigned.make(host, now))

    @property
    def hashes(self) -> list[bytes]:
        """SHA-256 of the certificate in use, then of the one that comes after it.

        A page that has asked before a renewal can connect after it.
        """
        return [self._serving.sha256, self._next.sha256]

    def expire(self, now: datetime) -> bool:
        """Renew the certificate if it is time; return whether it was."""
        if now < self._serving.renewed_at:
            return False
        # Who has slept through a whole period has told nobody of anything that is still good.
        is_late = now >= self._next.renewed_at
        self._serve(SelfSigned.make(self._host, now) if is_late else self._next)
        return True

    def _serve(self, made: SelfSigned) -> None:
        self._serving = made
        self._next = SelfSigned.make(self._host, made.renewed_at)
        self._configuration.certificate = made.certificate
        self._configuration.private_key = made.key
        self._configuration.certificate_chain = []


def from_files(configuration: QuicConfiguration, certificate: Path, key: Path) -> x509.Certificate:
    """Take a certificate chain and its key from PEM files; return the server's own.

    Raises:
        SetupError: They cannot be read, or are not what they should be.
    """
    check_files(certificate, key, "quic.certificate_file", "quic.key_file")
    try:
        configuration.load_cert_chain(certificate, key)
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise _unusable(f"cannot use {certificate} with {key}: {error}") from error
    loaded: x509.Certificate = configuration.certificate
    return loaded


def check(settings: QuicSettings, now: datetime) -> datetime | None:
    """Find out before anything starts whether the configured files can be used.

    Returns:
        When the certificate ends, if that is soon.

    Raises:
        SetupError: They cannot, or not now.
    """
    path, key = settings.certificate_file, settings.key_file
    if not settings.enabled or path is None or key is None:
        return None
    # Its chain may hold more than a client needs: of that, what has expired does no harm.
    certificate = from_files(QuicConfiguration(is_client=False), path, key)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now < end:
        fix = "renew it" if now >= end else "wait, or set this machine's clock"
        valid = f"valid from {_shown(begin)} to {_shown(end)}"
        raise _unusable(f"{path} is {valid}, and it is {_shown(now)} now; {fix}")
    return end if ends_soon(certificate, now) else None


def ends_soon(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether a certificate ends within a week, or has ended."""
    return now >= certificate.not_valid_after_utc - _ENDS_SOON


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _unusable(why: str) -> SetupError:
    return SetupError(f"quic.certificate_file: {why}", param="quic.certificate_file")


def wall_clock() -> datetime:
    """Return the time now, for whoever renews certificates."""
    return datetime.now(UTC)


def is_wildcard(host: str) -> bool:
    """Whether a host to listen on stands for all addresses of this machine: no client's target."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return not host


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    addresses = {"127.0.0.1", "::1"}
    if is_wildcard(host):
        host = "localhost"
    try:
        addresses.add(str(ip_address(host)))
    except ValueError:
        if host != "localhost":
            names.append(x509.DNSName(host))
    return names + [x509.IPAddress(ip_address(address)) for address in sorted(addresses)]
