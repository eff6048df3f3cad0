"""The gateway's certificate for QUIC: from files, or its own and renewed before it expires.

Browsers take a certificate that nobody vouches for where the page names its SHA-256, if it is an
ECDSA one and valid for two weeks at most (WebTransport's `serverCertificateHashes`).
"""

from collections import deque
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

__all__ = ["Certificates", "SelfSigned", "check", "from_files", "is_wildcard", "wall_clock"]

_VALID = timedelta(days=13)
"""Fourteen is the most that browsers take, clocks that differ included."""
_BACKDATED = timedelta(hours=1)
_RENEWED_BEFORE = timedelta(days=6)
"""Pages that were told of a certificate can open sessions for so long at least."""


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate of our own and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def sha256(self) -> bytes:
        """What a page names it by."""
        return self.certificate.fingerprint(hashes.SHA256())

    @classmethod
    def make(cls, host: str, now: datetime) -> "SelfSigned":
        """Make one for a host name or address, if it is one, and for this machine."""
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
        self._made: deque[SelfSigned] = deque(maxlen=2)
        self._renew(now)

    @property
    def hashes(self) -> list[bytes]:
        """SHA-256 of the certificates in use, the newest first."""
        return [made.sha256 for made in reversed(self._made)]

    def expire(self, now: datetime) -> bool:
        """Renew the certificate if it is time; return whether it was."""
        is_due = now >= self._made[-1].certificate.not_valid_after_utc - _RENEWED_BEFORE
        if is_due:
            self._renew(now)
        return is_due

    def _renew(self, now: datetime) -> None:
        made = SelfSigned.make(self._host, now)
        self._made.append(made)
        self._configuration.certificate = made.certificate
        self._configuration.private_key = made.key
        self._configuration.certificate_chain = []


def from_files(configuration: QuicConfiguration, certificate: Path, key: Path) -> None:
    """Take a certificate chain and its key from PEM files.

    Raises:
        SetupError: They cannot be read, or are not what they should be.
    """
    check_files(certificate, key, "quic.certificate_file", "quic.key_file")
    try:
        configuration.load_cert_chain(certificate, key)
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise SetupError(
            f"quic.certificate_file: cannot use {certificate} with {key}: {error}",
            param="quic.certificate_file",
        ) from error


def check(settings: QuicSettings) -> None:
    """Find out before anything starts whether the configured files can be used.

    Raises:
        SetupError: They cannot.
    """
    if settings.enabled and settings.certificate_file is not None and settings.key_file is not None:
        from_files(QuicConfiguration(is_client=False), settings.certificate_file, settings.key_file)


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
