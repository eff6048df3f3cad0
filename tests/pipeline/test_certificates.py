"""The gateway's own certificate is one that browsers take, and is renewed in time."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

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


def test_a_certificate_can_come_from_files(tmp_path: Path) -> None:
    made = SelfSigned.make("localhost", NOW)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    found = endpoint(certificate, key)
    assert found._configuration.certificate == made.certificate

    certificate.write_bytes(b"nothing of the kind")
    with pytest.raises(SetupError, match=r"quic\.certificate_file"):
        endpoint(certificate, key)
    with pytest.raises(SetupError, match=r"quic\.certificate_file"):
        check(QuicSettings(certificate_file=certificate, key_file=key))
    check(QuicSettings(enabled=False, certificate_file=certificate, key_file=key))
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
        check(QuicSettings(certificate_file=made.cert_file, key_file=made.key_file))


def test_one_for_all_addresses_names_none_that_nobody_can_reach() -> None:
    for host in ("0.0.0.0", "::", ""):
        certificate = SelfSigned.make(host, NOW).certificate
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
        assert addresses == {"127.0.0.1", "::1"}
