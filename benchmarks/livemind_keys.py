"""Whether thoughts keep to the budgets of keys that many sessions share, in virtual time."""

import heapq
import random
from collections.abc import Sequence

from headstart.benchmarks.checks import Bar, Check, judge
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.livemind_replay import Arm, Session
from headstart.benchmarks.livemind_tokens import Tokens
from headstart.benchmarks.livemind_typing import haltingly
from headstart.benchmarks.mmlu_pro import Question
from headstart.benchmarks.report import Table
from headstart.stages.rate_limit import Bucket
from headstart.stages.warm_budget import TokenBudget

__all__ = ["BUDGET", "EDITED", "SESSIONS", "is_over", "shared_keys"]

_SEED = 42
SESSIONS, KEYS, KEY_TOKENS = 1000, 20, 80
"""Sessions that share keys, and what each key may have thought a minute."""
ARRIVAL_S = 2.0
"""Between two sessions."""

BUDGET = Bar("keys_over_their_thought_budget", 0.0, "lower", "keys")
EDITED = Bar("answers_with_thoughts_edited_away", 0.0, "lower", "answers")


def shared_keys(
    asked: Sequence[Question], tokens: Tokens, arms: Sequence[Arm]
) -> tuple[Table, list[Check]]:
    """Many sessions at once, typed with pauses and corrections, on keys with small budgets."""
    chooser = random.Random(_SEED)  # noqa: S311 - a simulation
    buckets = [Bucket(KEY_TOKENS) for _ in range(KEYS)]
    sessions: list[tuple[int, Session]] = []
    for number in range(SESSIONS):
        question = asked[number % len(asked)]
        edits = tuple(haltingly(question.text, chooser, number * ARRIVAL_S))
        key = number % KEYS
        arm = arms[number % len(arms)]
        budget = TokenBudget(buckets[key])
        sessions.append((key, Session(question, edits, arm, tokens, budget)))
    heap = [(session.due, number) for number, (_, session) in enumerate(sessions)]
    heapq.heapify(heap)
    now = 0.0
    while heap:
        due, number = heapq.heappop(heap)
        session = sessions[number][1]
        now = max(now, due)
        session.step(now)
        if session.timed is None:
            heapq.heappush(heap, (session.due, number))
    timed = [session.timed for _, session in sessions if session.timed is not None]
    over = sum(is_over(key, sessions, KEY_TOKENS) for key in range(KEYS))
    wrong = sum(one.is_wrong for one in timed)
    starved = sum(session.num_starved for _, session in sessions)
    made = sum(num for _, session in sessions for _, num in session.made)
    table = Table(
        "Replay (a simulation): sessions that share keys, typed with pauses and corrections",
        ("sessions", "keys", "tokens_a_minute", "thought_tokens", "times_starved", "thoughts_used"),
        ((len(timed), KEYS, KEY_TOKENS, made, starved, sum(one.num_thoughts for one in timed)),),
    )
    return table, [judge(BUDGET, exactly(over)), judge(EDITED, exactly(wrong))]


def is_over(key: int, sessions: Sequence[tuple[int, Session]], per_minute: int) -> bool:
    """Whether a key's thoughts took more in any stretch of time than its budget allows.

    That is a minute's worth and what comes in meanwhile, added up here without what keeps to it.
    """
    made = sorted(one for owner, session in sessions if owner == key for one in session.made)
    for first, (began, _) in enumerate(made):
        spent = 0
        for at, num_tokens in made[first:]:
            spent += num_tokens
            if spent > per_minute * (1 + (at - began) / 60) + 1e-6:
                return True
    return False
