"""Whether a Ray cluster's address can be connected to, and what is said where it cannot."""

import socket

import pytest

from headstart.cluster.ray_adapter import connection_error
from headstart.pipeline import machine


@pytest.mark.parametrize(
    ("family", "host", "written"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "[::1]"),
        (socket.AF_INET6, "::1", "::1"),
    ],
)
def test_one_that_listens(family: socket.AddressFamily, host: str, written: str) -> None:
    if family is socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server((host, 0), family=family) as listener:
        address = f"{written}:{listener.getsockname()[1]}"

        assert connection_error(address) is None
        assert machine._cluster_fault(address) == ""


def test_one_that_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

    assert isinstance(connection_error(address), ConnectionRefusedError)
    assert machine._cluster_fault(address).startswith(f"nothing answers at {address}: ")


@pytest.mark.parametrize("address", [None, "auto"])
def test_none_that_is_given(address: str | None) -> None:
    assert machine._cluster_fault(address) == ""
