"""One packed pass is all the blocks' own passes: logits, losses and gradients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.recipes.forwarding import batch_of, check_mask, logits_of, trajectories
from headstart.recipes.losses import losses_of
from headstart.recipes.noise import Shown
from headstart.recipes.packing import Pack, pack
from headstart.recipes.samples import Sample
from headstart.recipes.trajectories import blocks_of
from headstart.stages.errors import SetupError

VOCABULARY = 260


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return model.eval()


def close(one: torch.Tensor, other: torch.Tensor, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(one, other, rtol=rtol, atol=1e-5)


def alone(model: Any, tokens: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0]
    return logits


def case(
    seed: int, num_prompt: int, num_answer: int, size: int, offset: int
) -> tuple[list[int], list[Any], list[Shown]]:
    """Tokens, blocks and noise, all drawn; windows of one to three blocks."""
    random = np.random.default_rng(seed)
    tokens = random.integers(2, VOCABULARY, num_prompt + num_answer).tolist()
    blocks = blocks_of(num_prompt, num_answer, size, offset)
    shown = []
    window = 0
    for block in blocks:
        window += int(random.integers(3) == 0)
        tail = random.integers(2, VOCABULARY, random.integers(block.length)).tolist()
        shown.append(Shown(tail, window))
    return tokens, blocks, shown


CASES = st.tuples(
    *(st.integers(0, 9999), st.integers(1, 9), st.integers(1, 25)),
    *(st.integers(2, 7), st.integers(0, 4)),
)


@settings(max_examples=25)
@given(CASES)
def test_each_block_is_computed_as_if_alone_with_its_context(
    model: Any, drawn: tuple[int, int, int, int, int]
) -> None:
    tokens, blocks, shown = case(*drawn)
    item = pack(tokens, drawn[1], blocks, shown)
    # Beside another row, so that there is padding.
    other = pack([*tokens, *tokens], drawn[1], [], [])
    with torch.no_grad():
        found = logits_of(model, batch_of([item, other]))[0]

        close(found[: len(tokens)], alone(model, tokens))
        begin = len(tokens)
        context: list[int] = []
        for index, (block, state) in enumerate(zip(blocks, shown, strict=True)):
            if index == 0 or shown[index - 1].window != state.window:
                context = tokens[: block.start]
            context = [*context, *item.tokens[begin : begin + block.length].tolist()]
            meant = alone(model, context)[block.start :]
            close(found[begin : begin + block.length], meant)
            begin += block.length
    assert begin == len(item)


def test_losses_and_gradients_are_the_sums_of_those_alone(model: Any) -> None:
    tokens, blocks, shown = case(5, 4, 23, 6, 2)
    item = pack(tokens, 4, blocks, shown)
    batch = batch_of([item])
    losses = losses_of(
        logits_of(model, batch), *(batch[n] for n in ("tokens", "students", "teachers", "learned"))
    )
    (losses.consistency + 3 * losses.autoregressive).backward()  # type: ignore[no-untyped-call]
    packed = [each.grad.clone() for each in model.parameters()]
    model.zero_grad()

    teacher = alone(model, tokens).detach().log_softmax(-1)
    total, num = torch.zeros(()), 0
    context: list[int] = []
    for index, (block, state) in enumerate(zip(blocks, shown, strict=True)):
        if index == 0 or shown[index - 1].window != state.window:
            context = tokens[: block.start]
        right = block.length - len(state.tail)
        context = [*context, *tokens[block.start : block.start + right], *state.tail]
        said = alone(model, context).log_softmax(-1)
        for place in range(block.start + right, min(block.end, len(tokens) - 1)):
            total = total + (teacher[place].exp() * (teacher[place] - said[place])).sum()
            num += 1
    own = torch.nn.functional.cross_entropy(
        alone(model, tokens)[3:-1], torch.tensor(tokens[4:]), reduction="mean"
    )
    (total / num + 3 * own).backward()  # type: ignore[no-untyped-call]

    assert num == len(item.students) > 5
    close(losses.consistency, total / num)
    close(losses.autoregressive, own)
    for mine, each in zip(packed, model.parameters(), strict=True):
        close(mine, each.grad, rtol=1e-3)
    model.zero_grad()


def test_only_wrong_guesses_that_have_a_successor_are_students() -> None:
    tokens = list(range(10, 20))
    blocks = blocks_of(2, 8, 4)

    item = pack(tokens, 2, blocks, [Shown([99, 98], 0), Shown([97, 96, 95], 0)])

    assert item.tokens[10:].tolist() == [12, 13, 99, 98, 16, 97, 96, 95]
    assert item.students.tolist() == [12, 13, 15, 16]  # not behind the answer's last token
    assert item.teachers.tolist() == [4, 5, 7, 8]
    assert item.learned.tolist() == list(range(1, 9))
    clean = pack(tokens, 2, blocks, [Shown([], 0), Shown([], 0)])
    assert len(clean.students) == 0


def test_a_batch_without_noise_costs_nothing_and_can_be_learned_from(model: Any) -> None:
    batch = batch_of([pack([5], 1, [], [])])
    losses = losses_of(
        logits_of(model, batch), *(batch[n] for n in ("tokens", "students", "teachers", "learned"))
    )

    (losses.consistency + losses.autoregressive).backward()  # type: ignore[no-untyped-call]
    assert losses.consistency == losses.autoregressive == 0
    model.zero_grad()


def test_trajectories_end_at_the_model_s_own_greedy_answer(model: Any) -> None:
    samples = []
    for number, prompt in enumerate(([5, 6, 7], [8, 9])):
        tokens = list(prompt)
        for _ in range(19):
            tokens.append(int(alone(model, tokens)[-1].argmax()))
        empty: list[list[list[int]]] = [[], [], [], []]
        samples.append(Sample(number, prompt, tokens[len(prompt) :], 5, number, empty))

    for sample, by_block in zip(samples, trajectories(model, samples, seed=1), strict=True):
        for block, states in zip(sample.blocks, by_block, strict=True):
            assert states[-1] == sample.tokens[block.start : block.end]


class Heedless(torch.nn.Module):
    """A model that looks at all that came before, whatever the mask says."""

    device = torch.device("cpu")

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def forward(self, input_ids: Any, **_: Any) -> Any:
        return self._model(input_ids, use_cache=False)


def test_a_model_that_does_not_heed_the_mask_is_refused(model: Any) -> None:
    tokens, blocks, shown = case(5, 4, 23, 6, 2)
    item: Pack = pack(tokens, 4, blocks, shown)

    check_mask(model, item)
    with pytest.raises(SetupError, match="does not heed a mask"):
        check_mask(Heedless(model), item)
