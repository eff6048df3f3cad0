"""What a metric cannot judge and sizes that nothing takes are refused before there are answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.recipes import collecting, consistency, evaluating
from headstart.recipes.checking import check_metric
from headstart.recipes.prompts import read_prompts
from headstart.stages.errors import SetupError
from tests.recipes.tiny_runs import argv_of

SQL = {
    "prompt": "Who?",
    "ddl": "CREATE TABLE t (id INTEGER PRIMARY KEY, city TEXT)",
    "databases": [[[1, "Oslo"], [2, "Lima"]]],
    "answer": "SELECT city FROM t",
    "is_ordered": False,
}
NUMBER = {"question": "6 * 7?", "answer": "6 * 7 is #### 42"}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(params=[collecting, evaluating])
def begin(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Begin a step, which may not get as far as its model."""
    module = request.param
    monkeypatch.delattr(module, "folder_of")

    def run(prompts: Path, **options: Any) -> None:
        told = {"model": "x", "prompts": prompts, "out": tmp_path / "out", **options}
        if module is collecting:
            collecting.collect(collecting.CollectOptions(**told))
        else:
            evaluating.evaluate(evaluating.EvaluateOptions(**told))

    return run


@pytest.mark.parametrize(
    ("metric", "right", "other"),
    [
        ("gsm8k", NUMBER, {"question": "?"}),
        ("gsm8k", NUMBER, {"question": "?", "answer": 42}),
        ("gsm8k", NUMBER, {"question": "?", "answer": "many"}),
        ("sql", SQL, NUMBER),
        ("sql", SQL, SQL | {"databases": [["Oslo"]]}),
        ("sql", SQL, SQL | {"ddl": "CREATE"}),
        ("sql", SQL, SQL | {"answer": "SELECT nothing FROM t"}),
    ],
)
def test_a_line_that_a_metric_cannot_judge_is_named_at_once(
    begin: Any, tmp_path: Path, metric: str, right: dict[str, Any], other: dict[str, Any]
) -> None:
    prompts = written(tmp_path, right, other)

    with pytest.raises(SetupError, match=rf"prompts\.jsonl:2 is not fit for --metric {metric}"):
        begin(prompts, metric=metric)

    check_metric(metric, read_prompts(prompts, num=1), prompts)
    check_metric("none", read_prompts(prompts), prompts)


@pytest.mark.parametrize("step", ["collect", "evaluate"])
@pytest.mark.parametrize(
    ("option", "value"),
    [("block_tokens", 1), ("block_tokens", 66), ("batch", 0), ("pack_batch", 0), ("num", 0)],
)
def test_sizes_out_of_bounds_are_refused_at_once(
    tmp_path: Path, step: str, option: str, value: int
) -> None:
    told = {"model": "x", "prompts": written(tmp_path, NUMBER), "out": tmp_path, option: value}
    with pytest.raises(SetupError, match=f"--{option.replace('_', '-')} takes"):
        consistency.main(argv_of(step, **told))
