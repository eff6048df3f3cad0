"""A drafter that knows less says the same of what it knows, also at the target's size."""

from collections import Counter

import pytest
import torch

from headstart.recipes.drafter_model import Drafter, ShapeOptions
from headstart.recipes.trimming import cut, widened
from headstart.recipes.vocabulary import Vocabulary, chosen
from headstart.stages.errors import SetupError

SIZE = 50
SHAPE = ShapeOptions(layers=2, hidden_size=32, heads=2)


@pytest.fixture
def whole() -> Drafter:
    made = Drafter.new(SHAPE, Vocabulary(SIZE), "x", 64, 0)
    with torch.no_grad():  # norms that are not all one
        for name, each in made.model.named_parameters():
            if name.endswith("norm.weight"):
                each.add_(torch.rand(each.shape))
            else:
                each.mul_(10)
    return made


def test_what_a_trimmed_drafter_knows_it_says_as_before(whole: Drafter) -> None:
    kept = tuple(range(0, SIZE, 3))
    small = cut(whole, kept)
    tokens = [3, 9, 27, 0, 48]

    with torch.inference_mode():
        before = whole.model(torch.tensor([tokens])).logits[0][:, list(kept)]
        after = small.model(torch.from_numpy(small.vocabulary.own(tokens))[None]).logits[0]

    torch.testing.assert_close(after[:, :-1], before)
    assert small.model.config.vocab_size == len(kept) + 1
    said = small.drafts([1, 2, 3], [4, 5, 6])
    assert len(said) == 3
    assert set(said) <= set(kept)
    again = cut(small, kept[:5])
    assert again.vocabulary.kept == kept[:5]
    torch.testing.assert_close(
        again.model.lm_head.weight[:5], whole.model.lm_head.weight[list(kept[:5])]
    )


def test_at_the_target_s_size_it_says_the_same_and_never_what_was_cut_off(whole: Drafter) -> None:
    kept = tuple(range(0, SIZE, 3))
    small = cut(whole, kept)
    wide = widened(small)
    tokens = [3, 9, 10, 27, 0, 48, 1]

    with torch.inference_mode():
        own = torch.from_numpy(small.vocabulary.own(tokens))[None]
        meant = small.model(own).logits[0][:, :-1]
        found = wide(torch.tensor([tokens])).logits[0]

    assert wide.config.vocab_size == SIZE
    torch.testing.assert_close(found[:, list(kept)], meant, rtol=1e-3, atol=1e-4)
    cut_off = [token for token in range(SIZE) if token not in kept]
    assert found[:, cut_off].max() < meant.min() - 1000


def test_what_is_used_most_is_kept_of_a_short_text_as_of_a_long_one() -> None:
    answers, corpus = Counter({7: 5, 3: 9, 1: 1}), Counter({2: 1000, 4: 10, 7: 1})

    assert chosen([answers, corpus], 4, [0]) == [0, 2, 3, 7]
    assert chosen([answers, corpus], 2, [0]) == [0, 2]
    assert chosen([answers, corpus], 0, [0]) == [0, 1, 2, 3, 4, 7]
    assert chosen([answers, Counter()], 2, [0]) == [0, 3]


def test_a_vocabulary_goes_to_disk_and_back() -> None:
    some = Vocabulary(9, (1, 4, 8))

    assert some.own([4, 0, 8, 1]).tolist() == [1, 3, 2, 0]
    assert Vocabulary.of_json(some.as_json()) == some
    assert Vocabulary.of_json(Vocabulary(9).as_json()).own([8]).tolist() == [8]
    with pytest.raises(SetupError, match="damaged"):
        Vocabulary.of_json({"size": 9, "kept": [4, 1]})
