use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::change::Expiry;
use crate::store::MemoryStore;
use crate::testing::{CASES, conformance_case};

/// A table in which everybody is a user.
#[derive(Default)]
struct Table(Mutex<HashMap<UserId, Vec<u8>>>);

impl UserStore for Table {
    async fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.0.lock().expect("no panic").get(user).cloned())
    }

    async fn replace(
        &self,
        user: &UserId,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        tokio::task::yield_now().await;
        let mut table = self.0.lock().expect("no panic");
        let fits = table.get(user).map(Vec::as_slice) == old;
        if fits {
            table.remove(user);
            table.extend(new.map(|new| (user.clone(), new.to_vec())));
        }
        Ok(fits)
    }
}

/// A store that takes every key for a user's.
struct Columns(WithUsers<Table>);

fn column_of(key: &Key) -> Key {
    Key::User(UserId::new(key.to_string()))
}

impl Store for Columns {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        Store::load(&self.0, &column_of(key)).await
    }

    async fn commit(&self, key: &Key, change: &Change) -> Result<Committed, StoreError> {
        Store::commit(&self.0, &column_of(key), change).await
    }

    async fn owned_by(&self, owner: &UserId) -> Result<Vec<Key>, StoreError> {
        Store::owned_by(&self.0, owner).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        Store::sweep(&self.0, limit).await
    }
}

/// What columns have nothing to do with: a user's record neither moves nor is listed or swept, and leaves
/// nothing when it ends.
const NOT_OF_USERS: &[&str] = &[
    "a_create_waits_until_a_way_to_another_key_has_lapsed",
    "a_change_to_an_ended_record_is_gone",
    "a_move_takes_the_record_along",
    "a_moved_record_tells_its_new_key_until_the_grace_ends",
    "a_move_onto_a_taken_key_changes_nothing",
    "a_move_onto_a_lapsed_record_replaces_it",
    "a_second_move_leads_to_the_first",
    "a_chain_of_moves_is_followed_step_by_step",
    "a_retired_key_leads_here_no_longer",
    "retiring_touches_nothing_but_a_moved_record",
    "a_change_not_applied_retires_nothing",
    "every_reason_for_an_end_comes_back",
    "an_end_leaves_a_tombstone_for_a_day",
    "a_claimed_record_can_be_ended",
    "a_claim_follows_no_move",
    "a_claimed_record_keeps_its_owner",
    "a_claimed_record_lapses_in_its_time",
    "a_repeated_update_is_applied_though_the_record_moved_since",
    "a_repeated_update_is_applied_though_the_record_ended_since",
    "a_repeated_move_is_applied_once",
    "a_repeated_end_is_applied_once",
    "a_long_reason_keeps_its_text",
    "a_created_record_is_listed_under_its_owner",
    "an_updated_record_is_listed_under_its_owner",
    "a_change_without_an_owner_leaves_the_index",
    "a_moved_record_is_listed_under_its_new_key",
    "an_ended_record_is_not_listed",
    "a_new_owner_takes_over",
    "owners_are_listed_apart",
    "a_successor_of_the_same_owner_is_listed",
    "sweeping_deletes_what_has_expired",
    "sweeping_spares_what_was_extended",
    "sweeping_finds_what_was_shortened",
    "sweeping_keeps_to_its_limit",
    "sweeping_deletes_tombstones_in_their_time",
    "sweeping_names_the_sessions_that_nobody_had_ended",
    "sweeping_goes_on_once_the_clock_is_back",
    "sweeping_stands_still_while_the_clocks_disagree",
    "nothing_is_written_after_the_end",
    "one_of_many_moves_is_applied",
    "a_move_loses_no_update",
    "a_record_that_moves_is_listed_at_every_moment",
];

#[tokio::test]
async fn a_column_keeps_what_a_store_promises_of_users() {
    let columns = async |_| {
        Columns(WithUsers {
            users: Table::default(),
            sessions: Arc::new(MemoryStore::new()),
        })
    };
    for case in CASES.iter().filter(|case| !NOT_OF_USERS.contains(case)) {
        conformance_case(case, columns).await;
    }
    assert!(NOT_OF_USERS.iter().all(|case| CASES.contains(case)));
}

#[tokio::test]
async fn a_commit_is_remembered_though_the_clocks_of_two_instances_differ() {
    let (table, user) = (Table::default(), UserId::new("ada"));
    let slow = Timestamp::from_millis(1_793_491_200_000);
    let fast = slow + Duration::from_secs(5 * 60);
    let apply = async |change: &Change| {
        let answer = commit(&table, &user, change).await.expect("an answer");
        assert_eq!(answer, Committed::Applied);
    };
    let mut create = Change::new(Kind::Create, slow);
    create.expiry = Expiry::Set(fast + Duration::from_secs(60 * 60));
    apply(&create).await;
    for now in [fast, slow, fast] {
        apply(&Change::new(Kind::Update, now)).await;
    }
    // Not `Exists`: it is told from another.
    apply(&create).await;
}

#[test]
fn what_is_no_column_of_ours_is_refused() {
    let refused = |column: &[u8]| Column::read(Some(column.to_vec())).is_err();
    assert!(refused(b""));
    assert!(refused(&[VERSION]));
    assert!(refused(&[VERSION, 2, 0]));
    assert!(refused(&[VERSION, 0]));
    assert!(refused(&[VERSION + 1, 0]));
}
