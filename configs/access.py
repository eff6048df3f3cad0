"""Settings of who may use the gateway: API keys, their scope and their limits."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from headstart.configs import yaml_text
from headstart.configs.fields import File
from headstart.configs.section import Section, SettingsError, explain

__all__ = ["AccessSettings", "KeySettings", "read_keys"]

KeyId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._@-]{0,62})$")]
KeyHash = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class KeySettings(Section):
    """One API key. `headstart keys new` makes both the key and this entry."""

    id: KeyId = Field(description="Name of the key in logs; not a secret, at most 63 characters.")
    hash: KeyHash = Field(
        description="`sha256:` and the hex SHA-256 of the key, which itself is kept nowhere."
    )
    models: tuple[str, ...] = Field(
        default=(), description="Models that the key may use. Empty: all."
    )
    live: bool = Field(
        default=False,
        description="Whether the key may send prompts as they are typed (docs/live.md): then text "
        "that was never sent off leaves its user's machine.",
    )
    live_tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Most prompt tokens that the key's live prompts compute ahead, a minute. "
        "Unset: no limit but `live.tokens_per_minute`.",
    )
    thinking_tokens_per_minute: int | None = Field(
        default=None,
        ge=0,
        description="Most tokens that thoughts about the key's live prompts take, a minute; 0: the "
        "key may not ask for any. Unset: no limit but `live.thinking.tokens_per_minute`.",
    )
    max_concurrent: int | None = Field(
        default=None,
        ge=1,
        description="Most answers of the key in the making; further requests get 429. Unset: no "
        "limit but `gateway.max_streams`.",
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Requests a minute, of which a whole minute's worth may come at once. Each "
        "gateway counts for itself. Unset: no limit.",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Prompt and output tokens a minute. Charged when an answer ends: what it "
        "overdraws must refill before the next request. Unset: no limit.",
    )


class AccessSettings(Section):
    """Who may use the gateway. With no key, whoever reaches it, and only from this machine."""

    keys: tuple[KeySettings, ...] = Field(
        default=(), description="API keys, sent as `Authorization: Bearer`."
    )
    keys_file: File | None = Field(
        default=None,
        description="YAML file with a list of further keys, read at start: what `headstart keys "
        "new` prints. The settings in effect show them in `access.keys`.",
    )
    metrics_need_key: bool = Field(
        default=False,
        description="Whether `/metrics` asks for a key as the API does. It names models and load, "
        "never keys or prompts. `/healthz` and `/readyz` are always open.",
    )


class _KeysFile(Section):
    keys: tuple[KeySettings, ...] = Field(min_length=1)


def read_keys(path: Path) -> list[object]:
    """Return the entries of a file of keys, each of them checked.

    Raises:
        SettingsError: It cannot be read or used; the message names the file and each fault.
    """

    def fault(why: str) -> SettingsError:
        return SettingsError([("access.keys_file", f"{path}: {why}")])

    try:
        entries = yaml_text.parse(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise fault(f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml_text.YamlFault):
        raise fault("is not YAML") from None  # the parser's words would quote it
    try:
        found = _KeysFile.model_validate_json(
            json.dumps({"keys": entries}, default=str), strict=True
        )
    except ValidationError as error:
        problems = explain(error, _KeysFile).problems
    else:
        return [key.model_dump(mode="json") for key in found.keys]
    raise SettingsError(("access.keys_file", f"{path}: {key}: {why}") for key, why in problems)
