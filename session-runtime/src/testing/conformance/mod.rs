//! The suite that every store passes: what [`Store`] promises, case by case.

use std::future::Future;

use super::TestClock;
use crate::store::Store;

mod bytes;
mod claims;
mod outcomes;
mod owners;
mod races;
mod repeats;
mod slots;
mod sweeping;
mod times;
mod trial;

use trial::Trial;

/// Runs every case over a fresh store, and panics at the first promise that is not kept.
///
/// `make` is handed the clock that the store is to sweep by, and makes a store that is empty. Each case's name
/// is printed before it runs; a failure names the case and the promise. It has to run on a tokio runtime, best
/// one of several threads, since some cases race 64 tasks.
///
/// A store that cannot keep some promise, such as the [`SWEEPER_CASES`], runs the others with [`conformance_case`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use session_runtime::store::MemoryStore;
/// use session_runtime::testing;
///
/// testing::conformance(async |clock| MemoryStore::new().with_clock(clock)).await;
/// # }
/// ```
///
/// # Panics
///
/// If the store does not keep a promise, or answers an error.
pub async fn conformance<S, F, Fut>(make: F)
where
    S: Store,
    F: Fn(TestClock) -> Fut,
    Fut: Future<Output = S>,
{
    for case in CASES {
        conformance_case(case, &make).await;
    }
}

/// Runs one case of [`CASES`] over a fresh store.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use session_runtime::store::MemoryStore;
/// use session_runtime::testing::{CASES, conformance_case};
///
/// for case in CASES.iter().filter(|case| case.contains("sweep")) {
///     conformance_case(case, async |clock| MemoryStore::new().with_clock(clock)).await;
/// }
/// # }
/// ```
///
/// # Panics
///
/// If the store does not keep the promise, or answers an error, or if there is no case of that name.
#[expect(clippy::print_stdout, reason = "a test says what it is about")]
pub async fn conformance_case<S, F, Fut>(case: &str, make: F)
where
    S: Store,
    F: Fn(TestClock) -> Fut,
    Fut: Future<Output = S>,
{
    println!("conformance: {case}");
    let clock = TestClock::new();
    let store = make(clock.clone()).await;
    run(Trial::new(case, store, clock)).await;
}

/// Those of [`CASES`] that want a sweep to delete what has expired, and not before. A store that drops it by itself,
/// by its own clock, leaves them out.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # type SelfExpiringStore = session_runtime::store::MemoryStore;
/// use session_runtime::testing::{CASES, SWEEPER_CASES, conformance_case};
///
/// for case in CASES.iter().filter(|case| !SWEEPER_CASES.contains(case)) {
///     conformance_case(case, async |_| SelfExpiringStore::new()).await;
/// }
/// # }
/// ```
pub const SWEEPER_CASES: &[&str] = &[
    "a_claimed_record_lapses_in_its_time",
    "sweeping_deletes_what_has_expired",
    "sweeping_spares_what_was_extended",
    "sweeping_finds_what_was_shortened",
    "sweeping_keeps_to_its_limit",
    "sweeping_deletes_tombstones_in_their_time",
    "sweeping_names_the_sessions_that_nobody_had_ended",
    "sweeping_takes_the_owner_off_the_list",
    "sweeping_goes_on_once_the_clock_is_back",
    "sweeping_stands_still_while_the_clocks_disagree",
];

/// Lists the cases by the file they stand in, and finds each by its name.
macro_rules! cases {
    ($($file:ident { $($case:ident,)+ })+) => {
        /// The names of all cases, each of them a promise.
        ///
        /// ```
        /// use session_runtime::testing::CASES;
        /// assert!(CASES.contains(&"a_second_create_finds_the_key_taken"));
        /// ```
        pub const CASES: &[&str] = &[$($(stringify!($case),)+)+];

        async fn run<S: Store>(trial: Trial<S>) {
            match trial.case() {
                // Boxed, so that no case has to carry the longest one's state.
                $($(stringify!($case) => Box::pin($file::$case(&trial)).await,)+)+
                unknown => panic!("there is no case `{unknown}`: `CASES` lists them"),
            }
        }
    };
}

cases! {
    outcomes {
        an_unknown_key_loads_nothing,
        a_created_record_loads_as_it_was_written,
        a_second_create_finds_the_key_taken,
        a_create_over_a_lapsed_record_starts_from_nothing,
        a_create_waits_until_a_way_to_another_key_has_lapsed,
        a_create_over_an_ended_record_starts_from_nothing,
        a_change_to_no_record_is_gone,
        a_change_to_an_ended_record_is_gone,
        a_change_to_a_lapsed_record_is_gone,
        a_move_takes_the_record_along,
        a_moved_record_tells_its_new_key_until_the_grace_ends,
        a_move_onto_a_taken_key_changes_nothing,
        a_move_onto_a_lapsed_record_replaces_it,
        a_move_that_conflicts_changes_nothing,
        a_second_move_leads_to_the_first,
        a_chain_of_moves_is_followed_step_by_step,
        a_retired_key_leads_here_no_longer,
        retiring_touches_nothing_but_a_moved_record,
        a_change_not_applied_retires_nothing,
        every_reason_for_an_end_comes_back,
        an_end_leaves_a_tombstone_for_a_day,
        an_end_with_a_stale_slot_conflicts,
        user_records_behave_like_sessions,
    }
    claims {
        a_claim_is_there_for_whoever_loads,
        a_claimed_record_is_changed_no_more,
        a_claim_is_taken_up_by_its_user_alone,
        a_claim_that_is_taken_up_counts_from_later,
        a_claim_that_is_taken_up_is_not_released_by_its_maker,
        a_shared_claim_can_be_released_as_it_is,
        a_repeated_claim_takes_nothing_up,
        a_claim_of_no_live_record_is_gone,
        a_claimed_record_can_be_ended,
        a_released_record_is_live_again,
        releasing_a_live_record_changes_nothing,
        a_released_record_can_be_claimed_by_another,
        a_release_lets_go_of_its_own_claim_alone,
        a_claim_follows_no_move,
        a_claimed_record_keeps_its_owner,
        a_claimed_record_lapses_in_its_time,
        a_repeated_claim_is_applied_once,
        a_repeated_release_is_applied_once,
        users_of_unusual_names_claim,
        one_of_many_users_claims,
        nothing_is_written_after_the_claim,
    }
    slots {
        a_lapsed_slot_is_dropped_as_absent,
        a_slot_is_set_from_the_value_it_is_based_on,
        a_stale_slot_conflicts_and_shows_the_record,
        a_slot_based_on_absence_must_be_absent,
        a_slot_based_on_a_value_must_be_there,
        changes_to_different_slots_never_conflict,
        a_slot_that_was_read_must_not_have_changed,
        a_slot_that_was_absent_must_not_have_appeared,
        a_lapsed_slot_counts_as_absent,
        a_lapsed_slot_guards_as_absent,
        a_slot_is_retimed_without_its_payload,
        a_stale_retime_conflicts,
        a_dropped_slot_is_gone,
        a_stale_drop_conflicts,
        a_change_is_applied_whole_or_not_at_all,
        signatures_decide_and_not_payloads,
        unknown_slots_are_carried_along,
        many_slots_stay_apart,
    }
    times {
        a_record_lapses_to_the_millisecond,
        the_time_of_the_change_decides,
        a_kept_expiry_stays,
        an_extension_never_shortens,
        a_set_expiry_may_shorten,
        a_touch_moves_seen_alone,
        a_write_moves_updated_and_seen,
        times_never_move_back,
        a_record_may_live_forever,
        slot_expiries_are_kept_to_the_millisecond,
    }
    repeats {
        a_repeated_create_is_applied_once,
        a_repeated_update_is_applied_once,
        a_repeated_update_is_applied_once_though_others_came_between,
        a_repeated_update_is_applied_though_the_record_moved_since,
        a_repeated_update_is_applied_though_the_record_ended_since,
        a_repeated_move_is_applied_once,
        a_repeated_end_is_applied_once,
        a_repeat_is_remembered_for_a_minute,
        a_repeat_to_an_older_record_is_remembered_for_a_minute,
        a_change_that_was_refused_may_be_repeated,
        equal_changes_under_two_ids_are_two_changes,
        one_id_on_two_records_is_two_changes,
    }
    bytes {
        payloads_keep_their_exact_bytes,
        a_large_payload_keeps_its_bytes,
        a_large_record_keeps_its_bytes,
        unusual_names_keep_their_bytes,
        unusual_user_names_keep_apart,
        signatures_are_kept_as_given,
        a_long_reason_keeps_its_text,
    }
    owners {
        a_created_record_is_listed_under_its_owner,
        an_updated_record_is_listed_under_its_owner,
        a_change_without_an_owner_leaves_the_index,
        a_moved_record_is_listed_under_its_new_key,
        an_ended_record_is_not_listed,
        a_new_owner_takes_over,
        owners_are_listed_apart,
        a_change_not_applied_lists_nothing,
        a_leftover_does_not_list_its_successor,
        a_successor_of_the_same_owner_is_listed,
    }
    sweeping {
        sweeping_an_empty_store_finds_nothing,
        sweeping_deletes_what_has_expired,
        sweeping_spares_what_lives,
        sweeping_spares_what_was_extended,
        sweeping_finds_what_was_shortened,
        sweeping_keeps_to_its_limit,
        sweeping_deletes_tombstones_in_their_time,
        sweeping_names_the_sessions_that_nobody_had_ended,
        sweeping_takes_the_owner_off_the_list,
        sweeping_stands_still_after_a_step_forward,
        sweeping_goes_on_once_the_clock_is_back,
        sweeping_stands_still_while_the_clocks_disagree,
    }
    races {
        increments_of_one_slot_are_all_counted,
        writers_of_their_own_slots_never_conflict,
        one_of_many_creates_is_applied,
        one_change_sent_by_many_is_applied_once,
        nothing_is_written_after_the_end,
        one_of_many_moves_is_applied,
        a_move_loses_no_update,
        one_of_many_claims_succeeds,
        a_record_that_moves_is_listed_at_every_moment,
    }
}
