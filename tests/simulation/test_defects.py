"""The simulation finds what it is for: each planted defect breaks a law within the same seeds."""

from __future__ import annotations

import re

import pytest

from tests.simulation.defects import DEFECTS, Defect
from tests.simulation.history import run_history
from tests.simulation.test_histories import SEEDS

NEVER = r"applied 0 times"
TWICE = r"applied [23] times"
DISORDER = r"key .*: \d+ after \d+"
SET_BACK = r"was folded, \d+ is committed"
PAUSED = r"a batch begins, but .* is paused"
HELD = r"begin, but .* is held"
KEPT_NOWHERE = r"poison records are no dead letters"
TOO_EARLY = r"was committed, but not applied"

FINDS = {
    "fence_dropped": f"{TWICE}|{DISORDER}",
    "leases_outlive_their_server": f"{NEVER}|{DISORDER}|differ",
    "fold_from_memory": f"{NEVER}|{SET_BACK}",
    "lost_commits_taken_for_a_move": NEVER,
    "ledger_in_another_transaction": f"{TWICE}|{DISORDER}",
    "commit_before_apply": TOO_EARLY,
    "fold_before_commit": SET_BACK,
    "keys_in_another_transaction": r"key k\d+ was applied 0 times",
    "keys_of_a_batch_alone": r"key k\d+ was applied \d+ times",
    "channel_freed_early": DISORDER,
    "retry_without_looking": f"{TWICE}|{DISORDER}",
    "pause_unseen_by_a_new_owner": PAUSED,
    "pause_unseen_in_the_queue": f"{PAUSED}|{HELD}",
    "nobody_woken_after_a_pause": "no progress",
    "lane_opened_after_passing_over": f"{TOO_EARLY}|{NEVER}",
    "lane_closed_too_early": f"{NEVER}|{KEPT_NOWHERE}",
    "lane_begins_before_its_turn": DISORDER,
    "lane_answers_for_what_is_applied": TWICE,
    "lane_folds_what_it_has_read": f"{NEVER}|no progress",
    "two_lanes_both_answer": TWICE,
    "lane_closed_while_another_is_ahead": TWICE,
    "failed_record_counts_as_done_without_a_lane": "only admitted offsets are done",
    "key_of_a_failed_record_goes_on": f"{TWICE}|{DISORDER}",
}
"""What the broken law says, for each defect."""


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_planted_defect_is_found(defect: Defect) -> None:
    with defect() as make_database:
        for seed in range(SEEDS):
            outcome = run_history(seed, make_database)
            if outcome.violations:
                break
        else:
            pytest.fail(f"no law was broken in {SEEDS} histories")
    told = "\n".join(outcome.violations)
    assert re.search(FINDS[defect.__name__], told), str(outcome)
    assert not run_history(seed).violations, "without the defect the same history is right"
