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

__all__ = ["Certificates", "SelfSigned", "check", "from_files", "is_wildcard", "wall_clock"]

_VALID = timedelta(days=13)
"""Fourteen is the most that browsers take, clocks that differ included."""
_BACKDATED = timedelta(hours=1)
_RENEWED_BEFORE = timedelta(days=6)
"""Clocks may differ by so much; a page is told of a certificate a week before it is used."""


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
