"""`train --workers N`: the same run in N processes or on N GPUs, by Ray Train.

Every worker reads data and model, and the first writes the output folder: on several machines all
three have to be where each machine sees them.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from headstart.recipes.consistency_options import TrainOptions
from headstart.stages.errors import SetupError

__all__ = ["train_on_ray"]


def train_on_ray(options: TrainOptions) -> dict[str, Any]:
    """Train on as many workers as asked for; joins the Ray cluster that there is, or starts one.

    Raises:
        SetupError: A worker failed; its reason is in the message.
    """
    import json

    try:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise SetupError(
            "Ray Train is not installed: run `pip install 'headstart[recipes-ray]'`"
        ) from error

    from headstart.recipes.models import device_of, folder_of
    from headstart.recipes.planning import width_of, with_dtype

    device = device_of(options.device)
    options = with_dtype(options, width_of(folder_of(options.model)), device)  # one for all workers
    absolute = {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
    }
    trainer = TorchTrainer(
        _work,
        train_loop_config=absolute,
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=device == "cuda"),
        run_config=RunConfig(storage_path=str(options.out.absolute() / "ray")),
    )
    try:
        trainer.fit()
    except Exception as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise SetupError(f"a worker failed: {reason}") from error
    note = options.out / "result.json"
    return dict(json.loads(note.read_bytes())) if note.exists() else {"is_paused": True}


def _work(plain: dict[str, Any]) -> None:
    from headstart.recipes.consistency_training import run

    paths = {"data", "out", "adapter", "start"}
    values: dict[str, Any] = {
        n: Path(v) if n in paths and v is not None else v for n, v in plain.items()
    }
    run(TrainOptions(**values))
