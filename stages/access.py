"""Who may ask: keys compared with their hashes, and what is derived from a key.

A key is known by its SHA-256. A slow, salted hash would be wrong here: those make guessing a
*password* dear, while these keys are 256 random bits that nobody guesses, and every request would
pay. Hashing also gives every comparison the same length.
"""

import hashlib
import hmac
from collections.abc import Sequence

__all__ = ["Secrets", "bearer", "hash_of", "position"]

_SCHEME = "sha256:"


def hash_of(key: str) -> str:
    """Return what is stored of a key: `sha256:` and 64 hex digits."""
    return _SCHEME + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def bearer(header: str | None) -> str | None:
    """Return the key in an `Authorization` header; None where there is none."""
    scheme, _, key = (header or "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def position(key: str, hashes: Sequence[str]) -> int | None:
    """Return where the hash of `key` is among `hashes`, or None.

    Compares with every one, each in constant time: how long it takes tells nothing of the match.
    """
    asked = hash_of(key)
    found = None
    for index, known in enumerate(hashes):
        if hmac.compare_digest(asked, known):
            found = index
    return found


class Secrets:
    """What only holders of one secret can derive, the same in each process and after a restart.

    Args:
        secret: The cluster's.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def cache_salt(self, key_id: str, own: str | None) -> str:
        """Return the salt of the prefix-cache blocks of a key.

        Two keys never share a block: else the time to a first token would tell one what the
        other has asked. `own` is what the client set; it divides a key's cache further.
        """
        return self._derive("cache salt", key_id, own)

    def owner_tag(self, key_id: str, stream: str) -> str:
        """Return what a stream's id ends with to say whose it is, unreadable and not to be forged.

        It needs no table, so it holds wherever and however late the stream is asked for.
        """
        return self._derive("owner", key_id, stream)[:32]

    def _derive(self, purpose: str, *parts: str | None) -> str:
        # Each part with its length: no two lists of parts make the same message.
        message = b"".join(
            b"-" if part is None else b"%d:%b" % (len(data), data)
            for part in (purpose, *parts)
            for data in [(part or "").encode("utf-8", "surrogatepass")]
        )
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
