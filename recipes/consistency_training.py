"""`train`: a model learns to jump along its trajectories, or answers in a file."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from headstart.cluster.merged_model import first_rows, rounded
from headstart.recipes import trained_on
from headstart.recipes.attention import PACKED, register
from headstart.recipes.consistency_options import TrainOptions
from headstart.recipes.dataset import HeldOut, PackedSamples, parted
from headstart.recipes.forwarding import batch_of, behead, check_mask, outputs_of
from headstart.recipes.learning import keep_memory
from headstart.recipes.losses import losses_of
from headstart.recipes.models import Chat, device_of, fingerprint, folder_of, load, need
from headstart.recipes.packing import PADDING
from headstart.recipes.planning import check, content_of, planned, width_of, with_dtype
from headstart.recipes.prompts import read_prompts
from headstart.recipes.provenance import known_places, training_of
from headstart.recipes.running import Job, carry_out
from headstart.recipes.samples import Sample, SampleFile, read_card
from headstart.recipes.training import RunTrainer
from headstart.stages.errors import SetupError

__all__ = ["PackTrainer", "TrainOptions", "run", "train"]


class PackTrainer(RunTrainer):
    """Consistency and next-token loss of packed samples."""

    options: TrainOptions

    def __init__(self, *, head: torch.Tensor, **rest: Any) -> None:
        super().__init__(**rest)
        self._head = head

    @staticmethod
    def collated(items: Sequence[Any]) -> dict[str, torch.Tensor]:
        return batch_of(items)

    def parts(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, float]]:
        options = self.options
        losses = losses_of(
            outputs_of(model, inputs),
            self._head,
            *(inputs[name] for name in ("tokens", "students", "teachers", "learned")),
            consistency_weight=options.consistency_weight,
            ar_weight=1.0 if options.method == "sft" else options.ar_weight,
            label_smoothing=options.label_smoothing,
            dtype=getattr(torch, options.dtype),
        )
        return losses.total, {
            "consistency": losses.consistency.item(),
            "autoregressive": losses.autoregressive.item(),
        }

    def num_tokens(self, inputs: dict[str, Any]) -> int:
        return int((inputs["windows"] != PADDING).sum())


def train(options: TrainOptions) -> dict[str, Any]:
    """Train, or go on; returns what is noted in the output folder's result.json.

    Raises:
        SetupError: Data, model, tokenizer, memory or disk are not fit, or the loss is no number.
    """
    if options.workers > 1 and options.dry_run:
        raise SetupError("--dry-run times one process: leave --workers away")
    if options.workers > 1:
        from headstart.recipes.ray_training import train_on_ray

        return train_on_ray(options)
    return run(options)


def run(options: TrainOptions) -> dict[str, Any]:
    """Train in this process, alone or as one of several that torch has joined."""
    check(options)
    base = folder_of(options.model)
    chat = Chat.of(base)
    samples = _samples(options, chat)
    file = options.data if options.method == "sft" else options.data / "samples.jsonl"
    data = content_of(file, len(samples))
    check(options, data)
    device = device_of(options.device)
    if device == "cpu":
        keep_memory()
    options = with_dtype(options, width_of(base), device)
    model = _trained_model(options, base, device)
    numbers, aside = parted(len(samples), options.held_out, options.seed)
    num = planned(options, len(numbers))
    dataset = PackedSamples(samples, numbers, options, num)
    item = next(
        (each for each in map(dataset.__getitem__, range(min(num, 8))) if len(each.students)),
        dataset[0],
    )
    check_mask(model.eval(), item)
    head = behead(model, item)

    places = known_places(options.model, options.adapter, base)
    digests = trained_on.digests_of(each.prompt for each in samples)
    digests = digests.union(*map(trained_on.noted, places))

    def save(trained: Any, folder: Path) -> None:
        if not options.lora_rank:
            chat.tokenizer.save_pretrained(folder)
            _round(trained, getattr(torch, options.dtype))
        trained.save_pretrained(folder)
        trained_on.note(folder, digests)

    return carry_out(
        Job(
            options,
            model,
            dataset,
            trainer=partial(PackTrainer, head=head),
            result="adapter" if options.lora_rank else "model",
            save=save,
            facts=lambda _: _facts(options, base, places),
            computing=lambda: _as_computed(model, options),
            data=data,
            held_out=HeldOut(samples, aside, options) if aside else None,
        )
    )


def _round(model: Any, dtype: torch.dtype) -> None:
    """Give weights another format, up or down by chance.

    What a small learning rate adds to a bfloat16 weight is less than the step to the next one.
    """
    with torch.no_grad():
        for name, each in model.named_parameters():
            each.data = rounded(each.detach().float().cpu(), dtype, name)
    model.to("cpu", dtype)


_OF_DATA = ("block_tokens", "samples", "prompts", "prompts_sha256", "left_out")
"""What the adapter's card says of the data."""


def _facts(options: TrainOptions, base: Path, places: Sequence[Path]) -> dict[str, Any]:
    """Return what `export` needs where neither base nor data are what they were here."""
    found: dict[str, Any] = {"base_weights": first_rows(base)}
    found["begun_from"] = next(filter(None, map(training_of, places)), None)
    if options.method != "sft":
        card = read_card(options.data)
        found["collected"] = {name: card.get(name) for name in _OF_DATA}
    return found


def _as_computed(model: Any, options: TrainOptions) -> AbstractContextManager[None]:
    """Leave it to autocast to make one dtype of an adapter's and its inputs': peft goes by float32.

    That takes two conversions less for each projection.
    """
    if not options.lora_rank:
        return nullcontext()
    casting: Any = need("peft.helpers").disable_input_dtype_casting
    return casting(model)  # type: ignore[no-any-return]


def _samples(options: TrainOptions, chat: Chat) -> SampleFile | list[Sample]:
    if options.method == "sft":
        prompts = read_prompts(options.data)
        found = [
            Sample(each.id, chat.prompt(each.messages), chat.answer(each.answer), 0, 0, [])
            for each in prompts
            if each.answer
        ]
        if not found:
            raise SetupError(f"{options.data} has no `answer`s: `--method sft` learns those")
        return found
    card = read_card(options.data, "tokenizer", "weights", step="`collect`")
    if card["tokenizer"] != chat.identity:
        raise SetupError(
            f"{options.data} was collected with another tokenizer or chat template than "
            f"{options.model} has: collect from this model"
        )
    if card["weights"] != fingerprint(folder_of(options.model, options.adapter)):
        raise SetupError(
            f"{options.data} holds another model's answers than those of {options.model}"
            f"{' with its adapter' if options.adapter else ''}: collect from the model to train"
        )
    samples = SampleFile(options.data / "samples.jsonl")
    if card["samples"] != len(samples):
        raise SetupError(
            f"{options.data} holds {len(samples)} samples and its card says {card['samples']}: "
            "run `collect` there to its end"
        )
    return samples


def _trained_model(options: TrainOptions, base: Path, device: str) -> Any:
    """Load weights to train: all in float32, or an adapter beside frozen ones."""
    attention = PACKED if device == "cpu" else "sdpa"
    register()
    if not options.lora_rank:
        return load(folder_of(options.model, options.adapter), device, "float32", attention)
    peft = need("peft")
    model = load(base, device, options.dtype, attention)
    if options.adapter is not None:
        rank = peft.PeftConfig.from_pretrained(options.adapter).r
        if rank != options.lora_rank:
            raise SetupError(f"{options.adapter} is of rank {rank}: give --lora-rank {rank}")
        return peft.PeftModel.from_pretrained(model, options.adapter, is_trainable=True)
    torch.manual_seed(options.seed)
    config = peft.LoraConfig(
        r=options.lora_rank,
        lora_alpha=2 * options.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, config)
