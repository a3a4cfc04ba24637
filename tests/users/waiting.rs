//! What follows a user by a rule that the process which logged in did not know, or that could not be merged: it waits in the
//! session.

use http::StatusCode;
use session_runtime::{Saved, Session};
use session_tests::customers::{
    Club, Shop, add, ask, club, gather, guest, join_club, login, quietly, shown, user,
};
use session_tests::{Fault, Handles, Site, Visitor, on_a_cache, on_each_store};
use tokio::task::JoinSet;

use super::breaks::{break_off, breaks, hasty};
use super::stored::{account, cost, holds_any, load_user, plant};

on_each_store!(
    what_no_rule_is_known_of_waits_for_a_schema_that_knows_it,
    requests_that_overlap_take_in_once_what_waits,
    what_another_request_has_taken_in_meanwhile_is_seen,
    what_waits_is_credited_once_whatever_fails,
    taking_in_what_waits_overwrites_nothing_newer,
    a_request_that_is_not_to_be_written_writes_only_what_waited,
    what_waits_and_does_not_fit_waits_on,
    what_has_no_room_in_the_users_record_waits_on,
    what_comes_later_does_not_pass_what_waits,
    what_one_request_set_in_several_schemas_is_credited_with_its_login,
    a_login_overwrites_nothing_it_cannot_read,
);

on_a_cache!(
    what_no_rule_is_known_of_waits_for_a_schema_that_knows_it,
    requests_that_overlap_take_in_once_what_waits,
);

/// Logs in through a process that has not seen any schema but the shop.
async fn login_elsewhere(site: &Site, visitor: &mut Visitor, user: &str) {
    let mut elsewhere = visitor.moved_to(&site.other_process());
    login(&mut elsewhere, user).await;
    *visitor = elsewhere.moved_to(&site.layer);
}

async fn what_no_rule_is_known_of_waits_for_a_schema_that_knows_it(site: Site) {
    let mut desk = user(&site, "ada", &[]).await;
    join_club(&mut desk, 5, "silver").await;

    let mut visitor = guest(&site, &[1]).await;
    join_club(&mut visitor, 2, "gold").await;
    login_elsewhere(&site, &mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");
    assert_eq!(quietly(&mut desk, club).await, "5 silver", "it waits");
    login_elsewhere(&site, &mut visitor, "ada").await; // waits on
    assert_eq!(quietly(&mut desk, club).await, "5 silver");
    let stamp = async |mut session: Session<Club>| *session.stamps.get_mut() += 10;
    quietly(&mut visitor, stamp).await;
    assert_eq!(quietly(&mut visitor, club).await, "17 gold");
    assert_eq!(quietly(&mut desk, club).await, "17 silver");
    assert_eq!(
        cost(&site, &mut visitor, club).await,
        (2, 0),
        "that was once"
    );
    assert!(!holds_any(&site.record(&visitor).await.unwrap(), "stamps"));
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, club).await, "17 gold");

    // A process that knows the rule takes it in with the login.
    let mut visitor = guest(&site, &[]).await;
    join_club(&mut visitor, 3, "gold").await;
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut desk, club).await, "20 silver");

    // A login as another user leaves what nobody has taken in behind.
    let mut visitor = guest(&site, &[]).await;
    join_club(&mut visitor, 100, "gold").await;
    login_elsewhere(&site, &mut visitor, "ada").await;
    login(&mut visitor, "bob").await;
    assert_eq!(quietly(&mut visitor, club).await, "0 ");
    assert_eq!(quietly(&mut desk, club).await, "20 silver");
}

async fn requests_that_overlap_take_in_once_what_waits(site: Site) {
    for race in 1..=20 {
        let mut visitor = site.visitor();
        join_club(&mut visitor, 1, "gold").await;
        login_elsewhere(&site, &mut visitor, "ada").await;
        let mut tabs = JoinSet::new();
        for _ in 0..4 {
            let mut tab = visitor.clone();
            tabs.spawn(async move { quietly(&mut tab, club).await });
        }
        for seen in tabs.join_all().await {
            assert_eq!(seen, format!("{race} gold"));
        }
    }
}

async fn what_waits_is_credited_once_whatever_fails(site: Site) {
    what_waits_is_credited_once(site, Fault::Full).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_credited_once_though_the_store_stays_away() {
    what_waits_is_credited_once(hasty(), Fault::Before).await;
}

/// Where it waits.
#[derive(Clone, Copy, Debug)]
enum Waits {
    /// Under its own name: nobody knew its rule.
    Astray,
    /// Set apart by a guest's request that was late.
    Apart,
}

async fn waiting(site: &Site, at: Waits) -> Visitor {
    let mut visitor = guest(site, &[]).await;
    if let Waits::Astray = at {
        login_elsewhere(site, &mut visitor, "ada").await;
        quietly(&mut visitor, shown).await;
        site.plant(&visitor, "club.stamps", "1").await; // by a version that has no rule for it
        site.plant(&visitor, "club.badge", "\"gold\"").await;
        return visitor;
    }
    let badge = async |mut session: Session<Club>| session.badge.set("gold".to_owned());
    quietly(&mut visitor, badge).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Club>| {
        login(&mut tab, "ada").await;
        quietly(&mut tab, async |_: Session<Knock>| ()).await; // which notes that the id has come back
        *session.stamps.get_mut() += 1;
        assert_eq!(session.save().await.unwrap(), Saved::Written);
        tab.id()
    };
    let id = quietly(&mut visitor, late).await;
    visitor.presenting(&id)
}

/// Nothing of it follows.
#[derive(Session)]
struct Knock {
    knocks: u32,
}

async fn what_waits_is_credited_once(site: Site, then: Fault) {
    let mut desk = user(&site, "ada", &[]).await;
    join_club(&mut desk, 5, "silver").await;
    let mut stamps = 5;
    for waits in [Waits::Astray, Waits::Apart] {
        let mut visitor = waiting(&site, waits).await;
        let costs = match waits {
            Waits::Astray => (2, 3), // set apart, credited, dropped
            Waits::Apart => (2, 2),
        };
        assert_eq!(cost(&site, &mut visitor, club).await, costs);
        stamps += 1;
        let (loads, swaps) = costs;
        for at in breaks(loads + swaps) {
            let visitor = waiting(&site, waits).await;
            let at = (at.0, at.1, then);
            let reply = break_off(&site, &mut visitor.clone(), at, club).await;
            // That what is credited is dropped is nobody's concern.
            let fails = at.0 < loads + swaps - 1;
            let status = if fails {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::OK
            };
            assert_eq!(reply.status, status, "{at:?}");
            stamps += 1;
            for _ in 0..2 {
                let seen = quietly(&mut visitor.clone(), club).await;
                assert_eq!(seen, format!("{stamps} gold"), "{waits:?} {at:?}");
            }
            assert_eq!(quietly(&mut desk, club).await, format!("{stamps} silver"));
        }
    }
}

async fn taking_in_what_waits_overwrites_nothing_newer(site: Site) {
    let mut visitor = site.visitor();
    join_club(&mut visitor, 1, "gold").await;
    login_elsewhere(&site, &mut visitor, "ada").await;
    let mut tab = visitor.clone();
    let late = async move |mut handles: Handles| {
        drop(handles.open::<Shop>().await);
        join_club(&mut tab, 1, "silver").await;
        handles.open::<Club>().await.badge.get().clone()
    };
    assert_eq!(quietly(&mut visitor, late).await, "silver");
    assert_eq!(quietly(&mut visitor, club).await, "2 silver");
    let record = site.record(&visitor).await.unwrap();
    assert!(!holds_any(&record, "@"));
}

async fn a_request_that_is_not_to_be_written_writes_only_what_waited(site: Site) {
    let mut visitor = site.visitor();
    join_club(&mut visitor, 1, "gold").await;
    login_elsewhere(&site, &mut visitor, "ada").await;
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

async fn what_waits_and_does_not_fit_waits_on(site: Site) {
    let site = site.with(|layer| layer.max_field(60));
    let [mut desk, mut phone] = [
        guest(&site, &[100_000_000; 3]).await,
        guest(&site, &[200_000_000; 3]).await,
    ];
    for visitor in [&mut desk, &mut phone] {
        login(visitor, "ada").await;
    }
    let first = format!("ada {:?} 900000000 dark", [100_000_000; 3]);
    assert_eq!(quietly(&mut desk, shown).await, first);
    assert_eq!(
        quietly(&mut phone, shown).await,
        first,
        "the points had room"
    );
    let brought = async |session: Session<Shop>| {
        format!(
            "{:?} {:?}",
            session.seen.brought(),
            session.points.brought()
        )
    };
    let waits = format!("Some({:?}) None", [200_000_000; 3]);
    assert_eq!(quietly(&mut phone, brought).await, waits);
    assert_eq!(cost(&site, &mut phone, shown).await, (2, 0));
    login(&mut phone, "ada").await;
    assert_eq!(quietly(&mut phone, brought).await, waits);
    quietly(&mut desk, take).await;
    let second = format!("ada {:?} 900000000 dark", [200_000_000; 3]);
    assert_eq!(quietly(&mut phone, shown).await, second);
    assert_eq!(quietly(&mut desk, shown).await, second);
    assert_eq!(quietly(&mut phone, brought).await, "None None");
}

async fn seen(session: Session<Shop>) -> String {
    format!("{:?}", session.seen.get())
}

async fn take(mut session: Session<Shop>) {
    session.seen.clear();
}

async fn what_another_request_has_taken_in_meanwhile_is_seen(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    quietly(&mut visitor, shown).await;
    site.plant(&visitor, "seen", "[2]").await;
    let mut other = visitor.clone();
    let overlaps = async move |mut handles: Handles| {
        drop(handles.open::<Club>().await);
        for _ in 0..2 {
            assert_eq!(quietly(&mut other, shown).await, "ada [1, 2] 1 plain");
        }
        format!("{:?}", handles.open::<Shop>().await.seen.get())
    };
    assert_eq!(quietly(&mut visitor, overlaps).await, "[1, 2]");
}

async fn what_has_no_room_in_the_users_record_waits_on(site: Site) {
    let site = site.with(|layer| layer.max_record(500));
    let mut desk = user(&site, "ada", &[100_000_000; 20]).await;
    let mut phone = guest(&site, &[200_000_000; 20]).await;
    login(&mut phone, "ada").await;
    let first = format!("{:?}", [100_000_000; 20]);
    assert_eq!(quietly(&mut phone, seen).await, first);
    quietly(&mut desk, take).await;
    let second = format!("{:?}", [200_000_000; 20]);
    assert_eq!(quietly(&mut phone, seen).await, second);
}

async fn what_comes_later_does_not_pass_what_waits(site: Site) {
    let site = site.with(|layer| layer.max_field(60));
    let mut desk = user(&site, "ada", &[100_000_000; 3]).await;
    let mut late = guest(&site, &[]).await;
    let mut tab = late.clone();
    let adds = async move |mut session: Session<Shop>| {
        for _ in 0..3 {
            gather(&mut tab, 200_000_000).await;
        }
        login(&mut tab, "ada").await;
        session.seen.get_mut().push(7);
        tab.id()
    };
    let id = quietly(&mut late, adds).await;
    let mut phone = site.visitor().presenting(&id);
    let first = format!("{:?}", [100_000_000; 3]);
    assert_eq!(quietly(&mut phone, seen).await, first);
    quietly(&mut desk, take).await;
    let rest = "[200000000, 200000000, 200000000, 7]";
    assert_eq!(quietly(&mut phone, seen).await, rest);
}

async fn what_one_request_set_in_several_schemas_is_credited_with_its_login(site: Site) {
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

async fn a_login_overwrites_nothing_it_cannot_read(site: Site) {
    drop(user(&site, "ada", &[]).await);
    plant(&site, "ada", "points", "\"many\"").await;
    plant(&site, "ada", "club.stamps", "\"many\"").await;
    let mut visitor = guest(&site, &[1]).await;
    join_club(&mut visitor, 2, "gold").await;
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 0 dark");
    assert_eq!(quietly(&mut visitor, club).await, "0 gold");
    assert_eq!(account(&site, "ada").await, "[1] \"many\"");
    let stored = load_user(&site, "ada").await.unwrap();
    let stamps = stored.slot("club.stamps").unwrap();
    assert_eq!(stamps.payload(), b"\"many\"");
    // Nor does it lose what it could not merge.
    plant(&site, "ada", "points", "10").await;
    let mut tab = visitor.clone();
    assert_eq!(ask(&mut tab, shown).await, "ada [1] 11 dark");
}
