"""The one `Settings` model and how it is loaded.

Read once, by the command line; every part is passed the section it needs. A key's unit is in its
name (`_s` is seconds) and its description, its range in its field.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from headstart.configs import layers
from headstart.configs.access import AccessSettings, KeySettings, read_keys
from headstart.configs.fields import MAX_PORT, MIB, Folder, Port, default_cache_dir
from headstart.configs.live import LiveSettings
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings, parse_cores
from headstart.configs.section import Section, SettingsError, explain, wrong
from headstart.configs.serving import (
    MAX_MESSAGE_BYTES,
    DataPlaneSettings,
    GatewaySettings,
    QuicSettings,
    StreamSettings,
)

__all__ = [
    "AccessSettings",
    "BenchSettings",
    "DataPlaneSettings",
    "FakeEngineSettings",
    "GatewaySettings",
    "KeySettings",
    "LiveSettings",
    "LoggingSettings",
    "ModelSettings",
    "QuicSettings",
    "RaySettings",
    "ReplicaSettings",
    "Settings",
    "SettingsError",
    "StreamSettings",
    "load",
]


class RaySettings(Section):
    """The Ray cluster that holds the replicas."""

    address: str | None = Field(
        default=None,
        pattern=r"^(auto|[A-Za-z0-9.-]+:\d{1,5})$",
        description="Cluster to join: `auto` or `host:port`. Unset: start Ray here, for this run.",
    )
    num_cpus: int | None = Field(
        default=None, ge=1, description="CPUs that a Ray started here offers. Unset: all."
    )
    object_store_memory_mib: int = Field(
        default=100,
        ge=75,
        description="Object store of a Ray started here, MiB; tokens do not use it.",
    )
    include_dashboard: bool = Field(
        default=False, description="Start Ray's dashboard (a Ray started here)."
    )
    metrics_export_port: Port = Field(
        default=8090,
        description="Port of Ray's and vLLM's own metrics (a Ray started here); 0 takes any.",
    )
    startup_timeout_s: float = Field(
        default=300.0, gt=0, description="Longest wait until every replica is healthy, seconds."
    )

    @field_validator("address")
    @classmethod
    def _port_can_be(cls, address: str | None) -> str | None:
        port = (address or "").rpartition(":")[2]
        if port.isdecimal() and int(port) > MAX_PORT:
            raise ValueError(f"must have a port of at most {MAX_PORT}")
        return address

    @model_validator(mode="after")
    def _cpus_are_ours_to_offer(self) -> Self:
        if self.address is not None and self.num_cpus is not None:
            raise wrong("num_cpus", "is only for a Ray started here; ray.address joins another")
        return self


class LoggingSettings(Section):
    """What the processes write to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe event that is written."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )


class BenchSettings(Section):
    """Inputs of `headstart bench`."""

    data_dir: Folder | None = Field(
        default=None,
        description="Folder with the public data sets. Unset: what needs them is not measured.",
    )
    livemind_questions: int = Field(
        default=280,
        ge=1,
        le=1960,
        description="Questions that `livemind` asks the configured models, each once for every "
        "arm, and a fourth of them typed into the product; at most 40 with `--quick`.",
    )
    livemind_answer_tokens: int = Field(
        default=256,
        ge=16,
        le=8192,
        description="Longest answer to such a question; a large model reasons for longer, and "
        "wants 1024. With `--quick` 96.",
    )


class _Handed(Section):
    """Settings that travel to another process."""

    def to_child(self) -> str:
        """Return one line of JSON for a process of ours, secrets in clear."""
        return self.model_dump_json(context={"reveal_secrets": True})

    @classmethod
    def from_child(cls, line: str | bytes) -> Self:
        """Rebuild the settings that `to_child` wrote."""
        return cls.model_validate_json(line)


class ReplicaSettings(_Handed):
    """What one replica needs; to Serve, anything more would be a new version with each change."""

    cache_dir: Folder
    model: ModelSettings
    streams: StreamSettings
    data_plane: DataPlaneSettings
    logging: LoggingSettings


class Settings(_Handed):
    """Everything a user can set. `models` alone suffices."""

    cache_dir: Folder = Field(
        default_factory=default_cache_dir,
        description="Prepared models. Unset: `$XDG_CACHE_HOME/headstart`, else "
        "`~/.cache/headstart`.",
    )
    models: tuple[ModelSettings, ...] = Field(min_length=1, description="The models to serve.")
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    live: LiveSettings = Field(default_factory=LiveSettings)
    quic: QuicSettings = Field(default_factory=QuicSettings)
    streams: StreamSettings = Field(default_factory=StreamSettings)
    data_plane: DataPlaneSettings = Field(default_factory=DataPlaneSettings)
    ray: RaySettings = Field(default_factory=RaySettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    bench: BenchSettings = Field(default_factory=BenchSettings)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        names = Counter(name for model in self.models for name in model.served_names)
        for index, model in enumerate(self.models):
            if names[model.name] > 1:
                raise wrong(f"models.{index}.name", f"{model.name!r} is there twice")
            for name in model.adapters:
                if names[name] > 1:
                    raise wrong(f"models.{index}.adapters.{name}", f"{name!r} is there twice")
        self._check_access(names)
        self._check_message()
        if self.ray.address is None:
            self._check_cores()
            if self.gateway.port and self.gateway.port == self.ray.metrics_export_port:
                raise wrong("gateway.port", "must differ from ray.metrics_export_port")
        elif self.data_plane.secret is None:
            raise wrong(
                "data_plane.secret", "is required with ray.address; every node needs the same"
            )
        return self

    def _check_access(self, models: Collection[str]) -> None:
        seen: set[str] = set()
        for index, key in enumerate(self.access.keys):
            for value, field in ((key.id, "id"), (key.hash, "hash")):
                if value in seen:
                    raise wrong(f"access.keys.{index}.{field}", f"{value!r} is there twice")
                seen.add(value)
            for number, model in enumerate(key.models):
                if model not in models:
                    raise wrong(
                        f"access.keys.{index}.models.{number}",
                        f"{model!r} is not served; there are: {', '.join(models)}",
                    )
        if not self.access.keys and not self.gateway.is_loopback:
            raise wrong(
                "gateway.host",
                "must be a loopback address (127.0.0.1, ::1, localhost): with no keys configured "
                "(access.keys; try `headstart keys new`), any other would serve everyone on the "
                "network",
            )

    def _check_message(self) -> None:
        """A step's message may hold a window and, past it, a log that is one long body."""
        window_bytes = self.data_plane.window_bytes
        room = MAX_MESSAGE_BYTES - MIB - window_bytes
        if self.streams.max_stream_bytes > room:
            raise wrong(
                "streams.max_stream_bytes",
                f"must be at most {room}: with data_plane.window_bytes, {window_bytes}, it has to "
                f"fit a message of the data plane, {MAX_MESSAGE_BYTES} (MAX_MESSAGE_BYTES)",
            )

    def _check_cores(self) -> None:
        """All replicas are on this machine: no core may belong to two."""
        owners: dict[int, str] = {}
        for index, model in enumerate(self.models):
            for pool in model.pools:
                where = f".speculation.drafters.{pool.pool}" if pool.pool else ""
                for replica, text in enumerate(pool.cores or ()):
                    key = f"models.{index}{where}.cores.{replica}"
                    for core in parse_cores(text):
                        if core in owners:
                            raise wrong(key, f"core {core} already belongs to {owners[core]}")
                        owners[core] = key

    @property
    def pools(self) -> tuple[ModelSettings, ...]:
        """Every pool of replicas, of all models."""
        return tuple(pool for model in self.models for pool in model.pools)

    def with_secret(self, secret: str) -> Self:
        """Return these settings with the data plane's secret set."""
        data_plane = self.data_plane.model_copy(update={"secret": SecretStr(secret)})
        return self.model_copy(update={"data_plane": data_plane})

    def for_replica(self, model: ModelSettings) -> ReplicaSettings:
        """Return what a replica of `model`, one of its pools, needs."""
        return ReplicaSettings(
            cache_dir=self.cache_dir,
            model=model,
            streams=self.streams,
            data_plane=self.data_plane,
            logging=self.logging,
        )


def load(
    config: Path | None, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings: file < environment < flags.

    Args:
        config: YAML file.
        overrides: Flags of the form `a.b=value`, the last one winning.
        environ: Instead of the process's environment.

    Raises:
        SettingsError: With a line for each wrong key, saying where it was set and what is allowed.
    """
    tree: object = {} if config is None else layers.read_file(config)
    assignments = [
        *layers.from_environment(Settings.model_fields, environ),
        *layers.from_flags(overrides),
    ]
    for assignment in assignments:
        tree = layers.assign(tree, assignment)
    try:
        # By way of JSON, strict means what a reader of YAML expects: lists and paths are fine,
        # `true` and "8000" are not numbers. What YAML takes for a date is text again.
        text = json.dumps(_with_keys_file(tree), default=str)
        return Settings.model_validate_json(text, strict=True)
    except ValidationError as error:
        problems = explain(error, Settings).problems
    raise SettingsError((key, why + _origin(key, assignments)) for key, why in problems)


def _with_keys_file(tree: object) -> object:
    """Put the keys of `access.keys_file` in its place: they are settings like any other.

    Raises:
        SettingsError: The file cannot be used.
    """
    match tree:
        case {"access": {"keys_file": str(path), **access}} if path:
            inline = access.get("keys") or []
            if isinstance(inline, list):
                keys = [*inline, *read_keys(Path(path))]
                return {**tree, "access": {**access, "keys": keys}}  # type: ignore[dict-item]
    return tree


def _origin(key: str, assignments: Sequence[layers.Assignment]) -> str:
    """Name the assignment that set a key, if it was not the file."""
    setters: Iterator[str] = (
        assignment.origin
        for assignment in reversed(assignments)
        if f"{key}.".startswith(f"{assignment.key}.")
    )
    origin = next(setters, None)
    return f" (from {origin})" if origin else ""
