"""`train`: transformers' Trainer with a loss of ours, resumable to the same result.

Which sample comes when, and how noisy, follows from the seed and a running number: a killed run
that goes on from its last checkpoint sees what it would have seen.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from headstart.recipes.budget import Budget
from headstart.recipes.forwarding import batch_of, outputs_of
from headstart.recipes.losses import losses_of
from headstart.recipes.options import option
from headstart.recipes.packing import PADDING
from headstart.stages.errors import SetupError

__all__ = ["METHODS", "PackTrainer", "TrainOptions"]

METHODS = ("jacobi-forcing", "cllm", "sft")
DTYPES = ("auto", "bfloat16", "float32")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `train` is told."""

    model: str = option("the model: a folder, a Hugging Face id, or builtin:NAME")
    data: Path = option("folder that `collect` made; for `--method sft` a .jsonl with answers")
    out: Path = option("folder for checkpoints, metrics and the result")
    adapter: Path | None = option("LoRA adapter to go on with; the data must be made with it", None)
    method: str = option("loss", "jacobi-forcing", METHODS)
    lora_rank: int = option("rank of the LoRA adapter; 0 trains all weights", 0)
    epochs: float = option("times that each sample is seen", 1.0)
    max_samples: int | None = option("end after so many samples", None)
    max_minutes: float | None = option("end after so many minutes, all calls together", None)
    piece_minutes: float | None = option("pause after so many; the same command goes on", None)
    decay: float = option("share of the run, its last, in which the learning rate falls to 0", 0.2)
    milestone: int | None = option("keep a checkpoint at so many samples, twice as many, ...", None)
    start: Path | None = option("kept checkpoint of another run, to bring to an end", None)
    batch: int = option("samples in a forward pass", 1)
    accumulate: int = option("forward passes in an optimizer step", 4)
    learning_rate: float = option("at its highest", 2e-4)
    weight_decay: float = option("of AdamW", 0.0)
    consistency_weight: float = option("of the consistency loss", 1.0)
    ar_weight: float = option("of the next-token loss on the answers", 10.0)
    label_smoothing: float = option("of the next-token loss", 0.0)
    window: int = option("blocks in which noise grows from none to all", 8)
    copies: int = option("noises that each block is shown at, in one pass", 2)
    augment: float = option("share of wrong tokens that are set right, at random", 0.25)
    refill: float = option("share of tails whose end is drawn anew, as the server's are", 0.25)
    max_length: int = option("longest packed sequence; longer samples lose their last blocks", 2048)
    seed: int = option("of order and noise", 0)
    save_minutes: float = option("between two checkpoints", 5.0)
    log_steps: int = option("optimizer steps between two lines of metrics", 10)
    device: str = option("auto, cpu or cuda", "auto")
    dtype: str = option("computed in; auto is the faster one", "auto", DTYPES)
    workers: int = option("processes or GPUs, by Ray Train", 1)
    shard_bytes: int | None = option("also write the result as pieces of at most so many", None)
    dry_run: bool = option("check everything and time two steps, then stop", False)


class PackTrainer(Trainer):
    """Consistency and next-token loss of packed samples.

    Raises:
        SetupError: The loss or a gradient is no number.
    """

    def __init__(
        self, *, options: TrainOptions, budget: Budget, head: torch.Tensor, **rest: Any
    ) -> None:
        super().__init__(callbacks=[budget, _Watch()], data_collator=batch_of, **rest)
        # The loss is a mean over each batch: the Trainer divides by accumulated passes.
        self.model_accepts_loss_kwargs = False
        self._options = options
        self.budget = budget
        self._head = head
        self._sums = np.zeros(3)
        self._tokens: int | None = None

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
        options = self._options
        hidden = outputs_of(model, inputs)
        losses = losses_of(
            hidden,
            self._head,
            *(inputs[name] for name in ("tokens", "students", "teachers", "learned")),
            consistency_weight=options.consistency_weight,
            ar_weight=1.0 if options.method == "sft" else options.ar_weight,
            label_smoothing=options.label_smoothing,
            dtype=getattr(torch, options.dtype),
        )
        parts = [losses.consistency.item(), losses.autoregressive.item()]
        if not all(map(math.isfinite, parts)):
            raise SetupError(
                f"the loss is {parts[0]} + {parts[1]} after {self.state.global_step} steps: lower "
                "--learning-rate, or compute with --dtype float32"
            )
        self._sums += [*parts, 1]
        self._tokens = self._seen() + int((inputs["windows"] != PADDING).sum())
        return (losses.total, hidden) if return_outputs else losses.total

    def _seen(self) -> int:
        """Return how many tokens this worker has run through the model.

        Those before a kill, of all workers, count as the first one's.
        """
        if self._tokens is None:
            before = max((line.get("tokens", 0) for line in self.state.log_history), default=0)
            self._tokens = int(before) if self.is_world_process_zero() else 0
        return self._tokens

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._sums[2]:
            logs["consistency"], logs["autoregressive"] = (self._sums[:2] / self._sums[2]).tolist()
            self._sums[:] = 0
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

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            lines = "".join(json.dumps(line) + "\n" for line in state.log_history)
            Path(args.output_dir, "metrics.jsonl").write_text(lines)


def arguments(options: TrainOptions, out: Path, num_steps: int, device: str) -> TrainingArguments:
    """Return the options as the Trainer's own."""
    return TrainingArguments(
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


def described(options: TrainOptions) -> dict[str, Any]:
    """Return the options as JSON."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
    }
