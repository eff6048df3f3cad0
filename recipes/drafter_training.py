"""`pretrain` and `finetune`: a small model learns a language's text, and the target's answers."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from headstart.recipes import trained_on
from headstart.recipes.corpus import read_documents
from headstart.recipes.dataset import Order
from headstart.recipes.distilling import read_answers
from headstart.recipes.drafter_model import Drafter, ShapeOptions, vocabulary_size
from headstart.recipes.learning import keep_memory
from headstart.recipes.models import Chat, device_of, folder_of
from headstart.recipes.options import option
from headstart.recipes.planning import check, planned, with_dtype
from headstart.recipes.running import Job, carry_out
from headstart.recipes.samples import Answer
from headstart.recipes.training import RunOptions, RunTrainer
from headstart.recipes.vocabulary import Vocabulary, chosen, counted
from headstart.stages.errors import SetupError

__all__ = ["FinetuneOptions", "PretrainOptions", "finetune", "pretrain"]

_NOT_LEARNED = -100
Item = tuple[Any, Any]
"""Tokens and labels, as the drafter's ids."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(ShapeOptions, RunOptions):
    """What `pretrain` is told."""

    model: str = option("the target: a folder, a Hugging Face id, or builtin:NAME")
    corpora: tuple[Path, ...] = option("folders that `corpus` made")
    answers: tuple[Path, ...] = option("folders that `distil` made: --keep counts them, too", ())
    keep: int = option("tokens that the drafter knows, the most used; 0 is the whole vocabulary", 0)
    batch: int = option("samples in a forward pass", 8, least=1)
    accumulate: int = option("forward passes in an optimizer step", 1, least=1)
    learning_rate: float = option("at its highest", 1e-3)
    weight_decay: float = option("of AdamW", 0.01)
    max_length: int = option("tokens of a packed sequence", 256, least=1)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(ShapeOptions, RunOptions):
    """What `finetune` is told."""

    model: str = option("the target: a folder, a Hugging Face id, or builtin:NAME")
    answers: tuple[Path, ...] = option("folders that `distil` made")
    drafter: Path | None = option("pretrained, to go on with; unset: a new one (F-only)", None)
    keep: int = option("tokens that a new drafter knows; 0 is the whole vocabulary", 0)
    epochs: float = option("times that each answer is seen", 3.0, least=1e-6)
    batch: int = option("samples in a forward pass", 8, least=1)
    accumulate: int = option("forward passes in an optimizer step", 1, least=1)
    learning_rate: float = option("at its highest", 5e-4)
    max_length: int = option("longest prompt and answer; what is behind is cut", 1024, least=1)


def pretrain(options: PretrainOptions) -> dict[str, Any]:
    """Train a new drafter on text, or go on; returns what is noted in result.json.

    Raises:
        SetupError: Corpus, target, memory or disk are not fit, or the loss is no number.
    """
    folder = folder_of(options.model)
    chat = Chat.of(folder)
    end = chat.tokenizer.eos_token_id
    texts = [text for corpus in options.corpora for text in read_documents(corpus, "train")]
    documents = [[*chat.encode(text), end] for text in texts]
    answers = [each for one in options.answers for each in read_answers(one, chat)]
    vocabulary = _vocabulary(folder, chat, options.keep, answers, documents)
    drafter = Drafter.new(options, vocabulary, chat.identity, _CONTEXT, options.seed)
    items = _packed(documents, vocabulary, options.max_length)
    return _carry_out(options, drafter, items)


def finetune(options: FinetuneOptions) -> dict[str, Any]:
    """Train a drafter on the target's answers, or go on; returns what is noted in result.json.

    Raises:
        SetupError: Answers, target, memory or disk are not fit, or the loss is no number.
    """
    folder = folder_of(options.model)
    chat = Chat.of(folder)
    answers = [each for one in options.answers for each in read_answers(one, chat)]
    if options.drafter is None:
        vocabulary = _vocabulary(folder, chat, options.keep, answers, [])
        drafter = Drafter.new(options, vocabulary, chat.identity, _CONTEXT, options.seed)
    else:
        drafter = Drafter.load(options.drafter, "cpu")
        drafter.check(chat.identity, options.drafter)
    items = []
    for each in answers:
        tokens = drafter.vocabulary.own([*each.prompt, *each.answer])[: options.max_length]
        items.append((tokens, _labels(tokens, drafter.vocabulary, len(each.prompt))))
    learned = trained_on.digests_of(each.prompt for each in answers)
    if options.drafter is not None:
        learned |= trained_on.noted(options.drafter)
    return _carry_out(options, drafter, items, learned)


_CONTEXT = 8192
"""Longest context that a drafter is declared to take: its positions are rotary."""


def _vocabulary(
    folder: Path,
    chat: Chat,
    keep: int,
    answers: Sequence[Answer],
    documents: Sequence[Sequence[int]],
) -> Vocabulary:
    size = vocabulary_size(folder)
    if not keep:
        return Vocabulary(size)
    said = counted(each.answer for each in answers)
    read = counted([*documents, *(each.prompt for each in answers)])
    return Vocabulary(size, tuple(chosen([said, read], keep, chat.ends)))


def _packed(documents: Sequence[Sequence[int]], vocabulary: Vocabulary, length: int) -> list[Item]:
    """Cut all documents, one behind the other, into sequences of one length."""
    everything = np.concatenate([vocabulary.own(each) for each in documents])
    num = len(everything) // length
    if not num:
        raise SetupError(
            f"the corpus has {len(everything)} tokens, and a sequence {length}: give more text, or "
            "lower --max-length"
        )
    return [(row, _labels(row, vocabulary)) for row in everything[: num * length].reshape(num, -1)]


def _labels(tokens: Any, vocabulary: Vocabulary, num_prompt: int = 1) -> Any:
    """Return what is learned: nothing of a prompt, and no token that the drafter does not know."""
    labels = np.where(tokens == vocabulary.unknown, _NOT_LEARNED, tokens)
    labels[:num_prompt] = _NOT_LEARNED
    return labels


class _Sequences(Dataset[Item]):
    """Sequences in a drawn order."""

    def __init__(self, items: Sequence[Item], options: RunOptions, num: int) -> None:
        self._items = items
        self._order = Order(len(items), options.seed, options.batch, self._length)
        self._num = num

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index: int) -> Item:
        return self._items[self._order.place(index)]

    def _length(self, number: int) -> int:
        return len(self._items[number][0])

    def learned_tokens(self, num: int) -> dict[str, int]:
        """Return how many tokens the first `num` samples teach."""
        return {"learned_tokens": sum(int((self[n][1] >= 0).sum()) for n in range(num))}


class _NextTokenTrainer(RunTrainer):
    """The head is computed only where something is learned: it is most of a small model."""

    @staticmethod
    def collated(items: Sequence[Item]) -> dict[str, torch.Tensor]:
        shape = (len(items), max(len(tokens) for tokens, _ in items))
        rows = np.zeros(shape, dtype=np.int64), np.full(shape, _NOT_LEARNED)
        for number, item in enumerate(items):
            for row, values in zip(rows, item, strict=True):
                row[number, : len(values)] = values
        lengths = np.array([len(tokens) for tokens, _ in items])
        return {
            "tokens": torch.from_numpy(rows[0]),
            "learned": torch.from_numpy(rows[1]),
            "lengths": torch.from_numpy(lengths),
        }

    def num_tokens(self, inputs: dict[str, Any]) -> int:
        return int(inputs["lengths"].sum())

    def parts(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, float]]:
        following = inputs["learned"][:, 1:]
        is_learned = following >= 0
        with self.accelerator.autocast():
            # Padding is on the right: no token sees it.
            hidden = model.model(inputs["tokens"], use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1][is_learned])
        if not len(logits):
            return logits.sum() * 0, {}
        loss = functional.cross_entropy(logits.float(), following[is_learned])
        return loss, {"autoregressive": loss.item()}


def _carry_out(
    options: PretrainOptions | FinetuneOptions,
    drafter: Drafter,
    items: Sequence[Item],
    learned: Collection[bytes] = (),
) -> dict[str, Any]:
    check(options)
    if not any((labels != _NOT_LEARNED).any() for _, labels in items):
        raise SetupError(
            "the drafter would learn nothing: it knows no token of it (raise --keep), or "
            "--max-length ends within the prompts"
        )
    device = device_of(options.device)
    if device == "cpu":
        keep_memory()
    options = with_dtype(options, drafter.model.config.hidden_size, device)
    dataset = _Sequences(items, options, planned(options, len(items)))

    def save(trained: Any, folder: Path) -> None:
        trained.to(getattr(torch, options.dtype))
        Drafter(trained, drafter.vocabulary, drafter.tokenizer).save(folder)
        trained_on.note(folder, learned)

    model = drafter.model.to(device)
    facts = dataset.learned_tokens
    digest = hashlib.sha256()
    for tokens, _ in items:
        digest.update(np.asarray(tokens, dtype=np.int64).tobytes())
    data = {"num_samples": len(items), "samples_sha256": digest.hexdigest()}
    return carry_out(
        Job(options, model, dataset, _NextTokenTrainer, "model", save, facts, data=data)
    )
