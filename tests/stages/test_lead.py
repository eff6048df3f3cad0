"""By how much a request is ahead of plain decoding, and how far it may fall behind."""

import pytest

from headstart.stages.lead import Lead


def test_lead_is_what_its_tokens_take_without_drafts_over_what_its_steps_took() -> None:
    lead = Lead()
    lead.step(3, plain_s=0.1, taken_s=0.15)
    assert lead.seconds == pytest.approx(0.15)

    lead.step(1, plain_s=0.1, taken_s=0.35)
    assert lead.num_tokens == 4
    assert lead.seconds == pytest.approx(-0.1)


def test_slack_grows_with_the_answer_and_a_short_one_has_some() -> None:
    short, long = Lead(), Lead()
    for _ in range(100):
        long.step(1, plain_s=0.1, taken_s=0.1)

    assert short.slack_s(plain_s=0.1, max_slowdown=0.03) == pytest.approx(32 * 0.003)
    assert long.slack_s(plain_s=0.1, max_slowdown=0.03) == pytest.approx(100 * 0.003)
    long.step(1, plain_s=0.1, taken_s=0.4)
    assert long.slack_s(plain_s=0.1, max_slowdown=0.03) == pytest.approx(101 * 0.003 - 0.3)
