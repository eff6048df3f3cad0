"""Whether a cluster can hold what the settings ask for. Asked before Serve is: Serve would wait."""

from collections.abc import Iterable, Mapping, Sequence
from math import floor
from typing import Any

from headstart.configs.model_settings import ModelSettings, core_list, parse_cores
from headstart.stages.errors import SetupError

__all__ = ["CPU", "GPU", "Node", "actor_options", "check_cores", "check_room"]

CPU, GPU = "CPU", "GPU"
_FIX = {
    GPU: "lower models[].replicas or gpus_per_replica, add nodes with GPUs, or see with "
    "`nvidia-smi` why theirs are not found",
    CPU: "lower models[].replicas or num_cpus_per_replica, or raise ray.num_cpus",
}

Node = Mapping[str, float]
"""What one node offers, by Ray's name for it. Of names that are missing it has none."""


def actor_options(model: ModelSettings) -> dict[str, Any]:
    """Return the resources that Ray is asked to give each replica: all on one node."""
    options = {"num_cpus": model.num_cpus_per_replica}
    if model.gpus_per_replica:
        options["num_gpus"] = model.gpus_per_replica
    return options


def check_cores(models: Iterable[ModelSettings], allowed: frozenset[int]) -> None:
    """Refuse models that are bound to cores which this machine's processes may not use.

    Raises:
        SetupError: The message names the first such model's setting and the cores.
    """
    for model in models:
        if missing := frozenset[int]().union(*map(parse_cores, model.cores or ())) - allowed:
            raise SetupError(
                f"models.{model.name}.cores names {core_list(missing)}, and this process may use "
                f"{core_list(allowed)}: name others, or widen the affinity or cpuset that it was "
                "started with",
                param="models",
            )


def check_room(
    models: Sequence[ModelSettings], nodes: Iterable[Node], where: str, kinds: Sequence[str]
) -> None:
    """Refuse models that could not all run, whatever Ray did.

    Args:
        nodes: The cluster's, with all that they have, in use or not.
        where: What has the nodes, for the message.
        kinds: Resources to look at.

    Raises:
        SetupError: There is too little of something; the message has the figures and the fix.
    """
    offers = list(nodes)
    for kind in kinds:
        there = sum(node.get(kind, 0) for node in offers)
        asked = sum(model.replicas * _share(model, kind) for model in models)
        if asked > there:
            raise SetupError(
                f"the models ask for {asked:g} {kind}s and {where} has {there:g}: {_FIX[kind]}",
                param="models",
            )
        for model in models:
            if (share := _share(model, kind)) == 0:
                continue
            room = sum(_room(node.get(kind, 0), share, kind) for node in offers)
            if room < model.replicas:
                raise SetupError(
                    f"models.{model.name} asks for {model.replicas} replicas of {share:g} {kind}s "
                    f"on one node each, and {where} has room for {room}: {_FIX[kind]}",
                    param="models",
                )


def _room(offer: float, share: float, kind: str) -> int:
    """How many replicas one node can hold; a share of a GPU is a share of one."""
    if kind == GPU and share < 1:
        return floor(offer) * floor(1 / share + 1e-9)
    return floor(offer / share + 1e-9)


def _share(model: ModelSettings, kind: str) -> float:
    return model.gpus_per_replica if kind == GPU else model.num_cpus_per_replica
