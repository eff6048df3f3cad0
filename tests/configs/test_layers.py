"""Assignments from the environment and from flags, and how they land in the tree."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headstart.configs.layers import assign, from_environment, from_flags
from headstart.configs.model_settings import core_list, parse_cores
from headstart.configs.section import SettingsError

words = st.from_regex(r"[a-z][a-z0-9]{0,8}(_[a-z0-9]{1,8})?", fullmatch=True)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def _put(tree: object, override: str) -> object:
    (assignment,) = from_flags([override])
    return assign(tree, assignment)


@given(st.lists(words, min_size=2, max_size=4), values)
def test_any_value_comes_back_from_a_flag_and_from_the_environment(
    keys: list[str], value: object
) -> None:
    text = yaml.safe_dump(value)

    (flag,) = from_flags([f"{'.'.join(keys)}={text}"])
    (variable,) = from_environment((), {f"HEADSTART_{'__'.join(keys).upper()}": text})

    assert (flag.keys, flag.value) == (tuple(keys), value)
    assert (variable.keys, variable.value) == (flag.keys, flag.value)


@given(st.lists(words, min_size=1, max_size=4), values)
def test_assignment_sets_one_key_and_leaves_the_rest(keys: list[str], value: object) -> None:
    tree = {"0kept": [1], keys[0]: {"0kept": 2}}

    node = _put(tree, f"{'.'.join(keys)}={yaml.safe_dump(value)}")

    assert isinstance(node, dict)
    assert node["0kept"] == [1]
    for key in keys:
        assert isinstance(node, dict)
        node = node[key]
    assert node == value
    assert tree == {"0kept": [1], keys[0]: {"0kept": 2}}


def test_variables_of_other_programs_are_ignored() -> None:
    environ = {"PATH": "/bin", "HEADSTART_PORT": "tcp://10.0.0.1:80", "HEADSTART_SERVICE_HOST": "h"}

    assert from_environment({"cache_dir"}, environ) == []


def test_top_level_key_needs_no_double_underscore() -> None:
    (assignment,) = from_environment({"cache_dir"}, {"HEADSTART_CACHE_DIR": "/var/cache"})

    assert (assignment.keys, assignment.value) == (("cache_dir",), "/var/cache")


def test_outer_variables_are_applied_before_inner_ones() -> None:
    environ = {"HEADSTART_RAY__NUM_CPUS": "2", "HEADSTART_RAY": "{num_cpus: 1, address: auto}"}

    tree: object = {}
    for assignment in from_environment({"ray"}, environ):
        tree = assign(tree, assignment)

    assert tree == {"ray": {"num_cpus": 2, "address": "auto"}}


@pytest.mark.parametrize("path", ["models.1.replicas", "models.qwen2.5.replicas"])
def test_list_item_is_named_by_index_or_name(path: str) -> None:
    tree = {"models": [{"name": "a"}, {"name": "qwen2.5"}]}

    assert _put(tree, f"{path}=2") == {
        "models": [{"name": "a"}, {"name": "qwen2.5", "replicas": 2}]
    }


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("models.2.replicas=1", r"models\.2\.replicas: no item '2'; there are: 0 \(a\), 1$"),
        ("models.b=1", r"models\.b: no item 'b'"),
        ("port.x=1", r"port\.x: port is a plain value"),
        ("gateway.port", r"gateway\.port: --set takes key=value"),
        ("gateway..port=1", r"gateway\.\.port: .* empty part"),
        ("port={", r"port: the value of --set port is not YAML"),
    ],
)
def test_path_that_leads_nowhere_is_named(override: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        _put({"models": [{"name": "a"}, "odd"], "port": 1}, override)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_core_list_comes_back_however_it_is_written(cores: set[int]) -> None:
    spans = [f"{core}" if core % 2 else f"{core}-{core}" for core in cores]

    assert parse_cores(",".join(spans)) == cores
    assert parse_cores("|".join(spans)) == cores
    assert parse_cores(core_list(frozenset(cores))) == cores
