//! Users: what a login and a logout do, and what follows whom.

#![allow(clippy::unchecked_time_subtraction)] // a test that subtracts too much has failed

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::handler::Handler;
use http::StatusCode;
use session_runtime::store::{MemoryStore, Store};
use session_runtime::testing::TestClock;
use session_runtime::{Change, Clock, Committed, Ended, Key, Kind, Record, Saved, Session};
use session_runtime::{Slot, SlotChange, State, Timestamp, UserId, WhenFull};
use session_tests::customers::{
    Club, NOTHING, Shop, add, club, entering, gather, guest, join_club, login, logout, paint,
    quietly, shown, try_login, user, why,
};
use session_tests::{
    Choices, Fault, Handles, Held, Reply, Site, Visitor, on_a_cache, on_each_store,
};
use tokio::sync::Barrier;
use tokio::task::{JoinHandle, JoinSet};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn load(site: &Site<impl Store>, key: &Key) -> Option<Arc<Record>> {
    site.store.inner().load(key).await.unwrap()
}

/// What is stored of a user.
async fn account(site: &Site<impl Store>, user: impl Into<UserId>) -> String {
    let record = load(site, &Key::User(user.into())).await;
    let field = |name: &str| {
        let slot = record.as_ref()?.live_slot(name, site.now())?;
        Some(String::from_utf8_lossy(slot.payload()).into_owned())
    };
    format!(
        "{} {}",
        field("seen").unwrap_or_default(),
        field("points").unwrap_or_default()
    )
}

async fn commit(site: &Site<impl Store>, key: &Key, change: Change) {
    let committed = site.store.inner().commit(key, &change).await.unwrap();
    assert_eq!(committed, Committed::Applied);
}

/// Puts bytes into a user's record, as another version of the app would.
async fn plant(site: &Site<impl Store>, user: &str, name: &str, payload: &str) {
    let key = Key::User(user.into());
    let record = load(site, &key).await.unwrap();
    let slot = Arc::new(Slot::new(name, payload.to_owned(), None));
    let mut change = Change::new(Kind::Update, site.now());
    change.slots = vec![SlotChange::set(record.slot(name).cloned(), slot)];
    commit(site, &key, change).await;
}

on_each_store!(
    each_field_is_merged_by_its_rule_and_an_untouched_one_overwrites_nothing,
    a_login_gives_a_new_id_and_the_old_one_opens_nothing,
    a_logout_ends_the_session_and_keeps_what_is_the_users,
    a_planted_id_shows_nothing_of_the_user,
    what_follows_the_user_is_live_in_every_browser,
    a_login_as_another_user_starts_clean,
    a_second_login_of_the_user_doubles_nothing,
    changes_made_before_the_login_in_its_request_count,
    a_request_of_a_user_costs_one_more_load_and_a_commit_only_for_what_changed,
    logins_that_race_credit_the_guest_once,
    a_login_that_fails_takes_nothing_from_one_that_shares_its_claim,
    a_guest_whose_logins_all_fail_goes_on_when_none_can_credit_any_more,
    whatever_fails_amid_a_login_the_guest_is_credited_once,
    who_leaves_has_left_whatever_a_login_before_has_come_to,
    a_logout_counts_though_the_session_was_frozen_meanwhile,
    once_a_new_id_is_sent_the_old_one_opens_nothing_of_the_user,
    a_login_as_another_user_ends_the_first_ones_session_whatever_came_before,
    what_a_login_has_frozen_is_not_lost_to_a_login_as_another_user,
    a_login_that_broke_off_can_be_tried_again_at_any_time,
    a_login_that_failed_can_be_tried_again_also_by_a_handler_that_says_sorry,
    a_superseded_request_whose_login_fails_sends_no_cookie,
    what_was_credited_of_an_unsaved_guest_is_not_written_as_the_guests_too,
    a_login_whose_session_would_be_too_large_leaves_the_guest_as_it_was,
    a_guest_is_credited_once_also_by_a_schema_that_lives_shorter_than_the_session,
    a_credit_that_arrives_after_the_guest_was_given_back_is_none,
    what_a_guest_adds_after_being_given_back_is_not_lost_to_a_late_credit,
    an_instance_whose_clock_is_ahead_doubles_nothing_of_a_login_under_way,
    a_late_verification_does_not_replace_a_session_that_was_given_back,
    an_abandoned_login_is_settled_by_the_next_who_comes,
    what_no_rule_is_known_of_waits_for_a_schema_that_knows_it,
    what_waits_is_credited_once_whatever_fails,
    taking_in_what_waits_overwrites_nothing_newer,
    a_request_that_is_not_to_be_written_writes_only_what_waited,
    what_waits_and_does_not_fit_waits_on,
    what_waits_of_unsaved_guests_is_kept_apart,
    fields_of_a_newer_version_survive_a_login_through_an_older_one,
    a_field_that_is_given_a_rule_follows_with_what_is_in_it,
    a_field_that_loses_its_rule_is_the_browsers_from_then,
    a_login_overwrites_nothing_it_cannot_read,
    a_login_finds_what_the_user_has_under_an_older_name,
    a_late_commit_writes_nothing_to_a_session_that_was_logged_out,
    a_late_commit_that_races_a_logout_revives_nothing,
    a_deleted_user_is_not_brought_back,
    logins_leave_nothing_behind_for_good,
    logins_leave_nothing_behind_for_good_where_seats_are_limited,
    a_user_who_logs_in_often_is_not_locked_out,
);

on_a_cache!(
    a_login_gives_a_new_id_and_the_old_one_opens_nothing,
    a_logout_ends_the_session_and_keeps_what_is_the_users,
    what_follows_the_user_is_live_in_every_browser,
    logins_that_race_credit_the_guest_once,
    an_abandoned_login_is_settled_by_the_next_who_comes,
    a_late_commit_writes_nothing_to_a_session_that_was_logged_out,
    a_deleted_user_is_not_brought_back,
);

type Amounts = BTreeMap<String, u32>;

#[derive(Session)]
struct Rules {
    plain: u32,
    #[flash]
    flash: Option<u32>,
    #[merge(reject)]
    reject: u32,
    #[merge(user)]
    user: u32,
    #[merge(guest)]
    guest: u32,
    #[merge(append)]
    append: Vec<u32>,
    #[merge(union)]
    union: BTreeSet<u32>,
    #[merge(sum)]
    sum: u32,
    #[merge(sum)]
    sums: Amounts,
    #[merge(max)]
    max: u32,
    #[merge(min)]
    min: u32,
    #[merge(deep)]
    deep: BTreeMap<String, Amounts>,
    #[merge(with = both)]
    with: String,
}

fn both(sides: session_runtime::Sides<String>) -> String {
    assert!(sides.base.is_none(), "nothing is the base at login");
    let [theirs, ours] = [sides.theirs, sides.ours].map(Option::unwrap_or_default);
    format!("{theirs}+{ours}")
}

/// What every field of `Rules` is set to, given one number.
fn values(number: u32) -> Rules {
    let amounts: Amounts = [("both".to_owned(), number), (format!("{number}"), number)].into();
    Rules {
        plain: number,
        flash: Some(number),
        reject: number,
        user: number,
        guest: number,
        append: vec![0, number],
        union: [0, number].into(),
        sum: number,
        sums: amounts.clone(),
        max: number,
        min: number,
        deep: [("all".to_owned(), amounts)].into(),
        with: number.to_string(),
    }
}

async fn every_field(session: Session<Rules>) -> String {
    format!(
        "plain {} flash {:?} reject {} user {} guest {} append {:?} union {:?} sum {} sums {:?} \
         max {} min {} deep {:?} with {}",
        session.plain.get(),
        session.flash.peek(),
        session.reject.get(),
        session.user.get(),
        session.guest.get(),
        session.append.get(),
        session.union.get(),
        session.sum.get(),
        session.sums.get(),
        session.max.get(),
        session.min.get(),
        session.deep.get(),
        session.with.get(),
    )
}

async fn each_field_is_merged_by_its_rule_and_an_untouched_one_overwrites_nothing(
    site: Site<impl Store>,
) {
    let set = |number| async move |mut session: Session<Rules>| session.assign(values(number));
    let enter = async |mut session: Session<Rules>| session.login("ada").await;

    // The first login finds no account: all is the guest's.
    let mut first = site.visitor();
    first.visit(set(5)).await;
    assert_eq!(first.visit(enter).await.set_cookies().len(), 1);
    let fives = "user 5 guest 5 append [0, 5] union {0, 5} sum 5 sums {\"5\": 5, \"both\": 5} max 5 \
                 min 5 deep {\"all\": {\"5\": 5, \"both\": 5}} with 5";
    let with_the_browser = "plain 5 flash Some(5) reject 5";
    assert_eq!(
        quietly(&mut first, every_field).await,
        format!("{with_the_browser} {fives}")
    );

    // A guest who has touched nothing of it overwrites nothing.
    let mut second = site.visitor();
    let plain = async |mut session: Session<Rules>| {
        session.plain.set(9);
        session.sum.get_mut();
        session.guest.get_mut();
    };
    second.visit(plain).await;
    assert_eq!(second.visit(enter).await.set_cookies().len(), 1);
    assert_eq!(
        quietly(&mut second, every_field).await,
        format!("plain 9 flash None reject 0 {fives}")
    );

    // Where both have something, the rule decides.
    let mut third = site.visitor();
    third.visit(set(3)).await;
    assert_eq!(third.visit(enter).await.set_cookies().len(), 1);
    assert_eq!(
        quietly(&mut third, every_field).await,
        "plain 3 flash Some(3) reject 3 user 5 guest 3 append [0, 5, 0, 3] union {0, 3, 5} sum 8 \
         sums {\"3\": 3, \"5\": 5, \"both\": 8} max 5 min 3 deep {\"all\": {\"3\": 3, \"5\": 5, \"both\": 3}} \
         with 5+3"
    );
    let stored = load(&site, &Key::User("ada".into())).await.unwrap();
    for name in ["plain", "flash", "reject"] {
        assert!(stored.slot(name).is_none(), "{name} is never migrated");
    }
}

async fn a_login_gives_a_new_id_and_the_old_one_opens_nothing(site: Site<impl Store>) {
    let mut visitor = guest(&site, &[1]).await;
    let mut old = visitor.clone();
    let tag = old.id()[..4].to_owned();
    login(&mut visitor, "ada").await;
    assert_ne!(visitor.id()[..4], tag, "nothing of the old id is left");
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");
    let tombstone = site.record(&old).await.unwrap();
    assert_eq!(tombstone.state, State::Ended(Ended::LoggedIn));
    assert!(tombstone.slots().is_empty());

    // For five minutes whoever still carries the old id writes nothing and is sent no cookie.
    for wait in [Duration::ZERO, 10 * SECOND, 5 * MINUTE - 10 * SECOND - MS] {
        site.clock.advance(wait);
        assert_eq!(quietly(&mut old, shown).await, NOTHING);
        assert_eq!(quietly(&mut old, why).await, "Some(LoggedIn)");
        site.store.round_trips();
        let all = async |mut session: Session<Shop>| {
            add(&mut session, 9);
            session.theme.set("loud".to_owned());
            session.notice.set("Hello".to_owned());
            session.rotate().await.unwrap();
            assert_eq!(session.save().await.unwrap(), Saved::Ended);
            session.delete("over").await.unwrap();
            add(&mut session, 9);
        };
        quietly(&mut old, all).await;
        assert_eq!(site.store.round_trips(), (1, 0));
    }
    site.clock.advance(MS);
    assert_eq!(quietly(&mut old, why).await, "Some(LoggedIn)");
    assert_eq!(gather(&mut old, 7).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut old, shown).await, "guest [7] 7 plain");
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");
}

async fn a_logout_ends_the_session_and_keeps_what_is_the_users(site: Site<impl Store>) {
    let mut visitor = user(&site, "ada", &[1]).await;
    paint(&mut visitor, "dark").await;
    let mut old = visitor.clone();
    let leave = async |mut session: Session<Shop>| {
        add(&mut session, 2);
        session.logout().await.unwrap();
        assert_eq!((session.user(), session.id()), (None, None));
        assert_eq!(session.points.get(), &0);
    };
    let reply = visitor.visit(leave).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(visitor.id(), "", "the cookie is removed");
    assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
    for wait in [Duration::ZERO, 5 * MINUTE - MS] {
        site.clock.advance(wait);
        assert_eq!(quietly(&mut old, shown).await, NOTHING);
        assert_eq!(quietly(&mut old, why).await, "Some(LoggedOut)");
        assert!(gather(&mut old, 9).await.set_cookies().is_empty());
    }
    site.clock.advance(MS);
    assert_eq!(quietly(&mut old, why).await, "Some(LoggedOut)");
    assert_eq!(gather(&mut old, 7).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut old, shown).await, "guest [7] 7 plain");

    // What was changed in the logout's own request was the user's, too.
    site.clock.advance(90 * DAY);
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 2] 3 plain");

    // A logout followed by a change begins a new guest session.
    let anew = async |mut session: Session<Shop>| {
        session.logout().await.unwrap();
        add(&mut session, 4);
    };
    assert_eq!(visitor.visit(anew).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut visitor, shown).await, "guest [4] 4 plain");
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
}

async fn a_planted_id_shows_nothing_of_the_user(site: Site<impl Store>) {
    let ada = user(&site, "ada", &[1000]).await;
    for round in 0..50 {
        let attacker = guest(&site, &[]).await;
        let mut victim = attacker.clone();
        if round % 2 == 1 {
            // The planted id leads on to the victim's, until that is presented and for ten seconds more.
            let rotate = async |mut session: Session<Shop>| session.rotate().await;
            assert_eq!(victim.visit(rotate).await.set_cookies().len(), 1);
        }
        let mut replays = JoinSet::new();
        for _ in 0..4 {
            let mut attacker = attacker.clone();
            replays.spawn(async move {
                for _ in 0..5 {
                    let seen = quietly(&mut attacker, shown).await;
                    assert!([NOTHING, "guest [] 0 dark"].contains(&&*seen), "{seen}");
                }
            });
        }
        login(&mut victim, "ada").await;
        while let Some(replay) = replays.join_next().await {
            replay.unwrap();
        }
        for wait in [Duration::ZERO, 10 * SECOND, 5 * MINUTE, HOUR] {
            site.clock.advance(wait);
            let mut attacker = attacker.clone();
            assert_eq!(quietly(&mut attacker, shown).await, NOTHING, "{round}");
            assert_eq!(quietly(&mut attacker, club).await, "0 ");
            gather(&mut attacker, 1).await;
            let seen = attacker.visit(shown).await.body;
            assert!([NOTHING, "guest [1] 1 plain"].contains(&&*seen), "{seen}");
        }
    }
    assert_eq!(account(&site, "ada").await, "[1000] 1000");
    drop(ada);
}

async fn what_follows_the_user_is_live_in_every_browser(site: Site<impl Store>) {
    const EACH: u32 = 5;
    let (mut phone, mut desk) = (user(&site, "ada", &[]).await, user(&site, "ada", &[]).await);
    paint(&mut desk, "dark").await;
    gather(&mut phone, 1).await;
    assert_eq!(quietly(&mut desk, shown).await, "ada [1] 1 dark");
    gather(&mut desk, 2).await;
    assert_eq!(quietly(&mut phone, shown).await, "ada [1, 2] 3 plain");

    // In one request, too: a refresh shows what the other browser has added, under what was added here.
    let mut other = desk.clone();
    let overlapping = async move |mut session: Session<Shop>| {
        add(&mut session, 3);
        gather(&mut other, 4).await;
        session.refresh().await.unwrap();
        format!("{:?} {}", session.seen.get(), session.points.get())
    };
    assert_eq!(quietly(&mut phone, overlapping).await, "[1, 2, 4, 3] 10");
    assert_eq!(account(&site, "ada").await, "[1,2,4,3] 10");

    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let mut tab = [&phone, &desk][task % 2].clone();
        tasks.spawn(async move {
            for _ in 0..EACH {
                let count = async |mut session: Session<Shop>| *session.points.get_mut() += 1;
                quietly(&mut tab, count).await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let points = 10 + 64 * EACH;
    for (browser, theme) in [(&mut phone, "plain"), (&mut desk, "dark")] {
        let expected = format!("ada [1, 2, 4, 3] {points} {theme}");
        assert_eq!(quietly(browser, shown).await, expected);
    }
}

async fn a_login_as_another_user_starts_clean(site: Site<impl Store>) {
    let mut visitor = guest(&site, &[1]).await;
    join_club(&mut visitor, 3, "gold").await;
    let note = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    visitor.visit(note).await;
    login(&mut visitor, "ada").await;
    let mut old = visitor.clone();
    let change = async |mut session: Session<Shop>| {
        add(&mut session, 2);
        session.theme.set("loud".to_owned());
        session.set_ttl(HOUR);
        session.login("bob").await.unwrap();
        assert_eq!(session.user(), Some("bob".into()));
        assert_eq!((session.seen.get().len(), session.points.get()), (0, &0));
        assert_eq!(session.theme.get(), "plain");
        assert_eq!(session.notice.peek(), &None);
    };
    assert_eq!(visitor.visit(change).await.set_cookies().len(), 1);
    assert_eq!(quietly(&mut visitor, shown).await, "bob [] 0 plain");
    assert_eq!(quietly(&mut visitor, club).await, "0 ");
    let names = |record: &Record| {
        let names = record
            .slots()
            .iter()
            .map(|slot| slot.name().as_str().to_owned());
        names.collect::<Vec<_>>()
    };
    let record = site.record(&visitor).await.unwrap();
    assert_eq!(
        names(&record),
        ["@authenticated", "@created", "@device", "@user"]
    );
    let bob = load(&site, &Key::User("bob".into())).await.unwrap();
    assert_eq!(names(&bob), ["@epoch"]);
    assert_eq!(quietly(&mut old, why).await, "Some(LoggedIn)");
    assert_eq!(quietly(&mut old, shown).await, NOTHING);
    assert_eq!(
        account(&site, "ada").await,
        "[1,2] 3",
        "what was changed before was the first user's"
    );
}

async fn a_second_login_of_the_user_doubles_nothing(site: Site<impl Store>) {
    let mut visitor = guest(&site, &[1]).await;
    login(&mut visitor, "ada").await;
    gather(&mut visitor, 2).await;
    let mut old = visitor.clone();
    for _ in 0..3 {
        login(&mut visitor, "ada").await;
        assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 2] 3 dark");
        assert_eq!(quietly(&mut old, shown).await, NOTHING);
    }
    let twice = async |mut session: Session<Shop>| {
        add(&mut session, 4);
        session.login("ada").await.unwrap();
        add(&mut session, 8);
        session.login("ada").await.unwrap();
        session.id().unwrap().expose().to_owned()
    };
    let reply = visitor.visit(twice).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(
        reply.body,
        visitor.id(),
        "the last id is the one that is sent"
    );
    assert_eq!(
        quietly(&mut visitor, shown).await,
        "ada [1, 2, 4, 8] 15 dark"
    );

    // What another tab writes while the login's handler runs is not lost.
    let mut tab = visitor.clone();
    let slow = async move |mut session: Session<Shop>| {
        paint(&mut tab, "loud").await;
        gather(&mut tab, 16).await;
        session.login("ada").await.unwrap();
    };
    visitor.visit(slow).await;
    assert_eq!(
        quietly(&mut visitor, shown).await,
        "ada [1, 2, 4, 8, 16] 31 loud"
    );

    // What was gathered after a logout is merged by the next login.
    visitor.visit(logout).await;
    gather(&mut visitor, 32).await;
    login(&mut visitor, "ada").await;
    assert_eq!(
        quietly(&mut visitor, shown).await,
        "ada [1, 2, 4, 8, 16, 32] 63 plain"
    );
}

async fn changes_made_before_the_login_in_its_request_count(site: Site<impl Store>) {
    for stored in [false, true] {
        let name = format!("ada {stored}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = site.visitor();
        if stored {
            visitor = guest(&site, &[2]).await;
            let note = async |mut session: Session<Shop>| session.notice.set("Read me".to_owned());
            visitor.visit(note).await;
        }
        let user = UserId::new(&*name);
        let enter = async move |mut handles: Handles| {
            let mut other = handles.open::<Club>().await;
            other.stamps.set(6);
            drop(other);
            let mut session = handles.open::<Shop>().await;
            assert_eq!(session.notice.get().is_some(), stored);
            add(&mut session, 4);
            session.theme.set("loud".to_owned());
            session.set_ttl(4 * HOUR);
            session.login(user).await.unwrap();
            add(&mut session, 8);
            assert_eq!(session.theme.get(), "loud");
            format!("{:?} {}", session.seen.get(), session.points.get())
        };
        let reply = visitor.visit(enter).await;
        assert_eq!(reply.set_cookies().len(), 1);
        let (seen, points) = if stored {
            ("[1, 2, 4, 8]", 15)
        } else {
            ("[1, 4, 8]", 13)
        };
        assert_eq!(reply.body, format!("{seen} {points}"));
        let expected = format!("{name} {seen} {points} loud");
        assert_eq!(quietly(&mut visitor, shown).await, expected);
        assert_eq!(quietly(&mut visitor, club).await, "6 ");
        let notice = async |session: Session<Shop>| format!("{:?}", session.notice.peek());
        assert_eq!(quietly(&mut visitor, notice).await, "None", "it was read");
        site.clock.advance(3 * HOUR);
        assert_eq!(
            quietly(&mut visitor, shown).await,
            expected,
            "it lives longer"
        );
    }
}

/// The loads and commits of a request.
async fn cost<T: 'static>(
    site: &Site<impl Store>,
    visitor: &mut Visitor,
    handler: impl Handler<T, ()>,
) -> (usize, usize) {
    site.store.round_trips();
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    site.store.round_trips()
}

async fn a_request_of_a_user_costs_one_more_load_and_a_commit_only_for_what_changed(
    site: Site<impl Store>,
) {
    let theme = async |mut session: Session<Shop>| session.theme.set("loud".to_owned());
    let follows = async |mut session: Session<Shop>| add(&mut session, 1);
    let all = async |mut session: Session<Shop>| {
        add(&mut session, 1);
        session.theme.set("mild".to_owned());
    };
    let borrows = async |mut session: Session<Shop>| {
        session.theme.get_mut();
        session.points.get_mut();
        session.seen.get_mut();
    };
    let mut visitor = guest(&site, &[1]).await;
    assert_eq!(cost(&site, &mut visitor, shown).await, (1, 0));
    let enter = async |mut session: Session<Shop>| session.login("ada").await;
    assert_eq!(
        cost(&site, &mut guest(&site, &[1]).await, enter).await,
        (3, 6),
        "the user's record is made"
    );
    assert_eq!(
        cost(&site, &mut visitor, enter).await,
        (3, 5),
        "claim, credit, open, verify, end"
    );
    assert_eq!(cost(&site, &mut visitor, async || ()).await, (0, 0));
    assert_eq!(cost(&site, &mut visitor, shown).await, (2, 0));
    assert_eq!(cost(&site, &mut visitor, club).await, (2, 0));
    assert_eq!(cost(&site, &mut visitor, borrows).await, (2, 0));
    assert_eq!(cost(&site, &mut visitor, theme).await, (2, 1));
    assert_eq!(cost(&site, &mut visitor, follows).await, (2, 1));
    assert_eq!(cost(&site, &mut visitor, all).await, (2, 2));
    assert_eq!(cost(&site, &mut visitor, logout).await, (2, 1));
}

async fn logins_that_race_credit_the_guest_once(site: Site<impl Store>) {
    for race in 0..250 {
        let name = format!("ada {race}");
        let one = guest(&site, &[1]).await;
        let barrier = Arc::new(Barrier::new(2));
        let mut tabs = JoinSet::new();
        for _ in 0..2 {
            let mut tab = one.clone();
            // In every other race, both have loaded before either logs in.
            let barrier = (race % 2 == 0).then(|| Arc::clone(&barrier));
            let user = UserId::new(&*name);
            tabs.spawn(async move {
                let handler = async move |mut session: Session<Shop>| {
                    if let Some(barrier) = barrier {
                        barrier.wait().await;
                    }
                    session.login(user).await
                };
                let reply = tab.visit(handler).await;
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
                tab
            });
        }
        while let Some(tab) = tabs.join_next().await {
            let cart = quietly(&mut tab.unwrap(), shown).await;
            assert!(cart.starts_with(&format!("{name} [1] 1 ")), "{cart}");
        }
        assert_eq!(account(&site, &*name).await, "[1] 1");
        assert_eq!(quietly(&mut one.clone(), shown).await, NOTHING);
    }
}

/// Logs in as `user`, in a task.
fn logs_in(mut tab: Visitor, user: &str) -> JoinHandle<(Visitor, Reply)> {
    let user = UserId::new(user);
    tokio::spawn(async move {
        let reply = try_login(&mut tab, user).await;
        (tab, reply)
    })
}

async fn a_login_that_fails_takes_nothing_from_one_that_shares_its_claim(site: Site<impl Store>) {
    let strict = site.layer.clone().max_field(4); // what is credited is larger
    // The guest loaded, the user, the claim, what it froze; and then what comes of that.
    let held = || std::iter::repeat_n(Fault::None, 4).chain([Fault::Held]);
    for (first_fails, apart) in [
        (true, Duration::ZERO),
        (true, SECOND),
        (false, Duration::ZERO),
        (false, SECOND),
    ] {
        let name = format!("ada, {first_fails} {apart:?}");
        drop(user(&site, &*name, &[1]).await);
        let mut tab = guest(&site, &[2]).await;
        let failing = tab.moved_to(&strict);

        site.store.plan(held());
        let first = if first_fails { &failing } else { &tab };
        let first = logs_in(first.clone(), &name);
        site.store.until_held(1).await;
        site.clock.advance(apart);
        let (login, failed) = if first_fails {
            site.store.plan(held());
            let second = logs_in(tab.clone(), &name);
            site.store.until_held(2).await;
            site.store.release();
            (second, first.await)
        } else {
            (first, logs_in(failing, &name).await)
        };
        let failed = failed.unwrap().1;
        assert_eq!(failed.status, StatusCode::PAYLOAD_TOO_LARGE, "{name}");

        // The other is about to credit. Nobody is told that something is written which is lost with the guest.
        let write = async |mut session: Session<Shop>| {
            add(&mut session, 3);
            format!("{:?}", session.save().await.unwrap())
        };
        let written = quietly(&mut tab, write).await;
        site.store.release();
        let (mut login, reply) = login.await.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(written, "Ended", "{name}");
        let seen = quietly(&mut login, shown).await;
        assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
        assert_eq!(account(&site, &*name).await, "[1,2] 3");
    }
}

async fn a_guest_whose_logins_all_fail_goes_on_when_none_can_credit_any_more(
    site: Site<impl Store>,
) {
    drop(user(&site, "ada", &[1]).await);
    let strict = site.layer.clone().max_field(4);
    let mut tab = guest(&site, &[2]).await;
    let held = std::iter::repeat_n(Fault::None, 4).chain([Fault::Held]);
    site.store.plan(held);
    let first = logs_in(tab.moved_to(&strict), "ada");
    site.store.until_held(1).await;
    site.clock.advance(SECOND);
    let second = logs_in(tab.moved_to(&strict), "ada").await;
    site.store.release();
    for (_, reply) in [first.await, second].map(Result::unwrap) {
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    site.clock.advance(10 * SECOND - MS);
    assert_eq!(quietly(&mut tab, shown).await, NOTHING);
    site.clock.advance(MS);
    assert_eq!(quietly(&mut tab, shown).await, "guest [2] 2 dark");
    gather(&mut tab, 3).await;
    login(&mut tab, "ada").await;
    assert_eq!(account(&site, "ada").await, "[1,2,3] 6");
}

/// Sends a request during which the `call`th call of the store and all later ones fail.
async fn break_off<T: 'static>(
    site: &Site<impl Store>,
    visitor: &mut Visitor,
    (call, fault, then): (usize, Fault, Fault),
    handler: impl Handler<T, ()>,
) -> Reply {
    site.store.fail_after(call, fault, then);
    let reply = visitor.visit(handler).await;
    site.store.heal();
    reply
}

/// Where a request of so many calls can break off.
fn places(calls: usize) -> impl Iterator<Item = (usize, Fault, Fault)> {
    let faults = [Fault::Before, Fault::After];
    (0..calls).flat_map(move |call| faults.map(|fault| (call, fault, Fault::Full)))
}

/// Logs a guest in who has 2, as a user who has 1, while the `call`th call and all later ones fail.
async fn fail_at(
    site: &Site<impl Store>,
    name: &str,
    place: (usize, Fault, Fault),
) -> (Visitor, Visitor) {
    drop(user(site, name, &[1]).await);
    let guest = guest(site, &[2]).await;
    let mut visitor = guest.clone();
    let reply = break_off(site, &mut visitor, place, entering(name)).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    (visitor, guest)
}

/// A site whose store may stay away until the deadline, which is soon.
fn hasty() -> Site<MemoryStore> {
    Site::in_memory().with(|layer| layer.deadline(30 * MS))
}

/// How many calls a guest's login makes.
async fn calls(site: &Site<impl Store>) -> usize {
    drop(user(site, "somebody", &[]).await);
    let mut visitor = guest(site, &[2]).await;
    site.store.round_trips();
    login(&mut visitor, "somebody").await;
    let (loads, commits) = site.store.round_trips();
    loads + commits
}

async fn whatever_fails_amid_a_login_the_guest_is_credited_once(site: Site<impl Store>) {
    the_guest_is_credited_once(site, Fault::Full).await;
}

#[tokio::test(start_paused = true)]
async fn though_the_store_stays_away_amid_a_login_the_guest_is_credited_once() {
    the_guest_is_credited_once(hasty(), Fault::Before).await;
}

async fn the_guest_is_credited_once(site: Site<impl Store>, then: Fault) {
    for call in 0..calls(&site).await {
        for fault in [Fault::Before, Fault::After] {
            for wait in [Duration::ZERO, 5 * SECOND, 11 * SECOND] {
                let name = format!("{fault:?} at call {call}, tried again after {wait:?}");
                let failing = fail_at(&site, &name, (call, fault, then));
                let (mut visitor, mut guest) = failing.await;
                site.clock.advance(wait);
                login(&mut visitor, &*name).await;
                let expected = format!("{name} [1, 2] 3 dark");
                assert_eq!(quietly(&mut visitor, shown).await, expected);
                assert_eq!(account(&site, &*name).await, "[1,2] 3");
                for wait in [Duration::ZERO, 11 * SECOND, 6 * MINUTE] {
                    site.clock.advance(wait);
                    assert_eq!(quietly(&mut guest, shown).await, NOTHING, "{name}");
                }
                assert_eq!(quietly(&mut guest, why).await, "Some(LoggedIn)", "{name}");
                // And once more, since what is credited already must not come again.
                login(&mut visitor, &*name).await;
                assert_eq!(quietly(&mut visitor, shown).await, expected);
            }
        }
    }
}

async fn who_leaves_has_left_whatever_a_login_before_has_come_to(site: Site<impl Store>) {
    let forget = async |mut session: Session<Shop>| session.delete("forget me").await;
    for place in places(calls(&site).await) {
        let name = format!("ada {place:?}");
        let mut ada = user(&site, &*name, &[]).await;
        break_off(&site, &mut ada, place, entering(&*name)).await;
        assert_eq!(ada.visit(logout).await.status, StatusCode::OK);
        let mut visitor = guest(&site, &[1]).await;
        break_off(&site, &mut visitor, place, entering(&*name)).await;
        assert_eq!(visitor.visit(forget).await.status, StatusCode::OK);
        site.clock.advance(10 * SECOND);
        assert_eq!(quietly(&mut ada, shown).await, NOTHING, "{name}");
        assert_eq!(quietly(&mut visitor, shown).await, NOTHING, "{name}");
    }
}

async fn a_logout_counts_though_the_session_was_frozen_meanwhile(site: Site<impl Store>) {
    let mut visitor = user(&site, "ada", &[]).await;
    let mut old = visitor.clone();
    let (store, key, now) = (Arc::clone(&site.store), visitor.key(), site.now());
    let leave = async move |mut session: Session<Shop>| {
        // A login in another tab, which gets no further.
        let claim = Change::new(Kind::Claim("ada".into()), now);
        let claimed = store.inner().commit(&key, &claim).await.unwrap();
        assert_eq!(claimed, Committed::Applied);
        session.theme.set("late".to_owned());
        assert_eq!(session.save().await.unwrap(), Saved::Ended);
        session.logout().await
    };
    let reply = visitor.visit(leave).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(visitor.id(), "", "the cookie is removed");
    site.clock.advance(10 * SECOND);
    assert_eq!(quietly(&mut old, shown).await, NOTHING);
    assert_eq!(quietly(&mut old, why).await, "Some(LoggedOut)");
}

/// The site without a limit on sessions, and then with one.
fn with_limit<S: Store>(site: Site<S>, limited: bool) -> Site<S> {
    if limited {
        site.with(|layer| layer.max_sessions(5, WhenFull::EndOldest))
    } else {
        site
    }
}

async fn once_a_new_id_is_sent_the_old_one_opens_nothing_of_the_user(mut site: Site<impl Store>) {
    let mut sent = 0;
    for limited in [false, true] {
        site = with_limit(site, limited);
        for place in places(14) {
            let name = format!("ada {limited} {place:?}");
            let mut visitor = user(&site, &*name, &[7]).await;
            let mut old = visitor.clone();
            let reply = break_off(&site, &mut visitor, place, entering(&*name)).await;
            if reply.set_cookies().is_empty() {
                continue;
            }
            sent += usize::from(reply.status != StatusCode::OK);
            for wait in [Duration::ZERO, 10 * SECOND, 5 * MINUTE] {
                site.clock.advance(wait);
                assert_eq!(quietly(&mut old, shown).await, NOTHING, "{name}");
            }
        }
    }
    assert!(
        sent > 3,
        "only {sent} with a new id that came with an error"
    );
}

async fn a_login_as_another_user_ends_the_first_ones_session_whatever_came_before(
    site: Site<impl Store>,
) {
    for place in places(calls(&site).await) {
        let name = format!("ada {place:?}");
        let mut visitor = user(&site, &*name, &[]).await;
        let mut old = visitor.clone();
        let reply = break_off(&site, &mut visitor, place, entering(&*name)).await;
        if !reply.set_cookies().is_empty() {
            continue;
        }
        login(&mut visitor, "bob").await;
        site.clock.advance(10 * SECOND);
        assert_eq!(quietly(&mut old, shown).await, NOTHING, "{name}");
    }
}

async fn what_a_login_has_frozen_is_not_lost_to_a_login_as_another_user(site: Site<impl Store>) {
    let mut refused = 0;
    for place in places(calls(&site).await) {
        let name = format!("ada {place:?}");
        let (mut visitor, mut guest) = fail_at(&site, &name, place).await;
        if account(&site, &*name).await != "[1] 1" {
            continue; // it is hers
        }
        let other = format!("bob {place:?}");
        if try_login(&mut visitor, &*other).await.status != StatusCode::OK {
            refused += 1;
            assert_eq!(visitor.id(), guest.id());
            site.clock.advance(10 * SECOND);
            assert_eq!(quietly(&mut guest, shown).await, "guest [2] 2 dark");
            login(&mut visitor, &*other).await;
        }
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{other} [2] 2 dark"));
        assert_eq!(account(&site, &*name).await, "[1] 1");
    }
    assert!(refused > 1, "{refused}");
}

async fn a_login_that_broke_off_can_be_tried_again_at_any_time(mut site: Site<impl Store>) {
    let waits = [10 * SECOND, MINUTE, 2 * MINUTE].into_iter().cycle();
    for limited in [false, true] {
        site = with_limit(site, limited);
        for (place, wait) in places(14).zip(waits.clone()) {
            for again in [false, true] {
                let name = format!("ada, limited {limited}, again {again}, {place:?}, {wait:?}");
                drop(user(&site, &*name, &[1]).await);
                let mut visitor = guest(&site, &[2]).await;
                if again {
                    login(&mut visitor, &*name).await;
                }
                break_off(&site, &mut visitor, place, entering(&*name)).await;
                site.clock.advance(wait);
                login(&mut visitor, &*name).await;
                let seen = quietly(&mut visitor, shown).await;
                assert!(seen.starts_with(&format!("{name} [1, 2] 3 ")), "{seen}");
            }
        }
    }
}

/// Tries to log in, and says so politely where that fails. The store has recovered by then.
fn or_sorry(
    site: &Site<impl Store>,
    user: &str,
) -> impl FnOnce(Session<Shop>) -> Told + Clone + Send + Sync + 'static {
    let (store, user) = (Arc::clone(&site.store), UserId::new(user));
    move |mut session| {
        Box::pin(async move {
            let failed = session.login(user).await.is_err();
            store.heal();
            if failed {
                session.notice.set("Please try again.".to_owned());
            }
            failed.to_string()
        })
    }
}

async fn a_login_that_failed_can_be_tried_again_also_by_a_handler_that_says_sorry(
    mut site: Site<impl Store>,
) {
    for limited in [false, true] {
        site = with_limit(site, limited);
        for place in places(14) {
            let name = format!("ada {limited} {place:?}");
            drop(user(&site, &*name, &[1]).await);
            let mut visitor = guest(&site, &[2]).await;
            let sorry = or_sorry(&site, &name);
            let reply = break_off(&site, &mut visitor, place, sorry).await;
            if reply.body != "true" || reply.status != StatusCode::OK {
                continue;
            }
            login(&mut visitor, &*name).await;
            let expected = format!("{name} [1, 2] 3 dark");
            assert_eq!(quietly(&mut visitor, shown).await, expected);
        }
    }
}

async fn a_superseded_request_whose_login_fails_sends_no_cookie(site: Site<impl Store>) {
    for place in places(calls(&site).await) {
        let name = format!("ada {place:?}");
        let mut visitor = guest(&site, &[2]).await;
        // A login of another tab is under way: it has claimed the guest.
        break_off(
            &site,
            &mut visitor,
            (3, Fault::After, Fault::Full),
            entering(&*name),
        )
        .await;
        let id = visitor.id();
        let sorry = or_sorry(&site, &name);
        let reply = break_off(&site, &mut visitor, place, sorry).await;
        let seen = quietly(&mut visitor, shown).await;
        let sent = visitor.id() != id;
        assert_eq!(sent, seen.starts_with("ada"), "{seen} {}", reply.body);
        site.clock.advance(MINUTE);
    }
}

async fn what_was_credited_of_an_unsaved_guest_is_not_written_as_the_guests_too(
    site: Site<impl Store>,
) {
    for place in places(calls(&site).await) {
        let name = format!("ada {place:?}");
        drop(user(&site, &*name, &[1]).await);
        let user = UserId::new(&*name);
        let store = Arc::clone(&site.store);
        let enter = async move |mut session: Session<Shop>| {
            add(&mut session, 2);
            session.theme.set("dark".to_owned());
            let entered = session.login(user).await;
            store.heal();
            entered
        };
        let mut visitor = site.visitor();
        break_off(&site, &mut visitor, place, enter).await;
        login(&mut visitor, &*name).await;
        let stored = account(&site, &*name).await;
        assert!(["[1] 1", "[1,2] 3"].contains(&&*stored), "{name}: {stored}");
    }
}

async fn a_login_whose_session_would_be_too_large_leaves_the_guest_as_it_was(
    site: Site<impl Store>,
) {
    let site = site.with(|layer| layer.max_record(1000));
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    let fill = async |mut session: Session<Shop>| session.theme.set("x".repeat(900));
    assert_eq!(visitor.visit(fill).await.status, StatusCode::OK);
    let reply = try_login(&mut visitor, "ada").await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(account(&site, "ada").await, "[1] 1");
    for wait in [Duration::ZERO, 10 * SECOND, 5 * MINUTE] {
        site.clock.advance(wait);
        let seen = quietly(&mut visitor, shown).await;
        assert!(seen.starts_with("guest [2] 2 xxx"), "{seen}");
    }
}

/// The schema of pages that are visited for months.
#[derive(Session)]
#[session(ttl = "2d", absolute = "90d")]
struct Pages {
    #[merge(sum)]
    points: u32,
}

/// That of the page where one logs in.
#[derive(Session)]
#[session(ttl = "1h", absolute = "12h")]
struct Door {
    #[merge(sum)]
    points: u32,
}

async fn a_guest_is_credited_once_also_by_a_schema_that_lives_shorter_than_the_session(
    site: Site<impl Store>,
) {
    let collect = async |mut session: Session<Pages>| *session.points.get_mut() += 2;
    let points = async |session: Session<Pages>| session.points.get().to_string();
    for place in places(calls(&site).await) {
        let user = UserId::from(format!("ada {place:?}"));
        let enter = async move |mut session: Session<Door>| session.login(user).await;
        let mut one = site.visitor();
        one.visit(collect).await;
        site.clock.advance(DAY);
        break_off(&site, &mut one, place, enter.clone()).await;
        // Another browser logs in, with something to merge: that takes out marks which have lapsed.
        let mut other = site.visitor();
        other.visit(collect).await;
        assert_eq!(other.visit(enter.clone()).await.status, StatusCode::OK);
        assert_eq!(one.visit(enter).await.status, StatusCode::OK);
        assert_eq!(quietly(&mut one, points).await, "4", "{place:?}");
    }
}

/// The call of a login at which a guest is credited.
const CREDIT: usize = 4;
/// That at which a session is verified, of a user who logs in again.
const VERIFICATION: usize = 5;

/// Begins a login as `user` whose `call`th call is on the wire when it gives up.
async fn cut_off(site: &Site<impl Store>, visitor: &Visitor, user: &str, call: usize) {
    site.store.fail_after(call, Fault::Stray, Fault::Full);
    let reply = try_login(&mut visitor.clone(), user).await;
    site.store.heal();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    site.store.until_held(1).await;
}

async fn a_credit_that_arrives_after_the_guest_was_given_back_is_none(site: Site<impl Store>) {
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    for _ in 0..2 {
        cut_off(&site, &visitor, "ada", CREDIT).await;
        site.clock.advance(10 * SECOND);
        assert_eq!(quietly(&mut visitor, shown).await, "guest [2] 2 dark");
        site.store.arrival().await;
        assert_eq!(account(&site, "ada").await, "[1] 1");
    }
    gather(&mut visitor, 4).await;
    login(&mut visitor, "bob").await;
    assert_eq!(account(&site, "bob").await, "[2,4] 6");
}

async fn what_a_guest_adds_after_being_given_back_is_not_lost_to_a_late_credit(
    site: Site<impl Store>,
) {
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    cut_off(&site, &visitor, "ada", CREDIT).await;
    site.clock.advance(10 * SECOND);
    gather(&mut visitor, 4).await;
    site.store.arrival().await;
    gather(&mut visitor, 8).await;
    login(&mut visitor, "ada").await;
    let seen = quietly(&mut visitor, shown).await;
    assert_eq!(seen, "ada [1, 2, 4, 8] 15 dark");
}

async fn an_instance_whose_clock_is_ahead_doubles_nothing_of_a_login_under_way(
    site: Site<impl Store>,
) {
    drop(user(&site, "ada", &[1]).await);
    let visitor = guest(&site, &[2]).await;
    let ahead = TestClock::new();
    ahead.advance(site.now().since(ahead.now()) + MINUTE);
    let other = site.layer.clone().clock(ahead);
    let held = std::iter::repeat_n(Fault::None, CREDIT).chain([Fault::Held]);
    site.store.plan(held);
    let ada = logs_in(visitor.clone(), "ada");
    site.store.until_held(1).await;
    // Another tab comes to the other instance, which takes the login for one that was broken off.
    let mut tab = visitor.moved_to(&other);
    login(&mut tab, "bob").await;
    site.store.release();
    let (_, reply) = ada.await.unwrap();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(account(&site, "ada").await, "[1] 1");
    assert_eq!(account(&site, "bob").await, "[2] 2");
}

async fn a_late_verification_does_not_replace_a_session_that_was_given_back(
    site: Site<impl Store>,
) {
    let mut visitor = user(&site, "ada", &[1]).await;
    cut_off(&site, &visitor, "ada", VERIFICATION).await;
    site.clock.advance(10 * SECOND);
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 plain");
    site.store.arrival().await;
    for wait in [Duration::ZERO, 10 * SECOND, 5 * MINUTE] {
        site.clock.advance(wait);
        assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 plain");
    }
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 plain");
}

async fn an_abandoned_login_is_settled_by_the_next_who_comes(site: Site<impl Store>) {
    the_next_who_comes_settles_it(site, Fault::Full).await;
}

#[tokio::test(start_paused = true)]
async fn so_is_one_that_the_deadline_has_ended() {
    the_next_who_comes_settles_it(hasty(), Fault::Before).await;
}

async fn the_next_who_comes_settles_it(site: Site<impl Store>, then: Fault) {
    let (mut released, mut ended) = (0, 0);
    for call in 0..calls(&site).await {
        for fault in [Fault::Before, Fault::After] {
            let name = format!("{fault:?} at call {call}");
            let (_, mut guest) = fail_at(&site, &name, (call, fault, then)).await;
            site.clock.advance(10 * SECOND - MS);
            if matches!(
                site.record(&guest).await.unwrap().state,
                State::Claimed { .. }
            ) {
                assert_eq!(quietly(&mut guest, shown).await, NOTHING, "{name}");
                assert!(gather(&mut guest, 9).await.set_cookies().is_empty());
            }
            site.clock.advance(MS);
            let settled = quietly(&mut guest, shown).await;
            if settled == NOTHING {
                ended += 1;
                assert_eq!(account(&site, &*name).await, "[1,2] 3", "{name}");
                site.clock.advance(5 * MINUTE);
                assert_eq!(quietly(&mut guest, shown).await, NOTHING, "{name}");
                let tombstone = site.record(&guest).await.unwrap();
                assert_eq!(tombstone.state, State::Ended(Ended::LoggedIn), "{name}");
                continue;
            }
            released += 1;
            assert_eq!(settled, "guest [2] 2 dark", "{name}");
            assert_eq!(account(&site, &*name).await, "[1] 1", "{name}");
            // The guest goes on, and logs in as somebody else.
            assert!(gather(&mut guest, 3).await.set_cookies().is_empty());
            let other = format!("another than {name}");
            login(&mut guest, &*other).await;
            assert_eq!(account(&site, &*other).await, "[2,3] 5");
            assert_eq!(account(&site, &*name).await, "[1] 1", "{name}");
        }
    }
    assert!(released > 3 && ended > 3, "{released} {ended}");
}

async fn what_no_rule_is_known_of_waits_for_a_schema_that_knows_it(site: Site<impl Store>) {
    let mut desk = user(&site, "ada", &[]).await;
    join_club(&mut desk, 5, "silver").await;

    let mut visitor = guest(&site, &[1]).await;
    join_club(&mut visitor, 2, "gold").await;
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");
    assert_eq!(quietly(&mut desk, club).await, "5 silver", "it waits");
    login(&mut visitor, "ada").await; // waits on
    let stamp = async |mut session: Session<Club>| *session.stamps.get_mut() += 10;
    quietly(&mut visitor, stamp).await;
    assert_eq!(quietly(&mut visitor, club).await, "17 gold");
    assert_eq!(quietly(&mut desk, club).await, "17 silver");
    assert_eq!(
        cost(&site, &mut visitor, club).await,
        (2, 0),
        "that was once"
    );
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, club).await, "17 gold");

    // Requests that overlap take it in once.
    for race in 1..=20 {
        let mut visitor = site.visitor();
        join_club(&mut visitor, 1, "gold").await;
        login(&mut visitor, "ada").await;
        let mut tabs = JoinSet::new();
        for _ in 0..4 {
            let mut tab = visitor.clone();
            tabs.spawn(async move { quietly(&mut tab, club).await });
        }
        while let Some(tab) = tabs.join_next().await {
            assert_eq!(tab.unwrap(), format!("{} gold", 17 + race));
        }
    }

    // A login as another user leaves what waits behind.
    let mut visitor = guest(&site, &[]).await;
    join_club(&mut visitor, 100, "gold").await;
    login(&mut visitor, "ada").await;
    login(&mut visitor, "bob").await;
    assert_eq!(quietly(&mut visitor, club).await, "0 ");
    assert_eq!(quietly(&mut desk, club).await, "37 silver");
}

async fn what_waits_is_credited_once_whatever_fails(site: Site<impl Store>) {
    what_waits_is_credited_once(site, Fault::Full).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_credited_once_though_the_store_stays_away() {
    what_waits_is_credited_once(hasty(), Fault::Before).await;
}

async fn what_waits_is_credited_once(site: Site<impl Store>, then: Fault) {
    let mut desk = user(&site, "ada", &[]).await;
    join_club(&mut desk, 5, "silver").await;
    let waiting = async |astray: bool| {
        let mut visitor = site.visitor();
        if astray {
            login(&mut visitor, "ada").await;
            site.plant(&visitor, "club.stamps", "1").await; // by a version that has no rule for it
            site.plant(&visitor, "club.badge", "\"gold\"").await;
        } else {
            join_club(&mut visitor, 1, "gold").await;
            login(&mut visitor, "ada").await;
        }
        visitor
    };
    let mut stamps = 5;
    for astray in [false, true] {
        let (loads, commits) = cost(&site, &mut waiting(astray).await, club).await;
        assert_eq!((loads, commits), (2, if astray { 3 } else { 2 }));
        stamps += 1;
        for call in 0..loads + commits {
            for fault in [Fault::Before, Fault::After] {
                let visitor = waiting(astray).await;
                site.store.fail_after(call, fault, then);
                let reply = visitor.clone().visit(club).await;
                assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
                site.store.heal();
                stamps += 1;
                for _ in 0..2 {
                    let seen = quietly(&mut visitor.clone(), club).await;
                    assert_eq!(seen, format!("{stamps} gold"), "{fault:?} at call {call}");
                }
                assert_eq!(quietly(&mut desk, club).await, format!("{stamps} silver"));
            }
        }
    }
}

async fn taking_in_what_waits_overwrites_nothing_newer(site: Site<impl Store>) {
    let mut visitor = site.visitor();
    join_club(&mut visitor, 1, "gold").await;
    login(&mut visitor, "ada").await;
    let mut tab = visitor.clone();
    let late = async move |mut handles: Handles| {
        drop(handles.open::<Shop>().await);
        join_club(&mut tab, 1, "silver").await;
        handles.open::<Club>().await.badge.get().clone()
    };
    assert_eq!(quietly(&mut visitor, late).await, "silver");
    assert_eq!(quietly(&mut visitor, club).await, "2 silver");
    let record = load(&site, &visitor.key()).await.unwrap();
    let waits = |slot: &Arc<Slot>| slot.name().as_str().starts_with("@pending");
    assert!(!record.slots().iter().any(waits) && record.slot("@").is_none());
}

async fn a_request_that_is_not_to_be_written_writes_only_what_waited(site: Site<impl Store>) {
    let mut visitor = site.visitor();
    join_club(&mut visitor, 1, "gold").await;
    login(&mut visitor, "ada").await;
    let note = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    visitor.visit(note).await;
    let times_out = async |mut handles: Handles| {
        let mut session = handles.open::<Shop>().await;
        assert!(session.notice.get().is_some());
        session.theme.set("loud".to_owned());
        add(&mut session, 1);
        drop(session);
        assert_eq!(*handles.open::<Club>().await.stamps.get(), 1);
        StatusCode::REQUEST_TIMEOUT
    };
    let reply = visitor.visit(times_out).await;
    assert_eq!(reply.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(quietly(&mut visitor, shown).await, "ada [] 0 plain");
    assert_eq!(cost(&site, &mut visitor, club).await, (2, 0), "it is in");
    let read = async |session: Session<Shop>| session.notice.peek().clone().unwrap_or_default();
    assert_eq!(quietly(&mut visitor, read).await, "Hello");
}

async fn what_waits_and_does_not_fit_waits_on(site: Site<impl Store>) {
    let site = site.with(|layer| layer.max_field(60));
    let enter = async |mut session: Session<Club>| session.login("ada").await;
    let [mut desk, mut phone] = [
        guest(&site, &[100_000_000; 3]).await,
        guest(&site, &[200_000_000; 3]).await,
    ];
    for visitor in [&mut desk, &mut phone] {
        assert_eq!(visitor.visit(enter).await.status, StatusCode::OK);
    }
    let first = format!("ada {:?} 300000000 dark", [100_000_000; 3]);
    assert_eq!(quietly(&mut desk, shown).await, first);
    let both = format!("ada {:?} 900000000 dark", [100_000_000; 3]);
    assert_eq!(quietly(&mut phone, shown).await, both);
    assert_eq!(cost(&site, &mut phone, shown).await, (2, 0));
    assert_eq!(phone.visit(enter).await.status, StatusCode::OK);
    let take = async |mut session: Session<Shop>| session.seen.clear();
    quietly(&mut desk, take).await;
    let second = format!("ada {:?} 900000000 dark", [200_000_000; 3]);
    assert_eq!(quietly(&mut phone, shown).await, second);
    assert_eq!(quietly(&mut desk, shown).await, second);
}

async fn what_waits_of_unsaved_guests_is_kept_apart(site: Site<impl Store>) {
    let enter = async |mut handles: Handles| {
        handles.open::<Club>().await.stamps.set(3);
        handles.open::<Shop>().await.login("ada").await
    };
    for count in 1..=3 {
        let mut visitor = site.visitor();
        visitor.visit(enter).await;
        let seen = quietly(&mut visitor, club).await;
        assert_eq!(seen, format!("{} ", 3 * count));
    }
}

/// `Shop`, one release on.
#[derive(Session)]
struct NewShop {
    #[session(default = "plain".to_owned())]
    theme: String,
    #[merge(append)]
    seen: Vec<u32>,
    #[merge(sum)]
    points: u32,
    #[merge(sum)]
    stars: u32,
    color: String,
}

async fn new_shown(session: Session<NewShop>) -> String {
    let (seen, points) = (session.seen.get(), session.points.get());
    let (stars, color) = (session.stars.get(), session.color.get());
    format!("{seen:?} {points} {} {stars} {color}", session.theme.get())
}

async fn fields_of_a_newer_version_survive_a_login_through_an_older_one(site: Site<impl Store>) {
    let change = async |mut session: Session<NewShop>| {
        session.theme.set("dark".to_owned());
        session.seen.get_mut().push(1);
        *session.stars.get_mut() += 4;
        session.color.set("red".to_owned());
    };
    for logins in 1..=3 {
        let mut visitor = site.visitor();
        visitor.visit(change).await;
        login(&mut visitor, "ada").await;
        let seen = vec![1; logins];
        let old = quietly(&mut visitor, shown).await;
        assert_eq!(old, format!("ada {seen:?} 0 dark"));
        for _ in 0..2 {
            let new = quietly(&mut visitor, new_shown).await;
            assert_eq!(new, format!("{seen:?} 0 dark {} red", 4 * logins));
            quietly(&mut visitor, shown).await;
        }
    }
}

/// `Shop` before a deploy, or after it: `points` stays with the browser, and `theme` follows.
#[derive(Session)]
struct OtherShop {
    #[session(default = "plain".to_owned())]
    #[merge(user)]
    theme: String,
    #[merge(append)]
    seen: Vec<u32>,
    points: u32,
}

async fn other_shown(session: Session<OtherShop>) -> String {
    format!("{} {}", session.points.get(), session.theme.get())
}

async fn earn(visitor: &mut Visitor, points: u32) {
    let earn = async move |mut session: Session<OtherShop>| *session.points.get_mut() += points;
    assert_eq!(visitor.visit(earn).await.status, StatusCode::OK);
}

async fn a_field_that_is_given_a_rule_follows_with_what_is_in_it(site: Site<impl Store>) {
    let mut desk = user(&site, "ada", &[1]).await;
    let mut visitor = user(&site, "ada", &[]).await;
    earn(&mut visitor, 2).await;
    assert_eq!(quietly(&mut visitor, other_shown).await, "2 plain");
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 3 plain");
    assert_eq!(cost(&site, &mut visitor, shown).await, (2, 0), "once");
    assert_eq!(quietly(&mut desk, shown).await, "ada [1] 3 plain");

    // Both versions are there for a while, and write the same once more.
    earn(&mut visitor, 2).await;
    gather(&mut visitor, 4).await;
    earn(&mut visitor, 2).await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 4] 11 plain");
    earn(&mut visitor, 2).await;
    let clear = async |mut session: Session<Shop>| session.points.clear();
    quietly(&mut visitor, clear).await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 4] 0 plain");

    // Who logs in meanwhile, through either.
    let other_login = async |mut session: Session<OtherShop>| session.login("ada").await;
    let mut guest = site.visitor();
    earn(&mut guest, 2).await;
    assert_eq!(guest.visit(other_login).await.status, StatusCode::OK);
    assert_eq!(quietly(&mut guest, shown).await, "ada [1, 4] 2 plain");
    let mut guest = site.visitor();
    earn(&mut guest, 2).await;
    login(&mut guest, "ada").await;
    assert_eq!(quietly(&mut guest, shown).await, "ada [1, 4] 4 plain");
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Shop>| {
        earn(&mut tab, 2).await;
        session.login("ada").await
    };
    assert_eq!(visitor.visit(late).await.status, StatusCode::OK);
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 4] 6 plain");
    assert_eq!(quietly(&mut desk, shown).await, "ada [1, 4] 6 plain");
}

async fn a_field_that_loses_its_rule_is_the_browsers_from_then(site: Site<impl Store>) {
    let mut visitor = user(&site, "ada", &[2]).await;
    let mut desk = user(&site, "ada", &[]).await;
    earn(&mut visitor, 5).await;
    earn(&mut visitor, 5).await;
    assert_eq!(quietly(&mut visitor, other_shown).await, "10 plain");
    assert_eq!(quietly(&mut desk, other_shown).await, "0 plain");
    assert_eq!(
        account(&site, "ada").await,
        "[2] 2",
        "nothing of it is gone"
    );
    // Or the deploy is taken back.
    assert_eq!(quietly(&mut visitor, shown).await, "ada [2] 12 plain");
    assert_eq!(quietly(&mut desk, shown).await, "ada [2] 12 plain");
}

async fn a_login_overwrites_nothing_it_cannot_read(site: Site<impl Store>) {
    drop(user(&site, "ada", &[]).await);
    plant(&site, "ada", "points", "\"many\"").await;
    plant(&site, "ada", "club.stamps", "\"many\"").await;
    let mut visitor = guest(&site, &[1]).await;
    join_club(&mut visitor, 2, "gold").await;
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 0 dark");
    assert_eq!(quietly(&mut visitor, club).await, "0 gold");
    assert_eq!(account(&site, "ada").await, "[1] \"many\"");
    let stored = load(&site, &Key::User("ada".into())).await.unwrap();
    let stamps = stored.slot("club.stamps").unwrap();
    assert_eq!(stamps.payload(), &"\"many\"");
}

/// `Shop`, with a field renamed.
#[derive(Session)]
struct Renamed {
    #[merge(append)]
    #[session(alias = "seen")]
    viewed: Vec<u32>,
}

async fn a_login_finds_what_the_user_has_under_an_older_name(site: Site<impl Store>) {
    let viewed = async |session: Session<Renamed>| format!("{:?}", session.viewed.get());
    let view = async |mut session: Session<Renamed>| session.viewed.get_mut().push(3);
    let enter = async |mut session: Session<Renamed>| session.login("ada").await;
    drop(user(&site, "ada", &[1]).await);
    let mut older = guest(&site, &[2]).await;
    let mut newer = site.visitor();
    newer.visit(view).await;
    newer.visit(enter).await;
    assert_eq!(quietly(&mut newer, viewed).await, "[1, 3]");
    older.visit(enter).await;
    assert_eq!(quietly(&mut older, viewed).await, "[1, 3, 2]");
}

async fn a_late_commit_writes_nothing_to_a_session_that_was_logged_out(site: Site<impl Store>) {
    let ends = async |visitor: &mut Visitor, by: &str| match by {
        "logout" => assert_eq!(visitor.visit(logout).await.set_cookies().len(), 1),
        user => login(visitor, user).await,
    };
    for by in ["logout", "ada", "bob"] {
        for saves in [false, true] {
            let mut visitor = user(&site, "ada", &[]).await;
            let mut tab = visitor.clone();
            let slow = async move |mut session: Session<Shop>| {
                ends(&mut tab, by).await;
                session.theme.set("late".to_owned());
                session.notice.set("late".to_owned());
                if saves {
                    assert_eq!(session.save().await.unwrap(), Saved::Ended);
                    session.theme.set("later".to_owned());
                }
                tab.id()
            };
            let newer = quietly(&mut visitor, slow).await;
            let tombstone = site.record(&visitor).await.unwrap();
            assert!(matches!(tombstone.state, State::Ended(_)));
            assert!(tombstone.slots().is_empty());
            assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
            if by != "logout" {
                let newer = quietly(&mut visitor.presenting(&newer), shown).await;
                assert_eq!(newer, format!("{by} [] 0 plain"));
            }
        }
    }
}

/// Ends a user's record, as whoever deletes the user does.
/// Requests that log out and that write, both of which have loaded the session.
async fn logouts_that_race(site: Site<impl Store>, races: usize) {
    for _ in 0..races {
        let visitor = user(&site, "ada", &[]).await;
        let loaded = Arc::new(Barrier::new(2));
        let [mut one, mut other] = [visitor.clone(), visitor.clone()];
        let ready = Arc::clone(&loaded);
        let leaves = async move |mut session: Session<Shop>| {
            ready.wait().await;
            session.logout().await
        };
        let leaving = tokio::spawn(async move { (one.visit(leaves).await, one) });
        let writes = async move |mut session: Session<Shop>| {
            loaded.wait().await;
            session.theme.set("late".to_owned());
            session.notice.set("late".to_owned());
            *session.points.get_mut() += 1;
        };
        let wrote = other.visit(writes).await;
        let (left, one) = leaving.await.expect("the request ends well");
        assert_eq!(
            (wrote.status, left.status),
            (StatusCode::OK, StatusCode::OK)
        );
        assert!(wrote.set_cookies().is_empty());
        assert_eq!(one.browser.id(), None);
        let record = site.record(&visitor).await.expect("a tombstone is left");
        assert_eq!(record.state, State::Ended(Ended::LoggedOut));
        assert_eq!(record.slots(), []);
        assert_eq!(quietly(&mut other, shown).await, NOTHING);
    }
    let sessions = site.layer.sessions();
    assert!(sessions.list(&"ada".into()).await.unwrap().is_empty());
}

async fn a_late_commit_that_races_a_logout_revives_nothing(site: Site<impl Store>) {
    logouts_that_race(site, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_never_revives_a_session_logged_out_in_memory() {
    logouts_that_race(Site::in_memory(), 10_000).await;
}

async fn delete_user(store: &impl Store, user: &str, now: Timestamp) {
    let reason = Ended::Deleted("account closed".to_owned());
    let change = Change::new(Kind::End(reason), now);
    let deleted = store.commit(&Key::User(user.into()), &change).await;
    assert_eq!(deleted.unwrap(), Committed::Applied);
}

async fn a_deleted_user_is_not_brought_back(site: Site<impl Store>) {
    let is_gone = async |user: &str| {
        let record = load(&site, &Key::User(user.into())).await.unwrap();
        assert!(matches!(record.state, State::Ended(_)));
        assert!(record.slots().is_empty());
    };
    for saves in [false, true] {
        let name = format!("ada {saves}");
        let mut visitor = user(&site, &*name, &[1]).await;
        let (store, now, user) = (Arc::clone(&site.store), site.now(), name.clone());
        let late = async move |mut session: Session<Shop>| {
            delete_user(&store, &user, now).await;
            add(&mut session, 2);
            session.theme.set("loud".to_owned());
            if saves {
                assert_eq!(session.save().await.unwrap(), Saved::Written, "the theme");
                assert_eq!((session.seen.get().len(), session.points.get()), (0, &0));
                add(&mut session, 4);
            }
        };
        quietly(&mut visitor, late).await;
        is_gone(&name).await;
        let shows = quietly(&mut visitor, shown).await;
        assert_eq!(shows, format!("{name} [] 0 loud"), "defaults are read");
        assert!(gather(&mut visitor, 8).await.set_cookies().is_empty());
        is_gone(&name).await;
        visitor.visit(logout).await;
        is_gone(&name).await;
    }
}

async fn logins_leave_nothing_behind_for_good(site: Site<impl Store>) {
    let key = Key::User("ada".into());
    let mut slots = BTreeSet::new();
    for _ in 0..40 {
        login(&mut guest(&site, &[]).await, "ada").await;
        site.clock.advance(10 * DAY);
        slots.insert(load(&site, &key).await.unwrap().slots().len());
    }
    assert!(slots.last() < Some(&8), "{slots:?}");
}

async fn logins_leave_nothing_behind_for_good_where_seats_are_limited(site: Site<impl Store>) {
    let site = with_limit(site, true).with(|layer| layer.ttl(HOUR).absolute(2 * HOUR));
    let mut visitor = user(&site, "ada", &[1]).await;
    let mut slots = BTreeSet::new();
    for _ in 0..30 {
        site.clock.advance(30 * MINUTE);
        login(&mut visitor, "ada").await;
        let record = load(&site, &Key::User("ada".into())).await.unwrap();
        slots.insert(record.slots().len());
    }
    assert!(slots.last() < Some(&10), "{slots:?}");
}

async fn a_user_who_logs_in_often_is_not_locked_out(site: Site<impl Store>) {
    let site = site.with(|layer| layer.max_record(4000));
    for _ in 0..60 {
        login(&mut guest(&site, &[]).await, "ada").await;
        site.clock.advance(3 * HOUR);
    }
}

#[tokio::test]
async fn a_login_that_takes_up_a_claim_has_all_its_time() {
    let site = Site::in_memory();
    let claim = (2, Fault::After, Fault::Full);
    let (mut visitor, mut guest) = fail_at(&site, "ada", claim).await;
    site.clock.advance(10 * SECOND - MS);
    site.store
        .plan(std::iter::repeat_n(Fault::None, 4).chain([Fault::Held]));
    let login = logs_in(visitor.clone(), "ada");
    site.store.until_held(1).await; // the credit
    site.clock.advance(8 * SECOND);
    assert_eq!(quietly(&mut guest, shown).await, NOTHING);
    assert!(gather(&mut guest, 9).await.set_cookies().is_empty());
    site.store.release();
    let (tab, reply) = login.await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    visitor = tab;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 2] 3 dark");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_takes_too_long_credits_nothing() {
    let site = Site::in_memory();
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    let calls = [Fault::None; 4].into_iter();
    site.store.plan(calls.chain([Fault::Slow(9 * SECOND)])); // the credit
    let reply = try_login(&mut visitor, "ada").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    site.clock.advance(10 * SECOND);
    assert_eq!(quietly(&mut visitor, shown).await, "guest [2] 2 dark");
    assert_eq!(account(&site, "ada").await, "[1] 1");
}

#[tokio::test]
async fn a_user_deleted_a_moment_ago_starts_from_nothing() {
    let site = Site::in_memory();
    let mut visitor = user(&site, "ada", &[1]).await;
    delete_user(&*site.store, "ada", site.now()).await;
    login(&mut visitor, "ada").await;
    assert_eq!(account(&site, "ada").await, " ", "nothing is stored");
}

type Told = Pin<Box<dyn Future<Output = String> + Send>>;
type Aim = fn(Session<Shop>) -> Told;

/// Adds a number and logs in.
fn enter<const N: u32>(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        add(&mut session, N);
        session.login("ada").await.expect("the store answers");
        format!("{N} true")
    })
}

/// Adds a number and saves. Says whether that was written.
fn write<const N: u32>(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        add(&mut session, N);
        let saved = session.save().await.expect("the store answers");
        format!("{N} {}", saved == Saved::Written)
    })
}

/// What a user has so that there is room for some numbers of two digits, and for none of nine.
const MANY: [u32; 8] = [100_000_000; 8];

/// Tries to log in with more than there is room for beside `MANY`, and leaves it at that.
fn fail_to_enter(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        let seen = session.seen.get().clone();
        session.seen.get_mut().extend(&MANY[..2]);
        let failed = session.login("ada").await.expect_err("there is no room");
        assert!(failed.is_too_large(), "{failed}");
        session.seen.set(seen);
        String::new()
    })
}

/// Logs in, unless somebody else is about to.
fn try_to_enter<const N: u32>(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        add(&mut session, N);
        session.login("ada").await.is_ok().to_string()
    })
}

/// Logs in as somebody else, with the same proviso.
fn enter_as_bob(mut session: Session<Shop>) -> Told {
    Box::pin(async move { session.login("bob").await.is_ok().to_string() })
}

/// Sends these at once from tabs of one guest, their calls of the store in the order chosen. What they were told,
/// and the tabs. With `loaded`, all have loaded the session before any goes on.
async fn pursue(
    site: &Site<Held<MemoryStore>>,
    guest: &Visitor,
    (aims, loaded): (&[Aim], bool),
    choices: &mut Choices,
) -> Vec<(String, Visitor)> {
    let barrier = Arc::new(Barrier::new(aims.len()));
    let mut tasks = JoinSet::new();
    for &aim in aims {
        let mut tab = guest.clone();
        let barrier = loaded.then(|| Arc::clone(&barrier));
        tasks.spawn(async move {
            let handler = async move |session: Session<Shop>| {
                if let Some(barrier) = barrier {
                    barrier.wait().await;
                }
                aim(session).await
            };
            let reply = tab.visit(handler).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
            (reply.body, tab)
        });
    }
    site.store.inner().run(tasks, choices).await
}

/// Whether `shown` shows exactly these numbers, in any order.
fn holds(shown: &str, numbers: &[u32]) -> bool {
    let words = shown.split(['[', ']', ' ', ',']);
    let mut found: Vec<u32> = words.filter_map(|word| word.parse().ok()).collect();
    let points = found.pop();
    found.sort_unstable();
    points == Some(numbers.iter().sum()) && found == numbers
}

/// Sends these at once from tabs of a guest who has 1, in many orders, and looks whether exactly what they were
/// told is kept. Without anything that the user `has`, it is the first login.
async fn nothing_is_lost_or_doubled(
    aims: &[Aim],
    loaded: bool,
    has: Option<&[u32]>,
    mut choices: Choices,
) -> usize {
    let mut orders = 0;
    while orders == 0 || choices.again() {
        orders += 1;
        let site = Site::new(|clock| Held::new(MemoryStore::new().with_clock(clock)));
        let site = site.with(|layer| layer.max_field(100));
        if let Some(has) = has {
            drop(user(&site, "ada", has).await);
        }
        let guest = guest(&site, &[1]).await;
        let ended = pursue(&site, &guest, (aims, loaded), &mut choices).await;
        let mut kept = has.unwrap_or_default().to_vec();
        kept.push(1);
        for (told, _) in &ended {
            let number = told.strip_suffix(" true");
            kept.extend(number.map(|number| number.parse::<u32>().unwrap()));
        }
        kept.sort_unstable();
        for (told, mut tab) in ended {
            let seen = tab.visit(shown).await.body;
            if tab.id() == guest.id() {
                assert_eq!(seen, NOTHING, "{told} {choices:?}");
            } else {
                assert!(holds(&seen, &kept), "{told} {seen} {kept:?} {choices:?}");
                assert!(
                    !loaded || seen.ends_with("dark"),
                    "{told} {seen} {choices:?}"
                );
            }
        }
        assert_eq!(guest.clone().visit(shown).await.body, NOTHING);
    }
    orders
}

#[tokio::test(start_paused = true)]
async fn in_no_order_is_what_a_guest_writes_during_the_login_lost_or_doubled() {
    for (loaded, least) in [(false, 10), (true, 15)] {
        let aims: [Aim; 2] = [enter::<2>, write::<4>];
        let orders = nothing_is_lost_or_doubled(&aims, loaded, Some(&[]), Choices::default()).await;
        assert!(orders >= least, "only {orders} orders");
    }
}

#[tokio::test(start_paused = true)]
async fn in_hardly_any_order_do_two_logins_lose_or_double_anything() {
    for loaded in [false, true] {
        let aims: [Aim; 2] = [enter::<2>, enter::<4>];
        nothing_is_lost_or_doubled(&aims, loaded, None, Choices::sample(400)).await;
        let aims: [Aim; 3] = [enter::<2>, enter::<4>, write::<8>];
        nothing_is_lost_or_doubled(&aims, loaded, None, Choices::sample(400)).await;
        let aims: [Aim; 3] = [enter::<2>, fail_to_enter, write::<8>];
        nothing_is_lost_or_doubled(&aims, loaded, Some(&MANY), Choices::sample(400)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_no_order_do_two_logins_lose_or_double_anything() {
    let aims: [Aim; 2] = [enter::<2>, enter::<4>];
    assert!(nothing_is_lost_or_doubled(&aims, true, Some(&[]), Choices::default()).await > 1000);
}

#[tokio::test(start_paused = true)]
async fn in_hardly_any_order_does_a_guest_become_two_users() {
    for loaded in [false, true] {
        let (mut choices, mut orders) = (Choices::sample(400), 0);
        let mut winners = BTreeSet::new();
        while orders == 0 || choices.again() {
            orders += 1;
            let site = Site::new(|clock| Held::new(MemoryStore::new().with_clock(clock)));
            let guest = guest(&site, &[1]).await;
            let aims: [Aim; 2] = [try_to_enter::<2>, enter_as_bob];
            pursue(&site, &guest, (&aims, loaded), &mut choices).await;
            let (ada, bob) = (account(&site, "ada").await, account(&site, "bob").await);
            match (&*ada, &*bob) {
                ("[1,2] 3", " ") => winners.insert("ada"),
                // What was added on top of what has become bob's goes where that goes.
                (" " | "[2] 2", "[1] 1") => winners.insert("bob"),
                accounts => panic!("{accounts:?} {choices:?}"),
            };
            assert_eq!(guest.clone().visit(shown).await.body, NOTHING);
        }
        assert_eq!(winners.len(), 2, "loaded: {loaded}");
    }
}

fn leave(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        session.logout().await.expect("the store answers");
        String::new()
    })
}

fn rotate(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        session.rotate().await.expect("the store answers");
        String::new()
    })
}

/// Sends these at once from tabs of one session, in many orders; one of them logs out. No id opens a session then but
/// one that was logged in to on the way.
async fn nothing_outlives_a_logout(aims: &[Aim], logins: usize, mut choices: Choices) -> usize {
    let mut orders = 0;
    while orders == 0 || choices.again() {
        orders += 1;
        let site = Site::new(|clock| Held::new(MemoryStore::new().with_clock(clock)));
        let visitor = user(&site, "ada", &[1]).await;
        let ended = pursue(&site, &visitor, (aims, false), &mut choices).await;
        site.clock.advance(11 * SECOND); // what a rotation leaves good, and a login frozen
        for (told, mut tab) in ended {
            let seen = tab.visit(shown).await.body;
            let entered = told.ends_with("true") && logins > 0;
            assert!(seen == NOTHING || entered, "{told} {seen} {choices:?}");
        }
        assert_eq!(visitor.clone().visit(shown).await.body, NOTHING);
        let live = site.layer.sessions().list(&"ada".into()).await.unwrap();
        assert!(live.len() <= logins, "{} {choices:?}", live.len());
    }
    orders
}

#[tokio::test(start_paused = true)]
async fn in_no_order_does_a_session_outlive_its_logout() {
    let pairs: [[Aim; 2]; 2] = [[leave, write::<4>], [leave, rotate]];
    for aims in pairs {
        let orders = nothing_outlives_a_logout(&aims, 0, Choices::default()).await;
        assert!(orders > 5, "only {orders} orders");
    }
}

#[tokio::test(start_paused = true)]
async fn in_hardly_any_order_does_a_session_outlive_its_logout() {
    let several: [(&[Aim], usize); 3] = [
        (&[leave, leave, write::<4>], 0),
        (&[leave, rotate, write::<4>], 0),
        (&[leave, enter::<2>], 1),
    ];
    for (aims, logins) in several {
        nothing_outlives_a_logout(aims, logins, Choices::sample(300)).await;
    }
}
