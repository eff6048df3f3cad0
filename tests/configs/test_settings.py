"""Settings: three sources, one frozen value, secrets that neither leak nor get lost."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headstart.configs.settings import Settings, load

MODEL = "models=[{name: tiny, source: builtin:tiny}]"
SECRET = "correct-horse-battery"


def _load(*overrides: str, **environ: str) -> Settings:
    return load(None, [MODEL, *overrides], environ)


def test_models_alone_suffice() -> None:
    settings = _load()

    assert settings.models[0].replicas == 1
    assert settings.gateway.port == 8000
    assert settings.data_plane.secret is None


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(
        "models: [{name: tiny, source: here}]\n"
        "gateway: {port: 1, max_streams: 1, heartbeat_s: 1, host: localhost}\n"
    )
    environ = {"HEADSTART_GATEWAY__MAX_STREAMS": "2", "HEADSTART_GATEWAY__HEARTBEAT_S": "2"}

    gateway = load(config, ["gateway.heartbeat_s=3"], environ).gateway

    assert (gateway.port, gateway.max_streams, gateway.heartbeat_s) == (1, 2, 3)
    assert gateway.shutdown_grace_s == 10


def test_last_flag_wins() -> None:
    assert _load("gateway.port=1", "gateway.port=2").gateway.port == 2


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _load().cache_dir == tmp_path / "headstart"

    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _load().cache_dir == Path.home() / ".cache" / "headstart"


def test_folders_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    settings = _load("cache_dir=models", "bench.data_dir=~/data")

    assert settings.cache_dir == tmp_path / "models"
    assert settings.bench.data_dir == Path.home() / "data"


def test_block_size_follows_the_device() -> None:
    assert _load().models[0].block_size == 32
    assert _load("models.0.gpus_per_replica=1").models[0].block_size == 16


@pytest.mark.parametrize("engine", ["vllm", "fake"])
def test_blocks_of_16_are_small_on_cpu_alone(engine: str) -> None:
    (model,) = _load(f"models.0.engine={engine}", "models.0.block_size=16").models

    assert (model.block_size, model.has_small_blocks) == (16, True)
    assert not _load("models.0.gpus_per_replica=1").models[0].has_small_blocks
    assert not _load().models[0].has_small_blocks


def test_only_a_fake_engine_has_fake_speeds() -> None:
    assert _load().models[0].fake is None

    fake = _load("models.0.engine=fake", "models.0.fake.seed=7").models[0].fake

    assert fake is not None
    assert (fake.seed, fake.tokens_per_step) == (7, 1)


def test_settings_are_frozen() -> None:
    settings = _load()

    with pytest.raises(ValidationError, match="frozen"):
        settings.gateway.port = 1  # type: ignore[misc]  # what the test is about


def test_secret_is_masked_wherever_it_is_shown() -> None:
    settings = _load(HEADSTART_DATA_PLANE__SECRET=SECRET)

    shown = (repr(settings), str(settings.model_dump(mode="json")), settings.model_dump_json())

    assert not [text for text in shown if SECRET in text]


def test_masked_settings_are_not_taken_for_a_secret() -> None:
    masked = yaml.safe_dump(_load().with_secret(SECRET).model_dump(mode="json"))

    with pytest.raises(ValueError, match=r"data_plane\.secret"):
        load(
            None,
            [f"{key}={yaml.safe_dump(value)}" for key, value in yaml.safe_load(masked).items()],
            {},
        )


def test_effective_settings_can_be_read_back(tmp_path: Path) -> None:
    settings = _load("models.0.cores=['0-1']", "models.0.engine_args.enforce_eager=true")
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))

    assert load(config, [], {}) == settings


def test_child_gets_one_line_with_the_secret() -> None:
    settings = _load().with_secret(SECRET)

    line = settings.to_child()
    child = Settings.from_child(line)

    assert "\n" not in line
    assert child == settings
    assert child.data_plane.secret is not None
    assert child.data_plane.secret.get_secret_value() == SECRET


json_scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from(["vllm", "fake"]), st.integers(0, 65535))
def test_every_setting_survives_the_trip_to_the_child(
    argument: object, engine: str, port: int
) -> None:
    settings = _load(
        f"models.0.engine={engine}",
        f"models.0.engine_args.x={yaml.safe_dump(argument)}",
        "models.0.languages=[de, zh-Hans]",
        f"gateway={{port: {port}}}",
        "ray.metrics_export_port=0",
    )

    assert settings.models[0].engine_args["x"] == argument
    assert Settings.from_child(settings.to_child()) == settings
