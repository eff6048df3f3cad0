"""Tokenizers of five model families and one that is real, without a download.

Each is built as the family's is (normaliser, how text is split, fallback to bytes) and trained on
a few lines, which is enough for merges that depend on what comes next. Each is used with its
family's chat template.
"""

from collections.abc import Callable
from functools import cache

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from headstart.cluster.model_source import resolve
from headstart.configs.fields import default_cache_dir
from headstart.stages.errors import SetupError

Rendering = Callable[[str], list[int]]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_QWEN = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    + _CONTRACTIONS
    + r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    + _CONTRACTIONS
    + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CORPUS = [
    "The trains leave at 10:45, don't they? I'll say: 12345 of them (or more)...\n\n",
    "    def add(first, second):\n        return first + second  # 3.14159\n\n\n",
    "今天天气很好，我们去公园吧。你觉得呢？好的！今天天气真的很好。",  # noqa: RUF001
    "今日は天気がいいですね。公園へ行きましょう、そうしましょう。",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "วันนี้อากาศดี ไปสวนสาธารณะกันเถอะ", "هل تعلم؟ نعم، أعلم ذلك جيدا. شكرا",
    "한국어 문장도 있습니다. 정말 좋아요!", "Zażółć gęślą jaźń, café naïve été 🎈🎈 ½ €5",
] * 20  # fmt: skip


@cache
def family(name: str) -> Rendering:
    """How a model of the family renders a conversation that ends with the user's text."""
    tokenizer, template = _FAMILIES[name]()
    return lambda text: tokenizer.encode(template(text), add_special_tokens=False).ids


def _byte_level(pattern: str, special: list[str], *, is_nfc: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    if is_nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = BpeTrainer(
        vocab_size=1500,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return tokenizer


def _sentence_piece(special: list[str], *, is_stripping: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    # For training only: pieces do not cross words there, while encoding takes text as a whole.
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = BpeTrainer(
        vocab_size=1800, show_progress=False, special_tokens=["<unk>", *byte_tokens]
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, rstrip=is_stripping) for text in special]
    )
    return tokenizer


def _qwen() -> tuple[Tokenizer, Callable[[str], str]]:
    tokenizer = _byte_level(_QWEN, ["<|im_start|>", "<|im_end|>"], is_nfc=True)
    return tokenizer, _chat_ml


def _chat_ml(text: str) -> str:
    return (
        "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\n"
        f"{text}<|im_end|>\n<|im_start|>assistant\n"
    )


def _llama3() -> tuple[Tokenizer, Callable[[str], str]]:
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return (
        _byte_level(_LLAMA3, special),
        lambda text: (
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
            f"{text.strip()}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
    )


def _gpt_oss() -> tuple[Tokenizer, Callable[[str], str]]:
    special = ["<|start|>", "<|message|>", "<|end|>"]
    return _byte_level(
        _O200K, special
    ), lambda text: f"<|start|>user<|message|>{text}<|end|><|start|>assistant"


def _mistral() -> tuple[Tokenizer, Callable[[str], str]]:
    return _sentence_piece(
        ["<s>", "[INST]", "[/INST]"]
    ), lambda text: f"<s>[INST] Be brief.\n\n{text} [/INST]"


def _gemma() -> tuple[Tokenizer, Callable[[str], str]]:
    return _sentence_piece(
        ["<bos>", "<start_of_turn>", "<end_of_turn>"]
    ), lambda text: f"<bos><start_of_turn>user\n{text.strip()}<end_of_turn>\n<start_of_turn>model\n"


def _phi3() -> tuple[Tokenizer, Callable[[str], str]]:
    special = ["<|user|>", "<|end|>", "<|assistant|>"]
    return _sentence_piece(
        special, is_stripping=True
    ), lambda text: f"<|user|>\n{text}<|end|>\n<|assistant|>\n"


def _smollm2() -> tuple[Tokenizer, Callable[[str], str]]:
    try:
        folder = resolve("builtin:smollm2-135m-instruct", default_cache_dir())
    except SetupError as error:
        pytest.skip(error.message)
    return Tokenizer.from_file(str(folder / "tokenizer.json")), _chat_ml


_FAMILIES: dict[str, Callable[[], tuple[Tokenizer, Callable[[str], str]]]] = {
    "qwen": _qwen,
    "llama 3": _llama3,
    "gpt-oss": _gpt_oss,
    "mistral": _mistral,
    "gemma": _gemma,
    "phi 3": _phi3,
    "smollm2 itself": _smollm2,
}
FAMILIES = tuple(_FAMILIES)
CORPUS = _CORPUS[:9]
