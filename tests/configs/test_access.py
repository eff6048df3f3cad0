"""API keys in the settings: inline, from a file, and what they allow the gateway to do."""

from pathlib import Path

import pytest
import yaml

from headstart.configs.settings import Settings, SettingsError, load

MODEL = "models=[{name: tiny, source: builtin:tiny}]"


def _hash(digit: str) -> str:
    return f"sha256:{digit * 64}"


def _load(*overrides: str) -> Settings:
    return load(None, [MODEL, *overrides], {})


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump([{"id": "filed", "hash": _hash("1"), "models": ["tiny"]}]))
    return path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example.org"])
def test_with_a_key_any_address_will_do(host: str) -> None:
    settings = _load(f"gateway.host='{host}'", f"access.keys=[{{id: a, hash: '{_hash('a')}'}}]")

    assert settings.gateway.host == host
    assert not settings.gateway.is_loopback


def test_keys_of_a_file_join_the_others(keys_file: Path) -> None:
    settings = _load(
        f"access={{keys: [{{id: a, hash: '{_hash('a')}'}}], keys_file: {keys_file}}}",
        "gateway.host=0.0.0.0",
    )

    assert [key.id for key in settings.access.keys] == ["a", "filed"]
    assert settings.access.keys[1].models == ("tiny",)


def test_settings_with_keys_of_a_file_can_be_read_back(keys_file: Path, tmp_path: Path) -> None:
    settings = _load(f"access.keys_file={keys_file}")
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))

    assert load(config, [], {}) == settings
    assert Settings.from_child(settings.to_child()) == settings


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "keys: must be a list"),
        ("[]", "keys: must have at least 1 item"),
        ("keys: []", "keys: must be a list"),
        ("- id: a\n", "keys.0.hash: is required"),
        ("- {id: a, hash: hs-clear-key}\n", "keys.0.hash: must match pattern"),
        ("- {id: a, hash: b, max_concurrent: '4'}\n", "keys.0.max_concurrent: must be a valid int"),
        ("- [hs-clear-key", "is not YAML"),
    ],
)
def test_unusable_file_of_keys_is_named_and_not_quoted(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)

    with pytest.raises(SettingsError) as caught:
        _load(f"access.keys_file={path}")

    assert {key for key, _ in caught.value.problems} == {"access.keys_file"}
    assert f"{path}: {why}" in str(caught.value)
    assert "hs-clear-key" not in str(caught.value)


def test_key_is_there_once_wherever_it_was_written(keys_file: Path) -> None:
    with pytest.raises(SettingsError, match=r"access\.keys\.1\.id: 'filed' is there twice"):
        _load(f"access={{keys: [{{id: filed, hash: '{_hash('a')}'}}], keys_file: {keys_file}}}")
