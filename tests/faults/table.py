"""The kinds of fault, and which tests reproduce each: on real servers wherever the fault is theirs."""

from __future__ import annotations

import attrs


@attrs.frozen
class Fault:
    """A kind of fault.

    Attributes:
        name: short, and for good: reports are compared by it.
        holds: what must hold instead.
        tests: ``FILE::FUNCTION`` below tests/, without parameters.
    """

    name: str
    holds: str
    tests: tuple[str, ...]


def fault(name: str, holds: str, *tests: str) -> Fault:
    return Fault(name, holds, tests)


WHOSE = "integration/test_whose_fault.py"
ROWS = "values/test_rows.py"
VALUES = "values/test_values.py"
CHECK = "integration/test_check.py"
TOPICS = "integration/test_recreated_topic.py"
LETTERS = "integration/test_dead_letter_topic.py"
MEMBERS = "integration/test_membership.py"
SECURED = "integration/test_security.py"
FATAL = "integration/test_fatal.py"
LOST = "integration/test_lost_commits.py"
POOLER = "integration/test_pooler.py"
BY_WHOM = "unit/test_whose_fault.py"

POSTGRES = (
    fault("lost-commits", "what a failover, a crash or a restore took back is applied again",
          f"{LOST}::test_a_standby_that_was_behind_is_promoted_under_load",
          f"{LOST}::test_a_standby_that_was_behind_is_promoted_while_nothing_is_written",
          f"{LOST}::test_a_base_backup_is_restored_while_no_instance_runs"),
    fault("isolation", "another default isolation level, DateStyle or time-out changes nothing",
          "integration/test_session.py::test_sessions_are_pinned"),
    fault("conditions", "conditions of the table meet the row as merged",
          f"{ROWS}::test_conditions_meet_the_row_as_merged"),
    fault("changed-types", "a column's type that changes is noticed before the next value",
          "values/test_applier.py::test_a_type_that_changes_while_running_is_noticed_before_the_next_value",
          "values/test_applier.py::test_a_value_that_only_the_new_type_takes_is_no_dead_letter"),
    fault("digits", "numbers keep their digits; a number is no date; base64, jsonb[] and times are exact",
          f"{VALUES}::test_the_table_on_the_newest_server",
          f"{VALUES}::test_the_table_on_the_oldest_server"),
    fault("whose-fault", "a value that no SQLSTATE of data names is a dead letter, and stops nobody else",
          f"{WHOSE}::test_a_bad_value_is_a_dead_letter_whatever_its_sqlstate"),
    fault("batch-in-time", "a batch that can't be done in its time is cut",
          f"{WHOSE}::test_a_batch_that_is_slower_than_the_timeout_is_cut"),
    fault("schema", "a shard whose table or grant is broken stops alone, and works again when it is mended",
          f"{WHOSE}::test_a_shard_that_was_stopped_works_again_by_itself_when_it_is_mended",
          f"{BY_WHOM}::test_a_shard_stops_alone_while_others_work_and_heals_when_it_is_mended"),
    fault("read-only", "a server that became read-only is left for one that takes writes",
          "integration/test_addresses.py::test_a_primary_that_is_demoted_is_left_though_it_lives_on"),
    fault("large-letters", "a dead letter that is too large is kept in a lesser form",
          f"{LETTERS}::test_what_the_topic_refuses_is_kept_in_a_lesser_form_and_all_others_as_they_are"),
    fault("column-grants", "grants on columns suffice, and one that is missing is told",
          "values/test_privileges.py::test_the_columns_that_are_asked_for_suffice_and_each_is_needed",
          f"{CHECK}::test_a_role_with_grants_on_columns_is_told_which_is_missing"),
    fault("conflicts-elsewhere", "insert passes over conflicts of its own key alone",
          f"{ROWS}::test_insert_passes_over_conflicts_of_its_key_alone"),
    fault("equal-to-postgres", "keys that only Postgres holds equal are one row",
          f"{ROWS}::test_keys_that_postgres_alone_holds_equal_are_refused_together",
          "integration/test_sink.py::test_rows_that_postgres_alone_sees_as_one_are_for_trying_apart"),
    fault("padded-keys", "char(n) keys meet their rows in each mode",
          f"{ROWS}::test_padded_keys_are_the_rows_that_they_are_in_postgres"),
    fault("rounded-sums", "sums don't depend on batches",
          f"{ROWS}::test_rounded_sums_do_not_depend_on_batches"),
    fault("mixed-case", "names follow the rules of SQL",
          f"{ROWS}::test_names_follow_the_rules_of_sql"),
    fault("published", "a publication for all tables does not keep the ledger from folding",
          "integration/test_folding.py::test_a_publication_for_all_tables_lets_the_ledger_fold"),
    fault("odd-values", "odd times, domains and stored arrays are as written or refused, never by the clock",
          f"{VALUES}::test_the_table_on_the_newest_server",
          f"{ROWS}::test_domains_of_domains_and_stored_arrays_are_what_they_hold"),
    fault("anothers-tables", "tables of somebody else with the ledger's names are told, with what to do",
          "integration/test_folding.py::test_tables_of_somebody_else_with_the_ledgers_names_are_told"),
    fault("dsn", "what a DSN sets for connecting stays here; the files that it names are looked at first",
          "unit/test_address.py::test_what_the_dsn_sets_on_the_server_is_kept_apart",
          "unit/test_config_security.py::test_a_file_that_a_dsn_names_is_looked_at_first"),
    fault("retries-told", "what is tried again is told when it begins, and then once per minute, louder",
          "unit/test_breaker.py::test_a_shard_that_stays_away_is_told_of_once_per_minute",
          "unit/test_breaker.py::test_what_recurs_is_told_at_first_and_then_once_per_minute"),
    fault("silent-check", "identities, deferrable keys, read-only roles are found before they stop a run",
          f"{ROWS}::test_update_with_the_key_alone_and_identities_that_are_always_generated",
          f"{CHECK}::test_a_role_that_may_only_read_is_told"),
    fault("refused-though-right", "indexes that include more, and views, are taken",
          f"{ROWS}::test_a_unique_index_may_include_more_and_a_view_is_its_tables"),
    fault("absent", "an absent field leaves the stored value alone; null is null",
          f"{ROWS}::test_an_absent_field_leaves_the_stored_value_alone",
          f"{ROWS}::test_in_insert_an_absent_field_is_the_default",
          f"{ROWS}::test_absent_can_be_null_or_refused"),
    fault("locks", "a lock holds up its own rows", f"{BY_WHOM}::test_a_lock_holds_up_its_own_rows"),
    fault("cached-plans", "a plan that is old is made again",
          "unit/test_whose_fault.py::test_a_cached_plan_that_is_old_is_made_again"),
    fault("several-hosts", "a DSN of several hosts works",
          "unit/test_address.py::test_of_several_hosts_one_that_takes_writes_is_wanted"),
    fault("poolers", "PgBouncer in transaction mode with its default settings works",
          f"{POOLER}::*"),
)  # fmt: skip

KAFKA = (
    fault("refused-letter", "one dead letter that is refused stops no other",
          f"{LETTERS}::test_what_the_topic_refuses_is_kept_in_a_lesser_form_and_all_others_as_they_are",
          f"{LETTERS}::test_rights_that_are_missing_are_named_and_heal_when_granted",
          f"{LETTERS}::test_a_letter_that_is_refused_in_every_form_is_told_and_kept_when_mended",
          "unit/test_rejections.py::test_letters_that_wait_take_no_slot_from_other_partitions"),
    fault("keyless-letter", "a dead letter without a key is kept whole where its topic demands one",
          f"{LETTERS}::test_a_compacted_topic_keeps_letters_without_a_key_whole"),
    fault("silent-letter", "a dead letter that waits is told each minute, and stops no other",
          "unit/test_waiting_letters.py::*"),
    fault("topic-made-anew", "a topic that is deleted and made anew is read from its first record",
          f"{TOPICS}::test_a_topic_made_anew_while_an_instance_does_not_look_is_read_from_its_start",
          f"{TOPICS}::test_a_topic_made_anew_under_load_loses_nothing_of_the_new_one"),
    fault("out-of-range", "what retention took is told, and all that is left is applied",
          f"{TOPICS}::test_what_retention_took_is_told_and_all_that_is_left_is_applied"),
    fault("odd-headers", "a header that is no UTF-8 stops nothing",
          f"{MEMBERS}::test_a_header_name_that_is_not_utf8_stops_nothing"),
    fault("markers", "control records and aborted ones are no lag and are not applied",
          "integration/test_markers.py::test_markers_and_aborted_records_are_no_lag_and_are_not_applied",
          "integration/test_lag.py::test_offsets_that_hold_no_record_are_no_lag"),
    fault("spare", "an instance without partitions is ready and says that it is a spare",
          f"{MEMBERS}::test_an_instance_without_partitions_is_ready_and_says_so"),
    fault("one-instance-id", "of two with one group_instance_id the older one ends",
          f"{MEMBERS}::test_of_two_with_one_group_instance_id_the_older_ends"),
    fault("made-by-reading", "nothing here makes topics",
          "unit/test_options.py::test_no_client_creates_topics",
          f"{MEMBERS}::test_a_topic_that_does_not_exist_is_told_and_waited_for",
          f"{LETTERS}::test_a_topic_that_is_missing_is_found_at_the_start_and_not_made"),
    fault("refused", "who is refused is told why, by each command in the same words",
          f"{SECURED}::test_who_is_refused_is_told_why_by_every_command",
          f"{SECURED}::test_a_foreign_authority_is_told_by_the_option_to_mend"),
    fault("odd-times", "a timestamp in microseconds is shown as what it is",
          "unit/test_typed.py::test_a_dead_letter_with_a_timestamp_in_microseconds_is_shown"),
    fault("rights", "rights that are missing are found by check, with what to grant",
          f"{SECURED}::test_rights_that_are_missing_are_told_all_at_once",
          f"{MEMBERS}::test_rights_that_are_missing_are_told_with_what_to_grant"),
    fault("membership-over", "what ends a membership for good ends the process",
          f"{MEMBERS}::test_a_right_that_is_taken_away_ends_the_process_with_its_reason"),
    fault("three-brokers", "brokers that leave, come and hang lose and repeat nothing",
          "chaos/test_brokers.py::*"),
    fault("hung-broker", "one hung server spoils no start and no command",
          "integration/test_hung_server.py::test_a_hung_server_spoils_no_start_and_no_command"),
    fault("letters-away", "a dead letter topic that is away is named, and gets no letter twice",
          "unit/test_dead_letters.py::test_a_topic_that_does_not_answer_is_told_of_and_stops_no_drain",
          f"{BY_WHOM}::test_what_waits_for_the_dead_letter_topic_says_so",
          "unit/test_progress.py::test_it_is_not_ready_while_no_database_answers"),
    fault("illegal-topic", "a name that no topic can have is a mistake of the configuration",
          "unit/test_config_mistakes.py::test_a_mistake_is_told_once_where_it_is"),
    fault("foreign-assignor", "another program in the group is told by what it means",
          "unit/test_client.py::test_another_assignor_in_the_group_is_told_by_what_it_means"),
    fault("false-alarms", "a healthy start warns of nothing: neither the assignor nor the selector",
          "unit/test_progress.py::test_the_false_alarms_of_healthy_runs_are_quiet"),
    fault("lag-in-failover", "what came while a broker was asked is not taken for lag",
          "unit/test_operate.py::test_a_slow_answer_is_not_taken_for_lag"),
    fault("names-twice", "an error is told with the name of its class once, and never as None",
          "unit/test_errors.py::test_an_error_on_one_line_has_the_name_of_its_class_once"),
    fault("broker-restart", "the restart of a broker logs no traceback, and what repeats is condensed",
          "unit/test_progress.py::test_a_broken_connection_of_kafkas_is_one_line",
          "unit/test_condense.py::test_what_kafka_python_repeats_is_condensed_unless_all_is_wanted"),
    fault("one-record", "one is not several: `1 other record`, `1 partition`",
          "unit/test_console.py::test_one_is_not_several"),
    fault("in-the-clear", "check warns of passwords and records that travel unencrypted",
          "unit/test_check.py::test_passwords_in_the_clear_are_warned_of"),
    fault("added-partitions", "partitions that are added are read within seconds",
          f"{TOPICS}::test_partitions_that_are_added_are_read_within_seconds"),
)  # fmt: skip

PEOPLE = (
    fault("misspelt-path", "a path that no record has is told with the nearest one",
          f"{CHECK}::test_a_misspelt_path_is_found_by_the_newest_records"),
    fault("forgotten-await", "a statement that is not awaited loses no record",
          "unit/test_transaction.py::test_a_statement_that_is_not_awaited_ends_the_transaction"),
    fault("handler-raises", "a handler that fails is told with file and line, and without values",
          "integration/test_handler.py::test_a_handler_that_fails_ends_the_program_with_one_message",
          "integration/test_handler.py::test_a_record_that_a_handler_rejects_is_a_dead_letter"),
    fault("security-protocol", "a protocol that is not known is a mistake, never plaintext",
          "unit/test_config_security.py::test_a_protocol_that_is_not_known_is_a_mistake"),
    fault("tls-files", "files that TLS options name are looked at first",
          "unit/test_config_security.py::*"),
    fault("moved-partitions", "a partition whose rows are in another shard is a mistake that check finds",
          f"{CHECK}::test_a_partition_that_moved_to_another_shard_is_a_mistake"),
    fault("keyless", "keys that order nothing are found among the newest records",
          f"{CHECK}::test_keys_that_order_nothing_are_found_among_the_newest_records"),
    fault("letters-missing", "a dead letter topic that is missing is found at the start",
          f"{LETTERS}::test_a_topic_that_is_missing_is_found_at_the_start_and_not_made"),
    fault("where-it-begins", "the plan tells where each partition begins and why",
          f"{CHECK}::test_the_plan_tells_where_each_partition_would_begin_and_why"),
    fault("letters-whole", "dead letters are shown whole, as JSON, repaired and replayed",
          "integration/test_dlq.py::test_json_has_every_dead_letter_whole",
          "integration/test_dlq.py::test_one_is_repaired_and_replayed"),
    fault("one-wording", "a refused address has one wording and exit code 2 by run and check",
          f"{FATAL}::test_an_address_that_is_refused"),
    fault("idle-and-gone", "a database that goes while nothing is written is noticed",
          "unit/test_breaker.py::test_a_server_that_goes_while_nothing_is_written_is_noticed"),
    fault("wrong-table", "a key in the wrong table is told with the table that it belongs to",
          "unit/test_config_mistakes.py::test_a_mistake_is_told_once_where_it_is"),
    fault("early-ctrl-c", "Ctrl-C is clean at every moment of the start",
          "integration/test_early_stop.py::*"),
)  # fmt: skip

FAULTS = {"Postgres": POSTGRES, "Kafka": KAFKA, "people": PEOPLE}
