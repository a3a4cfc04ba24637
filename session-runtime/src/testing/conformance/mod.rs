//! The suite that every store passes: what [`Store`] promises, case by case.

use std::future::Future;

use super::TestClock;
use crate::store::Store;

mod bytes;
mod keys;
mod packing;
mod races;
mod repeats;
mod scanning;
mod swaps;
mod sweeping;
#[cfg(test)]
mod tests;
mod trial;

use trial::Trial;

/// Runs every case over a fresh store, and panics at the first promise that is not kept.
///
/// `make` is handed the clock that the store is to sweep by, and makes a store that is empty. Each case's name
/// is printed before it runs; a failure names the case and the promise. It has to run on a tokio runtime, best
/// one of several threads, since some cases race a few dozen tasks.
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

/// Lists those of [`CASES`] that want a sweep to delete what expired ten minutes ago. A store whose engine does that by
/// itself, by its own clock, leaves them out.
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
    "sweeping_deletes_what_expired_ten_minutes_ago",
    "what_expired_long_ago_loads_until_it_is_swept",
    "sweeping_leaves_nothing_behind",
    "sweeping_spares_what_was_extended",
    "sweeping_finds_what_was_shortened",
    "a_stale_swap_extends_nothing",
    "sweeping_keeps_to_its_limit",
    "sweeping_deletes_tombstones_in_their_time",
    "sweeping_names_the_sessions_and_whose_they_were",
    "sweeping_goes_on_once_the_clock_is_back",
    "sweeping_stands_still_while_the_clocks_disagree",
    "sweeping_never_deletes_what_is_being_extended",
    "sweeps_at_once_share_what_there_is",
];

/// Lists those of [`CASES`] that want a [scan](crate::store::Store::scan). A store that cannot list its sessions leaves them out.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # type UnlistedStore = session_runtime::store::MemoryStore;
/// use session_runtime::testing::{CASES, SCANNER_CASES, conformance_case};
///
/// for case in CASES.iter().filter(|case| !SCANNER_CASES.contains(case)) {
///     conformance_case(case, async |clock| UnlistedStore::new().with_clock(clock)).await;
/// }
/// # }
/// ```
pub const SCANNER_CASES: &[&str] = &[
    "scanning_an_empty_store_finds_nothing",
    "scanning_finds_every_session_and_no_user",
    "scanning_takes_some_at_a_time",
    "scanning_finds_what_is_there_all_the_while",
    "scanning_misses_none_while_others_are_swept",
    "scanning_goes_on_from_no_place_but_those_it_named",
];

/// Lists the cases by the file they stand in, and finds each by its name.
macro_rules! cases {
    ($($file:ident { $($case:ident,)+ })+) => {
        /// Lists the names of all cases, each of them a promise.
        ///
        /// ```
        /// use session_runtime::testing::CASES;
        /// assert!(CASES.contains(&"a_create_goes_over_nothing_alone"));
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
    swaps {
        an_unknown_key_loads_nothing,
        a_created_record_loads_as_it_was_written,
        a_create_goes_over_nothing_alone,
        a_create_over_an_expired_record_is_stale,
        a_create_over_a_tombstone_is_stale,
        a_swap_replaces_the_whole_record,
        a_swap_of_an_earlier_version_is_stale,
        a_swap_of_a_version_that_never_was_is_stale,
        a_swap_of_what_is_not_there_brings_nothing,
        an_expired_record_is_swapped_by_its_version,
        a_tombstone_is_swapped_by_its_version,
        a_record_like_an_earlier_one_is_another,
        a_copy_of_what_is_there_is_as_good,
        a_swap_is_seen_when_it_has_returned,
        a_stale_swap_writes_no_part,
        a_stale_end_ends_nothing,
        what_a_stale_swap_brings_can_be_swapped,
    }
    repeats {
        a_repeated_create_is_stale_with_what_it_made,
        a_repeated_swap_is_stale_with_what_it_wrote,
        a_repeated_end_is_stale_with_the_tombstone,
        a_repeat_after_other_swaps_is_stale,
        a_repeat_after_the_end_is_stale,
        a_repeat_of_what_was_refused_is_refused_again,
        a_refused_swap_can_be_done_in_its_turn,
        sixteen_earlier_versions_are_remembered,
    }
    bytes {
        payloads_keep_their_exact_bytes,
        a_large_payload_keeps_its_bytes,
        a_record_of_a_mebibyte_keeps_its_bytes,
        unusual_names_keep_their_slots_apart,
        two_hundred_slots_stay_apart,
        signatures_are_kept_as_given,
        every_member_of_a_head_comes_back,
        each_member_of_a_head_comes_back_alone,
        empty_texts_are_not_absent_ones,
        every_reason_for_an_end_comes_back,
        an_ended_record_may_have_slots,
        times_are_kept_to_the_millisecond,
        the_earliest_and_latest_times_come_back,
    }
    packing {
        a_slot_grows_and_shrinks_across_the_limits,
        a_slot_grows_and_shrinks_among_others,
        a_slot_crosses_the_limits_though_it_stays_the_same,
        slots_of_one_length_change_places,
        a_large_slot_is_removed_and_put_back,
        an_expiry_changes_and_the_payload_stays,
        a_signature_changes_and_the_payload_stays,
        a_payload_moves_to_another_name,
        large_slots_stay_while_a_small_one_changes,
        a_large_slot_changes_while_others_stay,
        an_end_leaves_no_slot_behind,
        two_hundred_slots_come_and_go,
        three_hundred_large_slots_shrink_and_grow,
        any_series_of_changes_comes_back,
    }
    keys {
        selectors_stay_apart,
        users_of_unusual_names_stay_apart,
        users_and_sessions_never_meet,
        an_end_under_one_key_is_none_under_another,
    }
    scanning {
        scanning_an_empty_store_finds_nothing,
        scanning_finds_every_session_and_no_user,
        scanning_takes_some_at_a_time,
        scanning_finds_what_is_there_all_the_while,
        scanning_misses_none_while_others_are_swept,
        scanning_goes_on_from_no_place_but_those_it_named,
    }
    sweeping {
        sweeping_an_empty_store_finds_nothing,
        an_expired_record_still_loads,
        sweeping_spares_what_lives,
        sweeping_deletes_what_expired_ten_minutes_ago,
        what_expired_long_ago_loads_until_it_is_swept,
        sweeping_leaves_nothing_behind,
        sweeping_spares_what_was_extended,
        sweeping_finds_what_was_shortened,
        a_stale_swap_extends_nothing,
        sweeping_keeps_to_its_limit,
        sweeping_deletes_tombstones_in_their_time,
        sweeping_names_the_sessions_and_whose_they_were,
        sweeping_stands_still_after_a_step_forward,
        sweeping_goes_on_once_the_clock_is_back,
        sweeping_stands_still_while_the_clocks_disagree,
        sweeping_never_deletes_what_is_being_extended,
        sweeps_at_once_share_what_there_is,
    }
    races {
        one_of_many_creates_is_done,
        one_of_many_swaps_of_one_version_is_done,
        one_swap_sent_by_many_is_done_once,
        every_increment_counts,
        swaps_of_different_keys_are_all_done,
        a_load_never_tears,
        a_swap_given_up_is_done_whole_or_not_at_all,
    }
}
