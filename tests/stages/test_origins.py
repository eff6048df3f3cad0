"""Which pages may ask, and by which names."""

import pytest

from headstart.stages.origins import is_own_name, may_open

CHAT = "https://chat.example.org"


@pytest.mark.parametrize(
    ("origin", "host", "is_http", "may"),
    [
        (None, "gate.example:8000", True, True),
        ("http://gate.example:8000", "gate.example:8000", True, True),
        ("http://gate.example:8000", "Gate.Example:8000", True, True),
        ("http://gate.example", "gate.example:8000", True, False),
        ("https://gate.example", "gate.example:8000", False, True),
        ("http://[::1]:8000", "[::1]:9000", False, True),
        ("http://[::1]", "[::2]", False, False),
        ("https://evil.example", "gate.example:8000", False, False),
        ("https://gate.example.evil.example", "gate.example", False, False),
        (CHAT, "gate.example:8000", True, True),
        (CHAT + ".evil.example", "gate.example:8000", True, False),
        ("null", "", False, False),
        ("null", "gate.example", False, False),
        ("", "", False, False),
        ("https://:8000", ":8000", False, False),
    ],
)
def test_a_gateways_own_pages_and_those_that_are_named_may(
    origin: str | None, host: str, is_http: bool, may: bool
) -> None:
    assert may_open(origin, host, (CHAT,), is_http=is_http) is may


def test_all_of_them_may_where_the_settings_say_so() -> None:
    assert may_open("https://evil.example", "gate.example", ("*",))
    assert may_open("null", "gate.example", ("*",), is_http=False)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("LocalHost:8000", True),
        ("localhost.:8000", True),
        ("chat.localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("127.9.9.9", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("", True),
        ("gate.example:8000", True),
        ("gate.example", True),
        ("evil.example:8000", False),
        ("gate.example.evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.7:8000", False),
        ("0.0.0.0:8000", False),
        ("[::2]:8000", False),
        ("é", False),
    ],
)
def test_names_of_a_server_that_only_its_machine_can_reach(host: str, is_own: bool) -> None:
    assert is_own_name(host, ("Gate.example",)) is is_own
