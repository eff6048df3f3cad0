"""What PyYAML would take, and settings do not."""

from pathlib import Path

import pytest
import yaml

from headstart.configs.layers import read_file
from headstart.configs.section import SettingsError
from headstart.configs.yaml_text import parse

BOMB = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + one] * 9)}]\n"
    for one, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gateway:\n  port: 1\n  host: h\n  port: 2", "line 4: the key 'port' is there twice"),
        ("models: [{name: a, name: b}]", "line 1: the key 'name' is there twice"),
        (BOMB, r"line 2: the alias \*a: write the value out"),
        ("a: &a {b: *a}", r"the alias \*a"),
        ("a: " + "[" * 100_000, "nested too deep"),
    ],
    ids=["twice", "twice in a list", "bomb", "itself", "deep"],
)
def test_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)

    with pytest.raises(yaml.YAMLError, match=why):
        parse(text)
    with pytest.raises(SettingsError, match=why):
        read_file(path)


def test_same_key_in_two_places_is_fine() -> None:
    assert parse("a: {c: 1}\nb: {c: 2}") == {"a": {"c": 1}, "b": {"c": 2}}
