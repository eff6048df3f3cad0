"""What PyYAML would take, and settings do not."""

from pathlib import Path

import pytest

from headstart.configs.layers import read_file
from headstart.configs.section import SettingsError
from headstart.configs.yaml_text import YamlFault, parse

BOMB = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + one] * 9)}]\n"
    for one, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gateway:\n  port: 1\n  host: h\n  port: 2", "4: the key 'port' is there twice"),
        ("models: [{name: a, name: b}]", "1: the key 'name' is there twice"),
        (BOMB, "2: the alias *a: write the value out"),
        ("a: &a {b: *a}", "1: the alias *a: write the value out"),
        ("a: " + "[" * 100_000, "it is nested too deep"),
        ("a: b: c", "1: mapping values are not allowed here"),
        (
            "\na: [1",
            "2: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        ),
        ("? [a]: b", "1: while constructing a mapping, found unhashable key"),
        (
            "\x01",
            (
                "unacceptable character #x0001: special characters are not allowed in "
                '"<unicode string>", position 0'
            ),
        ),
    ],
)
def test_refused_in_one_line(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    line, _, reason = why.partition(": ") if why[0].isdigit() else ("", "", why)

    with pytest.raises(YamlFault) as parsed:
        parse(text)
    with pytest.raises(SettingsError) as read:
        read_file(path)
    assert parsed.value.why == reason
    assert str(read.value) == f"{path}{line and ':'}{line} is not YAML: {reason}"


def test_same_key_in_two_places_is_fine() -> None:
    assert parse("a: {c: 1}\nb: {c: 2}") == {"a": {"c": 1}, "b": {"c": 2}}
