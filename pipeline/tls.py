"""The certificate, checked before anything is started."""

import ssl
from pathlib import Path

from headstart.configs.serving import GatewaySettings
from headstart.stages.errors import SetupError

__all__ = ["check_certificate", "check_files"]


def check_certificate(settings: GatewaySettings) -> None:
    """Make sure that the gateway will be able to use its certificate, if it has one.

    Raises:
        SetupError: A file is missing or wrong; the message names its setting.
    """
    cert, key = settings.tls_cert_file, settings.tls_key_file
    if cert is not None and key is not None:
        check_files(cert, key, "gateway.tls_cert_file", "gateway.tls_key_file")


def check_files(cert: Path, key: Path, cert_setting: str, key_setting: str) -> None:
    """Make sure that two files are a certificate and its key.

    Raises:
        SetupError: One is missing or wrong; the message names its setting.
    """
    for name, path in ((cert_setting, cert), (key_setting, key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise _fault(name, f"cannot read {path}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cert)
    except ssl.SSLError as error:
        raise _fault(cert_setting, f"{cert} holds no certificate in PEM form") from error
    try:
        # With no passphrase to give, OpenSSL would ask the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        why = f"{key} is not the key of {cert} in PEM form, without a passphrase"
        raise _fault(key_setting, why) from error


def _fault(name: str, why: str) -> SetupError:
    return SetupError(f"{name}: {why}", param=name)
