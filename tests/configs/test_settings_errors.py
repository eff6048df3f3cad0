"""Each fault in the settings is refused with its key and what is allowed, and nothing secret."""

import traceback
from pathlib import Path

import pytest

from headstart.configs.settings import SettingsError, load

MODEL = "models=[{name: tiny, source: builtin:tiny}]"
DRAFTED = "speculation: {drafters: {de: {source: c}}}"
SECRET = "0123456789abcdef"
HASH = f"'sha256:{'0' * 64}'"


def _fault(*overrides: str, **environ: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(None, [MODEL, *overrides], environ)
    return caught.value


@pytest.mark.parametrize(
    ("override", "key", "why"),
    [
        ("nope=1", "nope", "unknown key; allowed here: cache_dir, models, gateway"),
        ("nope.deep=1", "nope", "unknown key"),
        ("gateway.prot=1", "gateway.prot", "unknown key; allowed here: host, port"),
        ("models.0.fake.sped=1", "models.0.fake.sped", "unknown key; allowed here: time_to"),
        ("gateway.port=x", "gateway.port", "must be a valid integer"),
        ("gateway.port=true", "gateway.port", "must be a valid integer"),
        ("gateway.port='8000'", "gateway.port", "must be a valid integer"),
        ("gateway.port=65536", "gateway.port", "less than or equal to 65535"),
        ("gateway.port=-1", "gateway.port", "greater than or equal to 0"),
        ("gateway.port=8090", "gateway.port", "must differ from ray.metrics_export_port"),
        ("gateway.host=0.0.0.0", "gateway.host", "must be a loopback address"),
        ("gateway.host=example.org", "gateway.host", "must be a loopback address"),
        ("gateway.host=''", "gateway.host", "must be a loopback address"),
        ("gateway.tls_cert_file=x", "gateway.tls_key_file", "set both or neither"),
        ("gateway.tls_key_file=x", "gateway.tls_cert_file", "set both or neither"),
        ("gateway.cors_origins=[example.org]", "gateway.cors_origins.0", "must match pattern"),
        ("gateway.max_header_bytes=1", "gateway.max_header_bytes", "equal to 1024"),
        ("access.keys=[{id: a}]", "access.keys.0.hash", "is required"),
        ("access.keys=[{id: a, hash: hs-clear}]", "access.keys.0.hash", "must match pattern"),
        (f"access.keys=[{{id: 'a b', hash: {HASH}}}]", "access.keys.0.id", "must match pattern"),
        (
            f"access.keys=[{{id: a, hash: {HASH}, models: [big]}}]",
            "access.keys.0.models.0",
            "'big' is not served; there are: tiny",
        ),
        (
            f"access.keys=[{{id: a, hash: {HASH}}}, {{id: b, hash: {HASH}}}]",
            "access.keys.1.hash",
            "is there twice",
        ),
        ("access.keys_file=/nowhere/keys.yaml", "access.keys_file", "No such file"),
        ("gateway=8000", "gateway", "must be a mapping"),
        ("gateway.heartbeat_s=.nan", "gateway.heartbeat_s", "must be a finite number"),
        ("models=3", "models", "must be a list"),
        ("models=[]", "models", "at least 1 item"),
        ("models=[{source: x}]", "models.0.name", "is required"),
        ("models=[{name: x}]", "models.0.source", "is required with `engine: vllm`"),
        ("models.0.name=Two Words", "models.0.name", "must match pattern"),
        ("models.0.engine=trt", "models.0.engine", "must be 'vllm' or 'fake'"),
        ("models.0.replicas=0", "models.0.replicas", "greater than or equal to 1"),
        ("models.0.replicas=65", "models.0.replicas", "less than or equal to 64"),
        ("models.0.languages=[no]", "models.0.languages.0", "put quotes around"),
        ("models.0.cores=['x']", "models.0.cores", "is not a core list"),
        ("models.0.cores=['3-1']", "models.0.cores", "empty"),
        ("models.0.cores=['0-99999999']", "models.0.cores", "endless"),
        ("models.0.cores=['1,0-1']", "models.0.cores", "names a core twice"),
        ("models.0.cores=['0', '1']", "models.0.cores", "one core list per replica: 1, not 2"),
        ("models.0.gpus_per_replica=1.5", "models.0.gpus_per_replica", "only whole GPUs"),
        ("models.0.block_size=48", "models.0.block_size", "16 or a multiple of 32 on CPU"),
        (
            "models=[{name: x, source: a, block_size: 16, engine_args: {worker_cls: y}}]",
            "models.0.engine_args.worker_cls",
            "cannot be set along with `block_size: 16` on CPU",
        ),
        ("models.0.fake={}", "models.0.fake", "goes with `engine: fake`"),
        ("models.0.engine_args.dtype=auto", "models.0.engine_args.dtype", "set `dtype`"),
        (
            "models.0.engine_args.enable_log_requests=true",
            "models.0.engine_args.enable_log_requests",
            "logs",
        ),
        (
            "models.0.engine_args.tensor_parallel_size=0",
            "models.0.engine_args.tensor_parallel_size",
            "positive",
        ),
        (
            "models.0.engine_args.tensor_parallel_size=two",
            "models.0.engine_args.tensor_parallel_size",
            "whole",
        ),
        ("models.0.gpus_per_replica=2", "models.0.gpus_per_replica", "number of ranks, 1 "),
        (
            "models.0.cores=['0|1']",
            "models.0.cores.0",
            "one core list per rank, joined by `|`: 1, not 2",
        ),
        ("models.0.engine_args.lora_modules=a", "models.0.engine_args.lora_modules", "`adapters`"),
        ("models.0.adapters={tiny: a}", "models.0.name", "'tiny' is there twice"),
        ("models.0.adapters={A B: a}", "models.0.adapters.A B.[key]", "must match pattern"),
        ("models=[{name: x, engine: fake, adapters: {a: b}}]", "models.0.adapters", "engine: vllm"),
        (
            "models.0.speculation.drafters={de: {source: a, cores: ['1', '2']}}",
            "models.0.speculation.drafters.de.cores",
            "one core list per replica: 1, not 2",
        ),
        (
            "models.0.speculation.drafters={de: {source: a, cores: ['x']}}",
            "models.0.speculation.drafters.de.cores",
            "is not a core list",
        ),
        (
            f"models=[{{name: x, source: a, adapters: {{y: b}}, {DRAFTED}}}]",
            "models.0.adapters",
            "cannot be served along with",
        ),
        (
            "models=[{name: x, source: a, speculation: {}, engine_args: {data_parallel_size: 2}}]",
            "models.0.engine_args.data_parallel_size",
            "cannot be set along with `speculation`: have more `replicas`",
        ),
        ("models.0.pool=de", "models.0.pool", "a language of `speculation.drafters`"),
        (
            "gateway.max_bodies_bytes=8388608",
            "gateway.max_bodies_bytes",
            "at least twice max_body_bytes, 16777216",
        ),
        ("streams.finished_ttl_s=-1", "streams.finished_ttl_s", "greater than or equal to 0"),
        ("streams.max_total_bytes=2097152", "streams.max_stream_bytes", "at most max_total_bytes"),
        (
            "streams.max_stream_bytes=67108864",
            "streams.max_stream_bytes",
            "at most 61865984: with data_plane.window_bytes, 4194304, it has to fit a message",
        ),
        ("data_plane.window_bytes=67108864", "data_plane.window_bytes", "equal to 33554432"),
        ("data_plane.window_bytes=100", "data_plane.window_bytes", "equal to 65536"),
        ("data_plane.bind_host=here", "data_plane.bind_host", "IPv4 or IPv6"),
        ("data_plane.secret=short", "data_plane.secret", "at least 16 letters"),
        ("ray.address=auto", "data_plane.secret", "is required with ray.address"),
        ("ray.address=head:65536", "ray.address", "a port of at most 65535"),
        ("ray.address=ray://host:1", "ray.address", "must match pattern"),
        ("logging.level=loud", "logging.level", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_fault_names_its_key_and_what_is_allowed(override: str, key: str, why: str) -> None:
    error = _fault(override)

    assert error.key == key
    assert str(error).startswith(f"{key}: ")
    assert why in str(error)


def test_model_names_are_unique() -> None:
    error = _fault("models=[{name: a, source: x}, {name: b, source: x}, {name: a, source: x}]")

    assert error.key == "models.0.name"
    assert "'a' is there twice" in str(error)


def test_no_core_belongs_to_two_replicas_of_one_machine() -> None:
    models = (
        "models=[{name: a, source: x, replicas: 2, cores: ['0', '1-2']},"
        " {name: b, source: x, cores: ['2,3']}]"
    )

    error = _fault(models)

    assert error.key == "models.1.cores.0"
    assert "core 2 already belongs to models.0.cores.1" in str(error)


def test_no_core_belongs_to_two_pools_of_a_model() -> None:
    drafters = "{de: {source: y, cores: ['1']}}"
    models = f"models=[{{name: a, source: x, cores: ['1'], speculation: {{drafters: {drafters}}}}}]"

    error = _fault(models)

    assert error.key == "models.0.speculation.drafters.de.cores.0"
    assert "core 1 already belongs to models.0.cores.0" in str(error)


def test_replicas_of_a_cluster_may_use_the_same_core_numbers() -> None:
    models = "models=[{name: a, source: x, replicas: 2, cores: ['0', '0']}]"

    assert load(None, [models, "ray.address=auto", f"data_plane.secret={SECRET}"], {}).models


def test_cpus_are_offered_only_by_a_ray_of_ours() -> None:
    error = _fault("ray.address=head:6379", "ray.num_cpus=4", f"data_plane.secret={SECRET}")

    assert error.key == "ray.num_cpus"


def test_every_fault_is_told_at_once() -> None:
    error = _fault("models.0.replicas=0", "gateway.port=-1", "ray.nmu_cpus=1")

    assert [key for key, _ in error.problems] == [
        "models.0.replicas",
        "gateway.port",
        "ray.nmu_cpus",
    ]
    assert error.key is None
    assert len(str(error).splitlines()) == 3


def test_fault_tells_where_the_value_came_from() -> None:
    assert "(from HEADSTART_GATEWAY__PORT)" in str(_fault(HEADSTART_GATEWAY__PORT="x"))
    assert "(from --set gateway)" in str(_fault("gateway={port: x}", HEADSTART_GATEWAY__PORT="1"))


@pytest.mark.parametrize("secret", ["hunter2", "[hunter2", "*hunter2", "hunter2 # with a remark"])
def test_refused_secret_is_not_repeated(secret: str) -> None:
    error = _fault(HEADSTART_DATA_PLANE__SECRET=secret)

    assert error.key == "data_plane.secret"
    assert "hunter2" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("models: [", "is not YAML"),
        ("- models", "must hold a mapping"),
        ("", "models: is required"),
        ("\tgateway:", "is not YAML"),
    ],
)
def test_unusable_file_is_named(tmp_path: Path, text: str, why: str) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(text)

    with pytest.raises(SettingsError, match=why):
        load(config, [], {})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"cannot read settings file .*gone\.yaml: No such file"
    ):
        load(tmp_path / "gone.yaml", [], {})
