"""The router's judge counts what is told, by form, and what is sent to a drafter by mistake."""

import json
from pathlib import Path

from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.language import FORMS, Told, checks, run, told
from headstart.benchmarks.options import BenchOptions
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings

SETTINGS = Settings(models=(ModelSettings(name="any", source="a/b"),))


def of(language: str, said: str | None, *, is_short: bool = False) -> Told:
    return Told(language, "text", is_short, dict.fromkeys(FORMS, said), (0.0001,) * len(FORMS))


def verdicts(sentences: list[Told], code: list[Told], others: list[Told]) -> dict[str, Verdict]:
    return {each.bar.name: each.verdict for each in checks(sentences, code, others)}


def test_a_share_holds_fails_or_is_left_open_by_its_interval() -> None:
    good = [of("de", "de") for _ in range(300)]
    found = verdicts([*good, *(of("de", "de", is_short=True) for _ in good)], [of("", None)], good)
    assert found["right_whole_kept"] is found["right_cut_behind"] is Verdict.HOLDS
    assert found["others_drafted"] is Verdict.FAILS  # `good` are told to be German
    assert found["code_drafted"] is found["mean_time"] is Verdict.HOLDS

    some_bad = [*good, *(of("de", None) for _ in range(7)), of("de", "de", is_short=True)]
    assert verdicts(some_bad, [of("", "en")], [of("ko", "ko")])["right_whole_kept"] is (
        Verdict.UNDECIDED
    )
    bad = [of("de", "en") for _ in range(30)] + [of("de", "en", is_short=True) for _ in range(30)]
    found = verdicts(bad, [of("", "de")], [of("ko", "ko")])
    assert found["right_whole_removed"] is found["right_cut_kept"] is Verdict.FAILS
    assert found["code_drafted"] is Verdict.FAILS


def test_one_form_that_is_told_wrong_spoils_no_other() -> None:
    one = told("de", "Der Bahnhof war am frühen Morgen noch leer, und der Kiosk hatte geschlossen.")
    assert all(map(one.is_right, FORMS))
    assert len(one.seconds) == len(FORMS)
    assert not told("fr", one.text).is_right("removed")


def test_without_the_sets_nothing_is_judged_and_the_report_names_them(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    run(SETTINGS, BenchOptions(json_path=out, is_quick=True, data_dir=tmp_path))
    found = json.loads(out.read_text())["checks"]
    assert {each["verdict"] for each in found} == {"not_measured"}
    assert "translate_to_en.jsonl" in json.dumps(found)
