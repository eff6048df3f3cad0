"""TLS from files: it carries everything, and files that cannot do so are named at start."""

import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from headstart.configs.serving import GatewaySettings
from headstart.pipeline.tls import check_certificate
from headstart.stages.errors import SetupError
from tests.support.certificates import Certificate, make_certificate
from tests.support.events import text
from tests.support.gateway import CHAT, saying, serving
from tests.support.raw_http import connected
from tests.support.waiting import soon


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


def settings(certificate: Certificate) -> GatewaySettings:
    return GatewaySettings(
        tls_cert_file=certificate.cert_file,
        tls_key_file=certificate.key_file,
        shutdown_grace_s=0,
    )


@pytest.mark.anyio
async def test_client_that_trusts_the_certificate_is_answered(certificate: Certificate) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate.cert_file))
    async with (
        serving(settings=settings(certificate)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, verify=trusting, trust_env=False) as client,
    ):
        assert gateway.url.startswith("https://")
        answer = await soon(client.post(CHAT, json=saying(stream=True)))
        assert text(answer.content)

        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as other:
                await soon(other.get("/healthz"))


@pytest.mark.anyio
async def test_plain_http_is_not_answered_where_there_is_a_certificate(
    certificate: Certificate,
) -> None:
    async with (
        serving(settings=settings(certificate)) as gateway,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        host, port = gateway.address
        with pytest.raises(httpx.TransportError):
            await soon(client.get(f"http://{host}:{port}/healthz"))


@pytest.mark.anyio
async def test_clients_that_begin_no_handshake_are_not_waited_for(
    certificate: Certificate,
) -> None:
    impatient = settings(certificate).model_copy(
        update={"max_connections": 2, "header_timeout_s": 0.3}
    )
    async with serving(settings=impatient) as gateway, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connected(gateway.address)) for _ in range(20)]

        for connection in silent:
            assert await soon(connection.rest(), within_s=10) == b""
        assert (await soon(gateway.client.get("/healthz"))).is_success


def test_good_files_and_no_files_pass(certificate: Certificate) -> None:
    check_certificate(settings(certificate))
    check_certificate(GatewaySettings())


@pytest.mark.parametrize("key", ["tls_cert_file", "tls_key_file"])
@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("Hello!", "PEM form")])
def test_bad_file_is_named(
    certificate: Certificate, tmp_path: Path, key: str, content: str | None, why: str
) -> None:
    path = tmp_path / "bad.pem"
    if content is not None:
        path.write_text(content)
    bad = settings(certificate).model_copy(update={key: path})

    with pytest.raises(SetupError) as caught:
        check_certificate(bad)

    assert caught.value.param == f"gateway.{key}"
    assert str(caught.value).startswith(f"gateway.{key}: ")
    assert str(path) in str(caught.value)
    assert why in str(caught.value)


def test_key_of_another_certificate_is_refused(certificate: Certificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other")
    mixed = Certificate(certificate.cert_file, other.key_file)

    with pytest.raises(SetupError, match=r"gateway\.tls_key_file: .*other\.key is not the key of"):
        check_certificate(settings(mixed))


def test_key_with_a_passphrase_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    locked = make_certificate(tmp_path, "locked", passphrase="sesame")

    with pytest.raises(SetupError, match="without a passphrase"):
        check_certificate(settings(locked))
