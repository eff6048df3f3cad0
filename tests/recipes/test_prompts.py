"""Files of prompts, as people have them."""

import json
from pathlib import Path

import pytest

from headstart.recipes.prompts import read_prompts
from headstart.stages.errors import SetupError


def test_a_line_ends_at_a_line_feed_only(tmp_path: Path) -> None:
    said = "one\u2028two\x85three\x0cfour"
    file = tmp_path / "prompts.jsonl"
    rows = [{"question": said}, {"question": "five"}]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n")

    found = read_prompts(file)

    assert [prompt.messages[0]["content"] for prompt in found] == [said, "five"]


def test_plain_text_has_a_prompt_on_each_line_however_they_end(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"one\r\n\r\ntwo")

    assert [prompt.messages[0]["content"] for prompt in read_prompts(file)] == ["one", "two"]


def test_line_that_is_no_prompt_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"question": "one"}\n{"answer": "two"}\n')

    with pytest.raises(SetupError, match=r"prompts\.jsonl:2 is no prompt"):
        read_prompts(file)
