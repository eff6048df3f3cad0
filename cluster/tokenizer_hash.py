"""Which tokenizer a model has: what token ids that are kept elsewhere were made with."""

import hashlib
import json
from pathlib import Path
from typing import Any

from headstart.stages.errors import SetupError

__all__ = ["has_tokenizer", "tokenizer_hash"]

_OTHERS = ("tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def tokenizer_hash(folder: Path) -> str:
    """Return a hash of what each id of a model's tokenizer stands for.

    Tuned weights keep it, though the file may be written anew: of `tokenizer.json` only the ids
    count. Tokenizers of other forms are taken as they are.

    Raises:
        SetupError: The folder holds no tokenizer, or one that cannot be read.
    """
    main = folder / "tokenizer.json"
    try:
        if main.exists():
            return _digest(json.dumps(_ids(json.loads(main.read_bytes()))).encode())
        found = [path.read_bytes() for path in _others(folder)]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise SetupError(f"the tokenizer in {folder} cannot be read: {error!r}") from error
    if not found:
        raise SetupError(f"{folder} holds no tokenizer (tokenizer.json): copy it there too")
    return _digest(b"".join(found))


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer in one of the forms that are known here."""
    return (folder / "tokenizer.json").exists() or bool(_others(folder))


def _others(folder: Path) -> list[Path]:
    named = [folder / name for name in _OTHERS if (folder / name).exists()]
    return named + sorted(folder.glob("*.tiktoken"))


def _ids(tokenizer: dict[str, Any]) -> list[tuple[int, str]]:
    known = tokenizer["model"]["vocab"]
    if isinstance(known, dict):
        ids = {number: token for token, number in known.items()}
    else:  # of unigram models: tokens and their chances, in order
        ids = {number: token for number, (token, _) in enumerate(known)}
    ids |= {each["id"]: each["content"] for each in tokenizer.get("added_tokens", ())}
    return sorted(ids.items())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
