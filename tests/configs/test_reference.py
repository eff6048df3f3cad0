"""The committed descriptions of the settings are those that the model gives."""

import json
from pathlib import Path

from headstart.configs.reference import schema, table
from headstart.configs.settings import Settings

TESTS = Path(__file__).parents[1]


def test_settings_table_is_not_stale() -> None:
    """Made again by `headstart config --table > docs/settings.md`."""
    assert (TESTS.parent / "docs/settings.md").read_text(encoding="utf-8") == table()


def test_schema_is_the_agreed_one() -> None:
    """Changed by `headstart config --schema > tests/golden/settings_schema.json`."""
    golden = (TESTS / "golden/settings_schema.json").read_text(encoding="utf-8")

    assert json.loads(golden) == schema()


def test_every_setting_is_described() -> None:
    root = Settings.model_json_schema()
    definitions = {"Settings": root, **root["$defs"]}

    silent = [
        f"{section}.{name}"
        for section, definition in definitions.items()
        for name, spec in definition.get("properties", {}).items()
        if "$ref" not in spec and not spec.get("description")
    ]

    assert not silent
