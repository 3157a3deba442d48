//! The list of all cases: the one place where a case is named. The suite makes its data of it, and each store its tests,
//! so that neither can have one that the other has not. A case that is not here is dead code, which the lints refuse.

/// Hands the list to the macro `$then` of this crate.
#[doc(hidden)]
#[macro_export]
macro_rules! every_case {
    ($then:ident $($arg:ident)*) => { $crate::$then! { [$($arg)*]

start {
    a_new_run_is_pending_with_its_first_entry "A start makes a free, pending run whose journal is entry 0.";
    a_used_id_gives_that_run_and_its_first_entry "A used id changes nothing and is answered with what was started first.";
    a_used_id_is_known_whatever_became_of_its_run "Also a run that is over keeps its id.";
    each_start_of_a_batch_is_decided_by_itself "A used id does not hinder the others of its batch.";
    numbers_grow_in_the_order_of_starts "Neighbours in time have neighbouring numbers.";
    numbers_are_given_once_over_all_openings "Numbers come from the content, never from the memory of one process.";
    an_empty_batch_starts_nothing "Nothing in, nothing out.";
    racing_starts_of_one_id_make_one_run "Whoever comes first makes the run, and the others hear of it.";
    a_claimed_start_is_adopted_before_its_answer "Who has its answer knows that the run has an owner.";
    a_claimed_start_is_adopted_after_its_commit "Nobody drives a run that is not durable.";
    a_start_that_nobody_waits_for_still_has_an_owner "A dropped answer does not undo the start, nor orphan the run.";
    a_claimed_start_goes_on_at_entry_1 "A run claimed at its start has entry 0 as its whole journal.";
    a_claimed_start_in_the_place_of_a_run_is_adopted "Whoever starts a run has it, also if another had its id before.";
    a_run_in_the_place_of_another_has_said_nothing "Its readers are not shown what was another run's.";
    a_used_id_is_not_adopted "A known run belongs to whoever has it.";
    only_marked_starts_are_claimed "A worker without room starts runs for others.";
    without_a_worker_nothing_is_claimed "A client has no memory for runs.";
    a_claimed_start_begins_when_it_is_started "Who starts a run and has it at once need not ask when it began.";
    a_start_for_later_waits_for_its_time "A run is not claimed before it is due.";
    a_start_with_a_trace_is_the_same_run "A trace context is carried along and decides nothing.";
    a_run_begins_with_entry_0 "A call with a run that does not is refused whole.";
    a_fenced_worker_starts_nothing "A stale worker's starts are refused whole.";
    a_fork_begins_with_what_it_keeps "Entries, what they said and who forked it are there from the beginning.";
    a_fork_is_new_and_has_no_gap "Else it is refused whole.";
}

claim {
    a_claimed_run_belongs_to_its_worker "A claim makes a run running and its worker's, and tells how it was before.";
    a_claim_takes_no_more_than_its_limit "A worker takes what it has room for.";
    a_claim_of_nothing_takes_nothing "No room or no workflows: no runs.";
    what_is_due_longest_comes_first "Runs are taken in the order in which they became due.";
    a_run_is_due_from_its_microsecond_on "Due is up to and with the time that is asked for.";
    unknown_workflows_are_left_alone "Runs of other workflows wait for a worker that knows them.";
    a_run_is_claimed_once "A run that a worker has is not free.";
    racing_claims_share_the_runs "Concurrent claims of several openings never take the same run, and miss none.";
    each_load_has_a_number_of_its_own "Turns of an earlier load can be told from those of a later.";
    a_claimed_run_goes_on_after_its_last_entry "Numbers go on over loads.";
    a_claim_tells_the_status_before "A stuck run is claimed to be cancelled: its worker must know.";
    no_workflow_waits_behind_another "Each workflow gets its share of the limit.";
    what_one_workflow_does_not_need_goes_to_others "Shares are no reason to leave room empty.";
    claims_begin_with_another_workflow_each "Also claims of single runs reach every workflow.";
    a_workflow_named_twice_gives_each_run_once "A workflow that is named twice is one workflow.";
    a_fenced_worker_claims_nothing "A stale worker gets no more runs.";
    a_run_begins_with_its_first_claim "What its function waits for first counts from when a worker took it, which is kept.";
    a_run_begins_once "Later claims, letters, cuts and the deaths of its workers do not make it begin anew.";
    an_owned_run_can_be_taken_again "After a refused turn its worker reads a run anew; the load before is over.";
    only_the_owner_takes_a_run_again "A run that is free, over or somebody else's is not taken by name.";
    the_next_due_run_is_told "A worker sleeps until the earliest free run of its workflows.";
    a_run_that_waits_for_no_time_is_not_due "Parked without a time means until a letter comes.";
}

turn {
    entries_are_appended "Entries come after those that are there, in their order.";
    a_turn_with_nothing_in_it_is_durable "An empty turn is answered like any other.";
    a_gap_inside_a_turn_is_refused "Each entry of a turn must be the next, not only the first.";
    a_wrong_first_number_is_refused "A turn begins where the journal ends.";
    a_number_is_written_once "What is written is never written over.";
    a_refused_turn_writes_nothing "A turn is written whole or not at all.";
    after_a_refused_turn_nothing_of_its_load_passes "After a lost entry nothing later may be written.";
    a_refused_turn_hinders_no_other_run "A refusal concerns its own load alone.";
    a_run_whose_load_was_refused_can_be_loaded_anew "A refused load ends; its run does not.";
    another_workers_load_is_refused_and_goes_on "Only its worker writes for a load, and nobody else can end it.";
    another_runs_load_is_refused_and_goes_on "A load writes for one run.";
    a_load_counts_only_in_its_own_opening "Another process cannot use a load's number.";
    a_load_that_never_was_is_refused "Numbers that were never given are refused.";
    after_its_end_everything_of_a_load_is_refused "A late turn cannot land behind the next load's.";
    receipts_come_in_the_order_of_turns "A driver counts its answers.";
    each_turn_is_answered_once "Neither silence nor two answers, whatever became of it.";
    a_turn_takes_its_place_when_it_is_sent "Calls are applied in the order in which they were made.";
    a_mark_stands_until_it_is_cleared "Started rows show attempts whose outcome is unknown.";
    a_mark_replaces_that_of_its_step "A step has one started row: that of its last attempt.";
    marks_are_told_by_key "Two stores tell the same in the same order.";
    marks_are_applied_in_their_order "Of several marks of one step the last counts.";
    marks_belong_to_their_run "Keys are the run's own.";
    what_a_turn_takes_leaves_the_inbox "What is in the journal is not in the inbox.";
    taking_what_is_not_there_is_nothing "A letter that was taken already may be taken again.";
}

end {
    a_finished_run_is_over "It has an outcome, a time and no owner, and is never claimed again.";
    only_outcomes_finish_a_run "A run cannot finish as running.";
    a_parked_run_waits_for_its_time "It is free, waiting, and due when it said.";
    a_run_parked_for_ever_waits_for_a_letter "Without a time only a letter wakes it.";
    a_stuck_run_says_why_and_is_left "Nobody claims it before somebody has looked at it.";
    every_reason_to_be_stuck_comes_back "People read exactly what was written.";
    a_run_given_back_is_anybodys_from_its_time_on "Another worker may do better, perhaps later.";
    an_end_that_missed_a_letter_changes_nothing "No wake-up is lost: the driver looks first, and its load goes on.";
    after_moved_the_same_numbers_come_again "What was not written did not take its numbers.";
    an_end_that_counts_too_many_letters_has_moved_too "The comparison is for equality.";
    an_end_counts_what_came_not_what_is_left "Taken letters stay counted.";
    a_run_is_given_back_whatever_has_come "Who comes next reads the letter.";
    a_wrong_turn_is_refused_even_if_the_run_has_moved "What breaks a rule is not tried again.";
    a_stuck_run_that_is_given_back_stays_stuck "A worker that does not cancel it leaves it as it was.";
    a_stuck_run_can_be_stuck_for_another_reason "The newest reason counts.";
    a_stuck_run_that_is_cancelled_needs_nobody "The reason goes with the need.";
}

status {
    every_end_follows_the_table "Each end does what `Status::after` says of the status, or is refused.";
    every_cut_follows_the_table "For each status a cut revives, keeps or refuses.";
    every_letter_of_a_person_follows_the_table "For each status a letter that revives does so, or leaves it as it is.";
    only_runs_that_may_run_are_claimed "No letter makes a run claimable that may not run.";
    a_worker_that_dies_leaves_statuses_that_may_follow "Freed runs are pending, or stuck as before.";
}

say {
    nothing_is_said_before_it_is_said "A run that has said nothing, or never was, is an answer.";
    a_published_value_is_told_whole "The value, its entry and its time.";
    the_last_published_value_counts "By the order in which it was said, not by the number of its entry.";
    published_values_are_told_by_name "As many as are asked for.";
    items_come_in_their_order "A stream is a list that only grows.";
    items_are_read_from_a_number_on "Page by page, or from where somebody stopped.";
    each_stream_of_each_run_counts_for_itself "Names are the run's own, and each kind's.";
    an_item_out_of_order_is_refused "Neither a gap nor an item twice: nothing of such a turn is written.";
    a_wrong_item_is_refused_even_if_the_run_has_moved "What breaks a rule is not tried again.";
    a_turn_that_moved_has_said_nothing "What is said comes with its turn, or not at all.";
    a_refused_turn_has_said_nothing "Nobody reads what is not in the journal.";
    streams_are_told_by_name "Those that have items, each once.";
    patches_tell_who_has_them_and_who_needs_the_old_way "So that people know when the old code can go.";
    each_patch_of_each_workflow_counts_for_itself "By patch and workflow, from every opening.";
    attributes_are_set_and_taken_away "One value each, of any type.";
    what_is_said_in_one_turn_is_said_in_its_order "The last of several counts.";
    an_attribute_that_is_none_is_refused "No store needs to keep what does not compare.";
    every_attribute_comes_back "Every type, from end to end.";
    every_payload_comes_back_from_readers "Every codec and every byte.";
    every_text_is_a_name_to_readers "Names are bound, never spelt into a statement.";
    what_was_said_stays_said_after_a_cut "Items keep their numbers, and what is emitted anew comes behind them.";
    an_item_is_missed_after_a_cut_too "A run counts what its journal has: never more than the stream.";
    a_cut_of_one_run_lets_no_other_repeat_items "Only the run that was cut counts again.";
    what_was_said_is_read_in_every_opening_and_for_good "Also after the end, and without a worker.";
}

reply {
    an_answer_is_found_by_its_request "Whole, by run and name; before it is given there is none.";
    the_first_answer_counts "What was answered stays answered, also after a cut.";
    an_answer_comes_with_its_turn_or_not_at_all "Neither a refused turn nor one that has moved answers.";
    every_answer_comes_back "Every codec, every byte, every bit of a name.";
}

promise {
    a_promise_is_settled_by_its_hash "The letter gets the promise's key and goes to its run.";
    a_hash_that_nobody_made_is_no_promise "Nor is one that differs in a bit.";
    a_promise_is_settled_once "The same letter again is known, any other comes too late, over all openings.";
    a_promise_that_has_expired_is_not_settled "From its microsecond on, by the time of the letter.";
    all_tokens_of_a_key_are_settled_together "Also one that is made afterwards.";
    each_promise_of_each_run_is_settled_for_itself "Keys are a run's own.";
    a_hash_that_is_known_changes_nothing "Whose it is stays, and until when.";
    a_turn_that_was_not_written_makes_no_promise "Whether it was refused or the run had moved.";
    a_promise_of_a_run_that_is_over_is_not_settled "Its sender hears how it ended.";
    a_letter_to_a_promise_wakes_its_run "Like any letter.";
    a_restart_ends_what_was_promised "Neither its tokens nor what they have settled concern the next generation.";
    a_deleted_run_leaves_no_token "A token is of the run that is there.";
    a_cut_leaves_tokens_good "Whoever has one may settle what is made anew under its key.";
    a_cut_may_open_a_promise_again "By every token that its key ever had.";
}

child {
    a_child_is_pending_with_its_first_entry "It exists with the turn that says so, and any worker may take it.";
    a_child_comes_with_its_turn_or_not_at_all "Neither a refused turn nor one that has moved starts anything.";
    a_run_that_is_nobodys_child_is_no_child "Such a turn is refused.";
    the_same_start_again_is_the_same_child "Nothing is heard of it before it is over.";
    a_child_that_is_over_is_heard_of_at_once "By whoever starts it again: its outcome, whatever it is.";
    an_id_that_is_in_use_is_a_conflict "Of another run's child, nobody's, another workflow, key or input; the turn is durable all the same.";
    a_parent_hears_of_its_child_whatever_its_status "Also when it is over: a person may set it going again.";
    a_parent_that_waits_is_woken "Like by any letter.";
    another_generation_hears_nothing "Nor does a run that never was.";
    a_letter_to_a_parent_is_one "Its name decides.";
    a_cancel_reaches_the_children_that_close "Not those that were left, not others', and none that is over.";
    a_cancel_sets_a_stuck_or_paused_child_going "It is to undo what it did, as one that a person cancels.";
    a_cancel_of_one_child_reaches_that_one "Whether it closes with its parent or not.";
    a_cancel_of_one_child_is_for_the_generation_that_asks_for_it "Keys begin anew in each.";
    what_a_turn_starts_and_cancels_is_cancelled "In the order in which it is said.";
    a_child_that_was_deleted_is_not_missed "A cancel of all children reaches those that are there.";
}

letter {
    a_letter_is_kept_as_it_is "It waits in the inbox until a turn takes it.";
    a_letter_to_a_run_that_has_not_begun_is_kept_until_it_is_due "A signal does not begin a run before its time.";
    a_cancel_makes_a_pending_run_due "It does not wait for its time any longer.";
    a_letter_makes_a_run_due_that_was_given_back "It has begun: what comes is looked at.";
    a_letter_nudges_a_running_run "Its worker hears of it; the run stays where it is.";
    a_letter_wakes_a_waiting_run "It is claimable at once.";
    a_signal_to_a_stuck_run_is_kept_and_wakes_nobody "Nothing can be done with it before a person comes.";
    a_cancel_wakes_a_stuck_run_and_leaves_it_stuck "It does not answer why it is stuck.";
    a_persons_letter_sets_a_stuck_run_going "It becomes pending, and why it was stuck is forgotten.";
    a_persons_letter_forgets_takeovers "A person has looked at it: its deaths count from here on.";
    a_persons_letter_leaves_an_owned_run_to_its_worker "Only its worker changes a run that it has.";
    a_letter_is_taken_only_in_its_statuses "A letter that came too late says so, and leaves no trace.";
    a_run_that_is_over_refuses_ordinary_letters "Its sender hears how it ended.";
    a_letter_never_wakes_a_run_that_is_over "Kept for the record, it makes nothing claimable.";
    a_letter_sent_twice_is_one "Its id decides, over all openings.";
    a_letter_is_known_after_it_was_taken "A late duplicate finds no run that does it again.";
    a_known_letter_wakes_nobody "A duplicate costs nothing.";
    two_runs_may_get_letters_of_one_id "Ids are told apart per run.";
    letters_are_numbered_densely_from_1 "The number is the count of what ever came.";
    racing_letters_are_numbered_densely "Also when several openings post at the same time.";
    a_letter_that_nobody_waits_for_arrives "A dropped answer does not undo the post.";
    a_letter_to_nobody_says_so "A letter is not kept for a run to come.";
    a_record_cannot_be_sent "What a transactional step has done only the store can say.";
    a_nudge_is_told_once "Several letters are one nudge, and it is not repeated.";
    a_nudge_is_for_the_owner "Each worker hears of its own runs.";
    a_nudge_ends_with_its_load "Who claims the run reads its inbox anyway.";
    a_nudge_ends_when_its_run_is_taken_again "Whoever takes it reads its inbox.";
    a_letter_outlives_the_worker_it_was_for "Its successor reads it.";
    a_fenced_worker_is_not_nudged "A stale worker may not even take its nudges.";
}

cut {
    a_cut_takes_the_end_of_the_journal_back "The run is pending, due, and not over any more.";
    a_run_goes_on_where_it_was_cut "The next entry has the number of the first that went.";
    a_cut_behind_the_end_only_sets_the_run_going "Nothing goes, and numbers go on.";
    a_cut_may_leave_the_first_entry_alone "All but entry 0 may go.";
    the_first_entry_cannot_be_cut_off "A run is its journal, and that begins with its input.";
    a_run_that_has_moved_is_not_cut "Who decided on what he saw must see it again.";
    a_cut_is_made_once "The second of two people finds it moved.";
    a_run_that_a_worker_has_is_not_cut "Its worker's numbers stay true.";
    a_run_that_never_was_is_not_cut "It is an answer, not an error.";
    a_cut_puts_letters_into_the_inbox "They come with the cut, numbered like any.";
    a_cut_does_not_double_a_known_letter "Neither what was taken, nor what is there, nor one of its own.";
    a_cut_forgets_takeovers "A person has looked at it.";
    a_cut_forgets_why_the_run_was_stuck "It is not stuck any more.";
    a_cut_wakes_a_run_that_waits "It goes on at once, in the status that it had.";
}

worker {
    each_worker_gets_a_higher_id "Never given twice, over all openings; a later one is higher.";
    beats_are_counted "Watchers see that it lives.";
    a_worker_is_seen_with_its_build "What another build wrote is left to it while it lives.";
    a_worker_that_beats_is_not_fenced "A beat between the look and the fence saves it.";
    a_fenced_worker_stays_fenced "There is no way back.";
    a_missing_worker_counts_as_fenced "Whoever removed it knew; it has no runs to free.";
    a_fenced_worker_can_do_nothing "Every verb that carries a fence is refused, and says why.";
    a_worker_that_never_was_can_do_nothing "A fence is given by the store.";
    a_worker_that_has_left_can_do_nothing "Leaving is the end, also of leaving.";
    a_late_worker_cannot_hinder_the_new_owner "Its turns fail, and the new load does not notice.";
    runs_are_freed_in_batches "A worker with many runs is freed step by step, and seen until it is done.";
    a_freed_run_is_claimable_at_once "Whoever comes first takes it.";
    a_live_worker_keeps_its_runs "Only a fenced worker's runs are freed.";
    a_worker_that_leaves_frees_its_runs_without_blame "No run is suspected for a shutdown.";
    a_worker_leaves_with_any_number_of_runs "Also with more than fit into one transaction.";
    workers_are_seen_until_they_are_gone "Live ones, and fenced ones that still own runs.";
    deaths_inside_a_step_are_counted "A run that kills its workers is found out.";
    deaths_outside_of_steps_are_counted_to_two "A run that only waits is not to blame.";
    an_abandoned_attempt_is_no_step_to_die_in "Nobody is inside it any more.";
    an_entry_begins_the_count_of_deaths_anew "It has got further.";
    after_a_new_entry_a_claim_tells_no_takeovers "A run that got further is not suspected.";
    waiting_does_not_end_the_count_of_deaths "Only an entry shows that it got further.";
    a_death_concerns_every_run_of_the_worker "And no other.";
    workers_may_have_any_name "A name is for people.";
}

read {
    what_is_not_there_is_nothing "An id that is unknown is an answer, not an error.";
    an_empty_store_has_nothing "Every list is empty.";
    runs_are_found_newest_first "By their numbers, downwards.";
    runs_are_found_page_by_page "Each page begins before the last run of the one before.";
    runs_are_found_by_id "One of several, or none of them.";
    runs_are_found_by_workflow "One of several, or none of them.";
    runs_are_found_by_status "Each status, and sets of them.";
    runs_are_found_by_when_they_were_created "Before, up to, after, from.";
    runs_are_found_by_when_they_were_over "A run that is not over matches nothing.";
    runs_are_found_by_an_attribute "Equal to one of several, or to none of them; types tell values apart.";
    runs_are_found_by_how_an_attribute_lies "Before, up to, after, from: among values of its type.";
    a_run_without_an_attribute_matches_nothing_about_it "Not even that it is not so.";
    runs_are_found_by_what_an_attribute_is_now "Not by what it was.";
    conditions_about_attributes_and_fields_are_joined "Whichever of them a store goes by.";
    runs_that_match_are_counted_up_to_a_limit "As many as a list would find.";
    all_conditions_must_hold "Conditions are joined by and.";
    found_rows_are_whole "Every way to a row tells the same row.";
    a_loaded_run_is_whole "Journal, inbox and started rows of one moment.";
    runs_that_are_loaded_together_are_each_as_if_loaded_alone "A read of several runs is some reads of one run.";
    every_opening_reads_the_same "What is committed is there for all.";
    a_later_opening_reads_what_an_earlier_wrote "The content outlives its openings.";
    counts_equal_a_recount "Kept counts are true after everything that can happen to a run.";
}

bell {
    a_start_rings_for_claimers "Also for a run that is due later: its time is to be looked up.";
    a_run_with_a_new_time_rings_for_claimers "Who sleeps until the next due run must look again.";
    a_letter_to_a_free_run_rings_for_claimers "It is claimable now.";
    a_letter_to_an_owned_run_rings_for_its_worker "It is to ask for its nudges.";
    a_freed_run_rings_for_claimers "By a takeover, or because its worker leaves.";
    a_cut_rings_for_claimers "It is claimable now.";
    listeners_hear_how_a_run_ended "With the outcome, so that nobody need read it.";
    an_outcome_that_cannot_be_read_is_left_to_the_reader "A store guesses nothing.";
    listeners_hear_that_a_run_is_stuck "Who waits for a result must not hang.";
    listeners_hear_of_their_own_run_and_of_its_end_alone "Neither of others' ends nor of what is no end.";
    readers_hear_of_what_their_run_says "And what they hear of they can read; nothing else is rung for them.";
    durable_turns_ring_after_their_receipts "Who is woken by it finds his answer.";
    other_openings_hear_of_commits "And what they hear of they can read.";
}

act {
    an_act_is_recorded_with_what_it_does "Who did it, when and why is there if the change is.";
    what_is_not_done_is_not_recorded "No record of what did not happen.";
    an_act_that_is_repeated_is_one "A lost answer does not make it happen twice.";
    every_text_of_an_act_comes_back "Verbs, names and reasons are bound, never spelt into a statement.";
    a_free_run_is_paused_at_once "Pending, waiting or stuck: nobody claims it any more.";
    the_worker_of_a_run_is_asked_to_pause_it "What a worker has is its to set aside.";
    a_paused_run_keeps_letters_until_it_is_resumed "Nothing wakes it but a person.";
    a_run_that_has_not_begun_is_resumed_too "It is not forgotten for having had no turn.";
    an_edit_replaces_one_entry "And nothing else.";
    an_edit_of_a_run_that_has_moved_changes_nothing "Whoever edits has seen what is there.";
    a_deleted_run_leaves_nothing "Its id is free again, its number is not.";
    a_run_in_any_status_is_deleted_unless_a_worker_has_it "Which of them may be deleted is not the store's to say.";
    a_run_that_has_moved_is_not_deleted "What came since was promised to be kept.";
    who_waits_for_a_run_hears_that_it_is_deleted "Nobody waits for ever.";
}

kept {
    nothing_is_kept_of_a_new_run "Nor of one that does not exist.";
    what_was_taken_out_of_a_journal_is_kept_whole "Each entry as it was, and when and why it went.";
    inputs_and_bodies_of_every_encoding_are_kept "Text or not, with an input or without.";
    what_was_promised_and_answered_is_told "Hashes of tokens, whether they are settled, and answers by name.";
    names_of_letters_are_kept "Also of letters that were taken.";
    what_is_kept_is_of_one_run "And gone when another run takes its place, but for the archive.";
}

payload {
    every_kind_of_entry_comes_back "Also kinds that this version does not know.";
    every_codec_comes_back "A store does not look into payloads.";
    every_byte_comes_back "Text or not, empty or not.";
    long_payloads_come_back "More than a page, more than the default limit.";
    an_input_of_nothing_is_not_no_input "Absent and empty are told apart.";
    every_text_comes_back_in_entries "Keys, sites, builds.";
    a_site_of_this_program_comes_back_as_text "Another build can read where it was.";
    every_number_comes_back_in_entries "From end to end.";
    every_text_is_a_run_and_a_workflow "Ids and names are bound, never spelt into a statement.";
    every_letter_comes_back "Every kind, name, body and time.";
    letter_ids_differ_in_every_bit "128 bits, none of them lost.";
    every_mark_comes_back "Every key, attempt and time.";
    every_time_comes_back_in_rows "Created, due, finished: clocks may be wrong by any amount.";
    runs_wake_at_every_time "From the beginning of numbers to their end.";
}

transact {
    rows_and_record_come_together "One commit has both; the record is a letter.";
    a_step_asked_for_again_is_answered_with_its_record "A lost answer does not make it happen twice.";
    a_withdrawn_step_does_not_run "Who gave a step up before it began has no change of it to fear.";
    a_record_outlives_its_worker "The next owner finds it.";
    a_step_that_fails_leaves_nothing "Neither rows nor record.";
    a_step_that_panics_leaves_nothing "Neither rows nor record, and the store goes on.";
    a_step_that_failed_may_be_tried_again "Its load goes on.";
    a_step_that_fails_hinders_no_other "Neither turns nor other steps.";
    each_step_of_each_run_records_for_itself "A record is unique by run and key.";
    a_step_comes_after_the_turns_before_it "It takes its place in the queue like any call.";
    a_step_that_nobody_waits_for_is_done "A dropped answer does not undo it.";
    a_record_counts_as_a_letter "An end that has not seen it has moved; a turn takes it.";
    a_record_nudges_nobody "The load that asked for it knows.";
    letters_and_records_are_numbered_together "One inbox, one count.";
    a_load_that_has_ended_makes_no_step "A late step does not touch the user's rows.";
    a_load_that_was_refused_makes_no_step "After a lost entry nothing later may happen.";
    another_workers_load_makes_no_step "Only its worker acts for a load.";
    a_fenced_worker_makes_no_step "A stale worker does not touch the user's rows.";
    the_job_of_another_store_is_refused "It says so, and its load goes on.";
    every_text_is_a_step "Keys and rows are bound, never spelt into a statement.";
}

mark {
    a_store_has_no_mark_before_a_copy "Nobody is kept out for nothing.";
    a_mark_is_told_whole_in_every_opening "Whose copy, how far it is, and which other store.";
    marks_follow_each_other "As `CopyMark::needs` says; from a store that has moved there is no way back.";
    a_mark_is_changed_by_whoever_knows_it "Of two copies one finds the other.";
    no_mark_is_made_while_a_worker_is_there "Nor while a fenced one has runs: nothing comes behind the mark.";
    runs_arrive_in_an_empty_store "Their numbers and ids are free there.";
    a_mark_keeps_clients_and_new_workers_out "In every opening, also in those that are older; reads go on.";
    an_arrival_keeps_clients_and_new_workers_out "Nobody works on half of the runs.";
    a_copy_that_is_given_up_lets_everybody_in_again "With every run that was there.";
    a_worker_that_came_first_is_in_the_way "Also if both come at the same time.";
    a_worker_that_came_second_is_kept_out "And so is a client.";
}

whole {
    a_whole_run_is_what_readers_are_told "And whose child it is, who traced it, and since when it is stuck.";
    runs_are_read_whole_by_number "Page by page, upwards.";
    a_page_of_large_runs_is_short "What is in memory at once is bounded, and never nothing.";
    a_placed_run_is_equal "Row, journal, inbox, and everything else of it, in a run of any kind and status.";
    all_runs_move_to_another_store "Equal by digest; and this one is closed.";
    all_runs_come_from_another_store "Equal by digest; and this one is open.";
    a_run_is_placed_once "A copy that was broken off writes again what it is not sure of.";
    a_run_that_differs_is_not_placed "Nor one whose id or number another has; and nothing that came with it.";
    a_run_that_a_worker_has_is_not_placed "Runs move while nobody has them.";
    runs_are_placed_by_their_own_copy "Neither without a mark nor under another's.";
    numbers_go_on_behind_those_of_the_other_store "Of runs and of workers, whose numbers services outside may know.";
    a_new_store_has_given_no_numbers "Nor any to a worker.";
    a_placed_run_goes_on "Its journal, streams, letters and tokens are what they were.";
    a_placed_child_still_has_its_parent "They know each other by number.";
    placed_runs_are_found_by_what_they_are "Every index has them.";
}

    } };
}

/// The list as data.
#[doc(hidden)]
#[macro_export]
macro_rules! __case_list {
    ([] $($area:ident { $($name:ident $about:literal;)+ })+) => {
        vec![$($($crate::Case {
            name: concat!(stringify!($area), "::", stringify!($name)),
            about: $about,
            run: |desk| Box::pin($crate::cases::$area::$name(desk)),
        },)+)+]
    };
}

/// The list as tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __case_tests {
    ([$bench:ident] $($area:ident { $($name:ident $about:literal;)+ })+) => {
        $(mod $area {
            $(
                #[doc = $about]
                #[test]
                fn $name() {
                    $crate::check(concat!(stringify!($area), "::", stringify!($name)), super::$bench());
                }
            )+
        })+

        #[test]
        fn no_case_is_left_out() {
            $crate::assert_complete(&[$($(concat!(stringify!($area), "::", stringify!($name)),)+)+]);
        }
    };
}

/// Makes a test of each case, in a module per noun (`claim::a_run_is_claimed_once`), on what the function `$bench` of the
/// calling module makes.
#[macro_export]
macro_rules! conformance_tests {
    ($bench:ident) => {
        $crate::every_case!(__case_tests $bench);
    };
}
