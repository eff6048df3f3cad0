"""transformers' Trainer with losses of ours, resumable to the same result within rounding.

Which sample comes when, and how noisy, follows from the seed and a running number: a killed run
that goes on from its last checkpoint sees what it would have seen.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from headstart.recipes.budget import Budget
from headstart.recipes.options import option
from headstart.stages.errors import SetupError

__all__ = ["RunOptions", "RunTrainer", "arguments", "described", "looks_of"]

_HELD_OUT = "held_out_"
_WORSE, _LOOKS = 1.5, 3
"""A run ends whose held-out loss is so many times its best, so many checkpoints in a row."""

DTYPES = ("auto", "bfloat16", "float32")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every training run is told."""

    out: Path = option("folder for checkpoints, metrics and the result")
    epochs: float = option("times that each sample is seen", 1.0, least=1e-6)
    max_samples: int | None = option("end after so many samples", None, least=1)
    max_minutes: float | None = option(
        "end after so many minutes, all calls together", None, least=1e-9
    )
    piece_minutes: float | None = option(
        "pause after so many; the same command goes on", None, least=1e-9
    )
    warm_up: int = option("optimizer steps in which the learning rate rises", 20)
    decay: float = option("share of the run, its last, in which the learning rate falls to 0", 0.2)
    milestone: int | None = option(
        "keep a checkpoint at so many samples, twice as many, ...", None, least=1
    )
    start: Path | None = option("kept checkpoint of another run, to bring to an end", None)
    batch: int = option("samples in a forward pass", 1, least=1)
    accumulate: int = option("forward passes in an optimizer step", 4, least=1)
    learning_rate: float = option("at its highest", 2e-4)
    weight_decay: float = option("of AdamW", 0.0)
    max_length: int = option("longest sequence, in tokens", 2048, least=1)
    seed: int = option("of order and noise", 0)
    save_minutes: float = option("between two checkpoints", 5.0)
    log_steps: int = option("optimizer steps between two lines of metrics", 10, least=1)
    device: str = option("auto, cpu or cuda", "auto")
    dtype: str = option("computed in; auto is the faster one", "auto", DTYPES)
    shard_bytes: int | None = option("also write the result as pieces of at most so many", None)
    dry_run: bool = option("check everything and time a few steps, then stop", False)


class RunTrainer(Trainer):
    """Samples in the order in which their data set gives them, and a loss of named parts.

    Raises:
        SetupError: The loss or a gradient is no number.
    """

    def __init__(self, *, options: Any, budget: Budget, **rest: Any) -> None:
        super().__init__(callbacks=[budget, _Watch()], data_collator=self.collated, **rest)
        # The loss is a mean over each batch: the Trainer divides by accumulated passes.
        self.model_accepts_loss_kwargs = False
        self.options = options
        self.budget = budget
        self._sums: dict[str, float] = {}
        self._passes = 0
        self._tokens: int | None = None

    @staticmethod
    def collated(items: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Lay a batch of the data set's items side by side."""
        raise NotImplementedError

    def parts(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss and the figures that are logged of it."""
        raise NotImplementedError

    def num_tokens(self, inputs: dict[str, Any]) -> int:
        """Return how many tokens of a batch are no padding."""
        raise NotImplementedError

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        chosen: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(chosen)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The budget says how high the learning rate is."""
        if self.lr_scheduler is None:
            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, self.budget.rate)
        return self.lr_scheduler

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        loss, parts = self.parts(model, inputs)
        if not all(map(math.isfinite, parts.values())):
            raise SetupError(
                f"the loss is {' + '.join(map(str, parts.values()))} after "
                f"{self.state.global_step} steps: lower --learning-rate, or compute with --dtype "
                "float32"
            )
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._passes += 1
        self._tokens = self._seen() + self.num_tokens(inputs)
        return (loss, None) if return_outputs else loss

    def _seen(self) -> int:
        """Return how many tokens this worker has run through the model.

        Those before a kill, of all workers, count as the first one's.
        """
        if self._tokens is None:
            before = max((line.get("tokens", 0) for line in self.state.log_history), default=0)
            self._tokens = int(before) if self.is_world_process_zero() else 0
        return self._tokens

    def _held_out(self) -> dict[str, float]:
        """Return the losses of what is not trained on, in the first worker."""
        if not self.is_world_process_zero():
            return {}
        model: Any = self.model
        items: Any = self.eval_dataset
        sums: dict[str, float] = {}
        model.eval()
        with torch.no_grad():
            for number in range(len(items)):
                inputs = self._prepare_inputs(self.collated([items[number]]))
                for name, value in self.parts(model, inputs)[1].items():
                    sums[name] = sums.get(name, 0.0) + value
        model.train()
        return {f"{_HELD_OUT}{name}": total / len(items) for name, total in sums.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._passes:
            logs |= {name: total / self._passes for name, total in self._sums.items()}
            self._sums.clear()
            self._passes = 0
        # What is logged at a checkpoint is in it.
        if self.control.should_save and self.eval_dataset is not None:
            logs |= self._held_out()
        logs["samples"] = self.state.global_step * self.budget.samples_per_step
        tokens = torch.tensor([self._seen()], device=self.args.device)
        logs["tokens"] = int(self.accelerator.reduce(tokens)[0])
        logs["share"] = self.budget.share(self.state.global_step)
        logs["elapsed_s"] = round(self.budget.elapsed_s, 1)
        super().log(logs, start_time)


class _Watch(TrainerCallback):
    """Refuses to step along gradients that are no numbers; keeps the lines of metrics on disk."""

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        if gradients and not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise SetupError(
                f"a gradient is no number after {state.global_step} steps: lower --learning-rate, "
                "or compute with --dtype float32"
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for name, values in _by_name(looks_of(state.log_history)).items():
            best, last = min(values), values[-_LOOKS:]
            if len(values) > _LOOKS and min(last) > _WORSE * best > 0:
                raise SetupError(
                    f"{name} on samples that are not trained on was {best:.3g} and has been "
                    f"{', '.join(f'{each:.3g}' for each in last)} at the last checkpoints: lower "
                    "--learning-rate, or end earlier"
                )

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            lines = "".join(json.dumps(line) + "\n" for line in state.log_history)
            Path(args.output_dir, "metrics.jsonl").write_text(lines)


def looks_of(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the losses on what is not trained on, checkpoint by checkpoint."""
    looks = []
    for line in history:
        found = {
            name.removeprefix(_HELD_OUT): value
            for name, value in line.items()
            if name.startswith(_HELD_OUT)
        }
        if found:
            looks.append({"samples": line["samples"]} | found)
    return looks


def _by_name(looks: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    names = [name for name in (looks[0] if looks else {}) if name != "samples"]
    return {name: [look[name] for look in looks] for name in names}


def arguments(options: RunOptions, out: Path, num_steps: int, device: str) -> TrainingArguments:
    """Return the options as the Trainer's own."""
    found = TrainingArguments(
        output_dir=str(out),
        max_steps=num_steps,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        max_grad_norm=1.0,
        adam_beta2=0.95,
        logging_steps=options.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="no",  # the budget saves
        save_total_limit=2,
        seed=options.seed,
        bf16=options.dtype == "bfloat16",
        use_cpu=device == "cpu",
        report_to="none",
        remove_unused_columns=False,
        dataloader_num_workers=0 if device == "cpu" else 4,
        disable_tqdm=False,
        ddp_find_unused_parameters=False,
    )
    # Else the Trainer lays a batch over all GPUs of a machine, and more is seen than is counted.
    found._n_gpu = min(1, found.n_gpu)  # noqa: SLF001 - as the Trainer itself does
    return found


def described(options: Any) -> dict[str, Any]:
    """Return a step's options as JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(each) for each in value]
        return str(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in asdict(options).items()}
