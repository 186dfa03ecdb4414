"""What the index and the answers promise holds on PostgreSQL too: the tests of SQLite, again."""

from __future__ import annotations

import pytest

from tests.core.runs.reporting.test_recorder import (  # noqa: F401 - fixtures and tests
    clock,
    folder,
    test_dice_so_far_is_in_state_and_index_before_a_best_epoch_is_chosen,
    test_index_is_complete_before_the_final_state_is_written,
    test_index_rebuilt_between_file_and_index_holds_each_value_once,
    test_resumed_run_replaces_the_rows_after_its_checkpoint,
    test_row_that_the_index_missed_before_a_kill_is_added_on_resume,
    test_state_and_index_are_written_once_a_second_at_most,
    test_values_measured_again_at_the_resumed_step_replace_the_earlier_ones,
)
from tests.core.runs.store.test_index import (  # noqa: F401
    test_ids_are_not_reused,
    test_synchronized_values_equal_the_rows_and_ids_grow,
    test_values_are_added_only_after_the_expected_one,
)
from tests.core.runs.test_review_notes import (  # noqa: F401
    model,
    test_notes_are_changed_removed_and_read_in_the_order_of_their_first_writing,
    test_notes_that_another_program_wrote_are_listed,
)
from tests.core.study.test_answers import (  # noqa: F401
    test_game_is_found_by_a_prefix_of_its_id,
    test_question_is_answered_once,
    test_rebuilding_the_index_keeps_the_answers,
    test_saved_answer_survives_a_kill,
    test_saved_answers_are_read_unchanged,
)

pytestmark = [pytest.mark.long, pytest.mark.cluster]
