"""Where the daemon says that it can be asked."""

import pytest

from headstart.configs.settings import load
from headstart.pipeline.daemon import url_of


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("192.168.1.7", "http://192.168.1.7:8000"),
    ],
)
def test_url_is_one_that_answers(host: str, url: str) -> None:
    settings = load(None, ["models=[{name: tiny, source: builtin:tiny}]"], {})
    assert url_of(settings, host, 8000) == url
