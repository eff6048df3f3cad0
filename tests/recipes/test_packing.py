"""One packed pass is all the blocks' own passes: logits, losses and gradients."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.recipes import attention, losses
from headstart.recipes.attention import PACKED, packed_attention, register
from headstart.recipes.forwarding import batch_of, behead, check_mask, outputs_of, trajectories
from headstart.recipes.losses import Losses, losses_of
from headstart.recipes.noise import Shown
from headstart.recipes.packing import Pack, pack
from headstart.recipes.samples import Sample
from headstart.recipes.trajectories import blocks_of
from headstart.stages.errors import SetupError

VOCABULARY = 260


@pytest.fixture(scope="module", params=["sdpa", PACKED])
def model(tiny_model: Path, request: pytest.FixtureRequest) -> Any:
    from transformers import AutoModelForCausalLM

    register()
    model: Any = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation=request.param
    )
    return model.eval()


def close(one: Any, other: Any, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(one, other, rtol=rtol, atol=1e-5)


def alone(model: Any, tokens: list[int]) -> torch.Tensor:
    """Its logits, by torch's own attention."""
    kind = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    logits: torch.Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0]
    model.set_attn_implementation(kind)
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


def seen(
    tokens: list[int], blocks: list[Any], shown: list[Shown]
) -> Iterator[tuple[int, int, list[int]]]:
    """Of each block that is packed: where that begins, where it is wrong, and up to its end."""
    opened, context = -1, list[int]()
    for block, state in zip(blocks, shown, strict=True):
        wrong = block.end - len(state.tail)
        if state.window != opened:
            context = tokens[: block.start]
        first = block.start if state.window == opened else wrong
        context = [*context, *tokens[block.start : wrong], *state.tail]
        if first < block.end:
            opened = state.window
            yield first, wrong, context


CASES = st.tuples(
    *(st.integers(0, 9999), st.integers(1, 9), st.integers(1, 25)),
    *(st.integers(2, 7), st.integers(0, 4)),
)


@settings(max_examples=25)
@given(CASES, st.integers(1, 3))
def test_each_block_is_computed_as_if_alone_with_its_context(
    model: Any, drawn: tuple[int, int, int, int, int], copies: int
) -> None:
    tokens, some, _ = case(*drawn)
    blocks, shown = [], []
    for copy in range(copies):
        noise = case(drawn[0] + copy, *drawn[1:])[2]
        shown += [Shown(each.tail, each.window + 100 * copy) for each in noise]
        blocks += some
    item = pack(tokens, drawn[1], blocks, shown)
    # Beside another row, so that there is padding.
    other = pack([*tokens, *tokens], drawn[1], [], [])
    with torch.no_grad():
        found = outputs_of(model, batch_of([item, other]))[0]

        close(found[: len(tokens)], alone(model, tokens))
        begin = len(tokens)
        for first, _, context in seen(tokens, blocks, shown):
            meant = alone(model, context)[first:]
            close(found[begin : begin + len(meant)], meant)
            begin += len(meant)
    assert begin == len(item)


LEARNING: dict[str, Any] = {"consistency_weight": 2.0, "ar_weight": 3.0, "label_smoothing": 0.1}


def losses_in(model: Any, item: Pack) -> tuple[Any, Losses]:
    """What a headless copy of a model is to learn from a pack, and the copy."""
    copy = deepcopy(model)
    head = behead(copy, item)
    batch = batch_of([item])
    parts = (batch[name] for name in ("tokens", "students", "teachers", "learned"))
    return copy, losses_of(outputs_of(copy, batch), head, *parts, **LEARNING)


@pytest.mark.parametrize("rows", [3, 128])
def test_losses_and_gradients_are_the_sums_of_those_alone(
    model: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(losses._ROWS, "cpu", rows)
    tokens, blocks, shown = case(5, 4, 23, 6, 2)
    again = [Shown(each.tail, each.window + 50) for each in case(6, 4, 23, 6, 2)[2]]
    item = pack(tokens, 4, blocks + blocks, shown + again)
    copy, found = losses_in(model, item)
    found.total.backward()  # type: ignore[no-untyped-call]

    teacher = alone(model, tokens).detach().log_softmax(-1)
    total, num = torch.zeros(()), 0
    for _, wrong, context in seen(tokens, blocks + blocks, shown + again):
        said = alone(model, context).log_softmax(-1)
        for place in range(wrong, min(len(context), len(tokens) - 1)):
            total = total + (teacher[place].exp() * (teacher[place] - said[place])).sum()
            num += 1
    own = torch.nn.functional.cross_entropy(
        alone(model, tokens)[3:-1], torch.tensor(tokens[4:]), label_smoothing=0.1
    )
    (2 * total / num + 3 * own).backward()  # type: ignore[no-untyped-call]

    assert num == len(item.students) > 10
    close(found.consistency, total.detach() / num)
    close(found.autoregressive, own.detach())
    for mine, each in zip(copy.parameters(), model.parameters(), strict=True):
        close(mine.grad, each.grad, rtol=1e-3)
    model.zero_grad()


@pytest.mark.parametrize("heads", [1, 3])
def test_packed_attention_is_torch_s_own(heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_ROWS", 5)
    torch.manual_seed(0)
    mask = (torch.rand(2, 1, 17, 17) < 0.5).tril() | torch.eye(17, dtype=torch.bool)
    shapes = ((2, 3, 17, 8), (2, heads, 17, 8), (2, heads, 17, 8))
    mine = [torch.randn(shape, requires_grad=True) for shape in shapes]
    theirs = [each.detach().clone().requires_grad_() for each in mine]
    slopes = torch.randn(2, 17, 3, 8)

    query, key, value = mine
    found, _ = packed_attention(torch.nn.Module(), query, key, value, mask, scaling=0.3)
    query, key, value = (each.repeat_interleave(3 // each.shape[1], dim=1) for each in theirs)
    meant = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3
    )
    found.backward(slopes)  # type: ignore[no-untyped-call]
    meant.backward(slopes.transpose(1, 2))  # type: ignore[no-untyped-call]

    close(found, meant.transpose(1, 2))
    for one, other in zip(mine, theirs, strict=True):
        close(one.grad, other.grad)


def test_only_wrong_guesses_that_have_a_successor_are_students() -> None:
    tokens = list(range(10, 20))
    blocks = blocks_of(2, 8, 4)

    item = pack(tokens, 2, blocks, [Shown([99, 98], 0), Shown([97, 96, 95], 0)])

    assert item.tokens[10:].tolist() == [99, 98, 16, 97, 96, 95]
    assert item.sights[10:].tolist() == [4] * 6
    assert item.students.tolist() == [10, 11, 13, 14]  # not behind the answer's last token
    assert item.teachers.tolist() == [4, 5, 7, 8]
    assert item.learned.tolist() == list(range(1, 9))
    clean = pack(tokens, 2, blocks, [Shown([], 0), Shown([], 0)])
    assert len(clean.students) == 0
    assert len(clean) == len(tokens)


def test_a_batch_without_noise_costs_nothing_and_can_be_learned_from(model: Any) -> None:
    _, found = losses_in(model, pack([5], 1, [], []))

    found.total.backward()  # type: ignore[no-untyped-call]
    assert found.total == found.consistency == found.autoregressive == 0


def test_a_model_whose_logits_are_no_plain_product_is_refused(model: Any) -> None:
    item = pack([5, 6, 7], 1, [], [])
    capped = deepcopy(model)
    whole = capped.forward
    capped.forward = lambda **inputs: SimpleNamespace(logits=whole(**inputs).logits.clamp(max=0))

    with pytest.raises(SetupError, match="more to its logits"):
        behead(capped, item)


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
