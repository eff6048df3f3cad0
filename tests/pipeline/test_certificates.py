"""The gateway's own certificate is one that browsers take, and is renewed in time."""

import asyncio
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from structlog.testing import capture_logs

from headstart.configs.serving import QuicSettings
from headstart.configs.settings import GatewaySettings
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.certificates import Certificates, SelfSigned, check
from headstart.pipeline.quic_endpoint import QuicEndpoint
from headstart.pipeline.quic_listener import configuration_for
from headstart.pipeline.tls import check_files
from headstart.stages.errors import SetupError
from tests.support.certificates import make_certificate

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_it_is_short_lived_and_of_the_right_kind() -> None:
    made = SelfSigned.make("192.0.2.7", NOW)
    certificate = made.certificate

    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime <= timedelta(days=14)
    assert certificate.not_valid_before_utc <= NOW < certificate.not_valid_after_utc
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ip_address("192.0.2.7") in names.get_values_for_type(x509.IPAddress)
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_it_is_renewed_before_it_expires_and_its_successor_is_announced_before() -> None:
    configuration = configuration_for(QuicSettings())
    certificates = Certificates(configuration, "localhost", NOW)
    first, following = certificates.hashes
    assert configuration.certificate.fingerprint(SHA256()) == first != following
    for days in range(6):
        assert not certificates.expire(NOW + timedelta(days=days))
    assert certificates.expire(NOW + timedelta(days=7))

    assert certificates.hashes[0] == following
    assert configuration.certificate.fingerprint(SHA256()) == following
    num_renewed = 0
    for days in range(8, 40):
        now, announced = NOW + timedelta(days=days), certificates.hashes
        num_renewed += certificates.expire(now)
        serving = configuration.certificate
        assert serving.fingerprint(SHA256()) in announced
        assert serving.fingerprint(SHA256()) == certificates.hashes[0]
        assert serving.public_key() == configuration.private_key.public_key()
        assert serving.not_valid_before_utc <= now
        assert serving.not_valid_after_utc > now + timedelta(days=5)
    assert num_renewed == 4


def test_who_has_slept_for_long_serves_one_that_is_good() -> None:
    configuration = configuration_for(QuicSettings())
    certificates = Certificates(configuration, "localhost", NOW)

    now = NOW + timedelta(days=100)
    assert certificates.expire(now)
    assert configuration.certificate.not_valid_before_utc <= now
    assert configuration.certificate.not_valid_after_utc > now + timedelta(days=12)


def endpoint(certificate: Path, key: Path) -> QuicEndpoint:
    settings = QuicSettings(certificate_file=certificate, key_file=key)
    return QuicEndpoint(settings, GatewaySettings(), Metrics(["fake"], "0").transport, lambda: NOW)


def written(made: SelfSigned, folder: Path) -> tuple[Path, Path]:
    """The files of a certificate and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


def test_a_certificate_can_come_from_files(tmp_path: Path) -> None:
    made = SelfSigned.make("localhost", NOW)
    certificate, key = written(made, tmp_path)
    found = endpoint(certificate, key)
    assert found._configuration.certificate == made.certificate

    certificate.write_bytes(b"nothing of the kind")
    with pytest.raises(SetupError, match=r"quic\.certificate_file"):
        endpoint(certificate, key)
    with pytest.raises(SetupError, match=r"quic\.certificate_file"):
        check(QuicSettings(certificate_file=certificate, key_file=key), NOW)
    check(QuicSettings(enabled=False, certificate_file=certificate, key_file=key), NOW)
    with pytest.raises(SetupError, match=r"quic\.certificate_file"):
        endpoint(tmp_path / "missing.pem", key)


def test_a_key_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    made, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    locked = make_certificate(tmp_path, "locked", passphrase="sesame")

    endpoint(made.cert_file, made.key_file)
    for certificate, key in ((made, other), (locked, locked)):
        with pytest.raises(SetupError, match=r"quic\.key_file: .* is not the key of") as caught:
            endpoint(certificate.cert_file, key.key_file)
        assert caught.value.param == "quic.key_file"


def test_what_openssl_takes_and_quic_cannot_use_is_refused_before_the_start(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    chain = made.cert_file.read_bytes()
    made.cert_file.write_bytes(chain.replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE"))
    check_files(made.cert_file, made.key_file, "certificate", "key")

    with pytest.raises(SetupError, match=r"quic\.certificate_file: cannot use"):
        check(QuicSettings(certificate_file=made.cert_file, key_file=made.key_file), NOW)


@pytest.mark.parametrize(
    ("days", "fix"), [(-1.0, "set this machine's clock"), (12.97, "renew it"), (100.0, "renew it")]
)
def test_files_whose_time_has_not_come_or_is_over_are_refused(
    tmp_path: Path, days: float, fix: str
) -> None:
    certificate, key = written(SelfSigned.make("localhost", NOW), tmp_path)
    settings = QuicSettings(certificate_file=certificate, key_file=key)
    now = NOW + timedelta(days=days)

    with pytest.raises(SetupError, match=r"^quic\.certificate_file: ") as caught:
        check(settings, now)

    assert "from 2026-11-22 11:00 UTC to 2026-12-05 11:00 UTC" in caught.value.message
    assert f"{now:%Y-%m-%d %H:%M} UTC now; " in caught.value.message
    assert fix in caught.value.message
    check(settings.model_copy(update={"enabled": False}), now)


def test_a_certificate_from_files_that_ends_within_a_week_is_told_of_once(tmp_path: Path) -> None:
    made = SelfSigned.make("localhost", NOW)
    certificate, key = written(made, tmp_path)
    settings = QuicSettings(certificate_file=certificate, key_file=key)
    assert check(settings, NOW + timedelta(days=5)) is None
    assert check(settings, NOW + timedelta(days=6)) == made.certificate.not_valid_after_utc

    async def log_of(days: Sequence[float]) -> list[MutableMapping[str, Any]]:
        moments = iter([NOW + timedelta(days=day) for day in days])
        meter = Metrics(["fake"], "0").transport
        told = QuicEndpoint(settings, GatewaySettings(), meter, lambda: next(moments))
        with capture_logs() as logs:
            for _ in days:
                told.tick()
        return logs

    assert asyncio.run(log_of([1, 5])) == []
    (warning,) = asyncio.run(log_of([5, 6, 7]))
    assert warning["log_level"] == "warning"
    assert warning["at"] == "2026-12-05T11:00:00+00:00"


def test_one_for_all_addresses_names_none_that_nobody_can_reach() -> None:
    for host in ("0.0.0.0", "::", ""):
        certificate = SelfSigned.make(host, NOW).certificate
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
        assert addresses == {"127.0.0.1", "::1"}
