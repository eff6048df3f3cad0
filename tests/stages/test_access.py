"""Keys: what is stored of them, how they are found, and what is derived from them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.access import Secrets, bearer, hash_of, position

keys = st.text(st.characters(), min_size=1)
ids = st.text(min_size=1, max_size=8)


def test_stored_hash_is_sha_256() -> None:
    assert hash_of("hs-abc") == "sha256:" + hashlib.sha256(b"hs-abc").hexdigest()


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER  abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
        (None, None),
    ],
)
def test_key_comes_as_a_bearer_token(header: str | None, key: str | None) -> None:
    assert bearer(header) == key


@given(st.lists(keys, unique=True, max_size=5), keys)
def test_key_is_found_where_it_is_and_nowhere_else(known: list[str], asked: str) -> None:
    found = position(asked, [hash_of(key) for key in known])

    assert found == (known.index(asked) if asked in known else None)


@given(ids, st.none() | st.text())
def test_salt_is_the_same_in_every_process(key_id: str, own: str | None) -> None:
    assert Secrets("one").cache_salt(key_id, own) == Secrets("one").cache_salt(key_id, own)


def test_salt_does_not_change_with_versions() -> None:
    """A changed salt would empty every prefix cache of a running cluster."""
    assert (
        Secrets("a-secret-for-tests-only").cache_salt("alice", "mine")
        == "0a42482fd99e8e973dfae1aa01accec13e731605fde61f8174e24edfcfa8f781"
    )


@given(st.lists(st.tuples(ids, ids, st.none() | ids), min_size=2, max_size=6, unique=True))
def test_no_two_keys_share_a_salt(parts: list[tuple[str, str, str | None]]) -> None:
    salts = [Secrets(secret).cache_salt(key_id, own) for secret, key_id, own in parts]

    assert len(set(salts)) == len(salts)


@given(ids, ids)
def test_tag_of_an_owner_is_no_salt(key_id: str, stream: str) -> None:
    secrets = Secrets("one")

    assert secrets.owner_tag(key_id, stream) not in secrets.cache_salt(key_id, stream)
    assert secrets.owner_tag(key_id, stream) != secrets.owner_tag(key_id + "x", stream)
    assert secrets.owner_tag(key_id, stream) != secrets.owner_tag(key_id, stream + "x")
