//! What is left of a user's sessions as time goes by: in the record, the list and nothing else.

use std::collections::BTreeSet;

use session_runtime::{Session, WhenFull};
use session_tests::customers::{
    NOTHING, Shop, ask, gather, guest, login, logout, shown, user, why,
};
use session_tests::{Site, Visitor, on_each_store, times};

use super::stored::{
    DAY, HOUR, MINUTE, MS, account, admitted, cost, list, load, load_user, names, places,
};

on_each_store!(
    a_login_strikes_off_whose_time_has_passed,
    a_login_looks_up_eight_at_most_whose_time_has_passed,
    a_login_by_a_clock_that_has_just_stepped_ends_no_other_session,
    a_session_that_lives_on_keeps_its_place,
    logins_over_the_months_leave_nothing_behind,
    logins_whose_answers_are_all_lost_make_the_session_no_larger,
    many_logins_leave_the_listed_sessions_and_nothing_else,
);

async fn a_login_strikes_off_whose_time_has_passed(site: Site) {
    let mut old = user(&site, "ada", &[1]).await;
    let key = old.key();
    let mut desk = user(&site, "ada", &[]).await;
    for (wait, is_listed) in [
        (2 * HOUR - MS, true),
        (MS, true),
        (10 * MINUTE - MS, true), // a slow request may still bring it back
        (MS, false),
    ] {
        site.clock.advance(wait);
        login(&mut desk, "ada").await;
        ask(&mut desk, shown).await;
        assert_eq!(
            admitted(&site, "ada").await.contains(&key),
            is_listed,
            "{wait:?}"
        );
        assert_eq!(
            list(&site, "ada").await.len(),
            1 + usize::from(wait == 2 * HOUR - MS)
        );
    }
    assert_eq!(ask(&mut old, shown).await, NOTHING);
    let over = load(&site, &key).await;
    assert!(
        over.is_none_or(|record| record.ended().is_some()),
        "nothing brings it back"
    );
    assert_eq!(ask(&mut old, why).await, "Some(Expired)");
    assert_eq!(ask(&mut desk, shown).await, "ada [1] 1 plain");
}

async fn a_login_looks_up_eight_at_most_whose_time_has_passed(site: Site) {
    for number in 0..20 {
        login(&mut site.visitor(), "ada").await;
        site.clock.advance(MS);
        assert_eq!(places(&site, "ada").await.len(), 1 + number);
    }
    site.clock.advance(3 * HOUR);
    let enter = async |mut session: Session<Shop>| session.login("ada").await;
    for (left, looked_up) in [(12, 8), (4, 8), (0, 4), (0, 0)] {
        let mut desk = site.visitor();
        // The user, the sessions, all at once; their ends; the opening and the confirmation.
        let costs = cost(&site, &mut desk, enter).await;
        assert_eq!(costs, (1 + looked_up, looked_up + 2), "{left} are left");
        ask(&mut desk, shown).await;
        let staying = admitted(&site, "ada").await;
        assert_eq!(staying.len(), left + 1);
        assert!(staying.contains(&desk.key()));
        ask(&mut desk, logout).await;
        assert_eq!(places(&site, "ada").await.len(), left);
    }
}

async fn a_login_by_a_clock_that_has_just_stepped_ends_no_other_session(site: Site) {
    for (name, step) in [("ada", 3 * HOUR), ("bea", 3650 * DAY)] {
        let mut phone = user(&site, name, &[1]).await;
        site.clock.step_forward(step);
        login(&mut site.visitor(), name).await;
        site.clock.step_back(step);
        assert_eq!(ask(&mut phone, shown).await, format!("{name} [1] 1 plain"));
    }
}

async fn a_session_that_lives_on_keeps_its_place(site: Site) {
    let mut old = user(&site, "ada", &[1]).await;
    let until = places(&site, "ada").await[0].until;
    assert_eq!(until, site.now() + 2 * HOUR);
    for _ in 0..3 {
        site.clock.advance(HOUR);
        ask(&mut old, shown).await;
    }
    login(&mut site.visitor(), "ada").await;
    // Looked up once, its new time is noted.
    let places = places(&site, "ada").await;
    let place = places.iter().find(|place| place.key == old.key()).unwrap();
    assert_eq!(place.until, site.now() + 2 * HOUR);
    let enter = async |mut session: Session<Shop>| session.login("ada").await;
    assert_eq!(cost(&site, &mut site.visitor(), enter).await, (1, 2));
    assert_eq!(ask(&mut old, shown).await, "ada [1] 1 plain");
}

async fn logins_over_the_months_leave_nothing_behind(site: Site) {
    for limited in [false, true] {
        let name = format!("ada {limited}");
        let layer = if limited {
            let layer = site.layer.clone().max_sessions(2, WhenFull::Refuse);
            layer.ttl(HOUR).absolute(2 * HOUR)
        } else {
            site.layer.clone()
        };
        let mut again = Visitor::of(layer.clone());
        let (mut slots, mut held) = (BTreeSet::new(), BTreeSet::new());
        for number in 0..20 {
            let mut visitor = guest(&site, &[number]).await.moved_to(&layer);
            login(&mut visitor, &*name).await;
            site.clock.advance(5 * DAY);
            login(&mut again, &*name).await;
            ask(&mut again, shown).await;
            let record = load_user(&site, &name).await.unwrap();
            slots.extend(names(&record).into_iter().map(str::to_owned));
            held.insert(places(&site, &name).await.len());
            site.clock.advance(5 * DAY);
        }
        let all = ["@sessions", "points", "seen"].map(str::to_owned);
        assert_eq!(slots, all.into());
        assert!(held.last() <= Some(&2), "{held:?}");
        assert!(account(&site, &name).await.ends_with(" 190"));
    }
}

async fn logins_whose_answers_are_all_lost_make_the_session_no_larger(site: Site) {
    let visitor = guest(&site, &[1]).await;
    let (mut newest, mut sizes) = (visitor.clone(), BTreeSet::new());
    for number in 1..=60 {
        newest = visitor.clone();
        login(&mut newest, "ada").await;
        assert_eq!(newest.key(), visitor.key());
        if number >= 20 {
            let record = site.record(&newest).await.unwrap();
            sizes.insert(record.to_bytes().len());
        }
    }
    assert_eq!(sizes.len(), 1, "it is of one size: {sizes:?}");
    assert_eq!(ask(&mut newest, shown).await, "ada [1] 1 dark");
    assert_eq!(list(&site, "ada").await.len(), 1);
}

/// So many logins of one user, each of another browser, all within the lifetime of a session.
async fn logins(site: Site, count: usize) {
    let mut sizes = BTreeSet::new();
    for number in 0..count {
        let mut visitor = site.visitor();
        login(&mut visitor, "ada").await;
        if number % 100 == 99 {
            gather(&mut visitor, 1).await;
            let record = load_user(&site, "ada").await.unwrap();
            assert_eq!(names(&record), ["@sessions", "points", "seen"]);
            let list = record.slot("@sessions").unwrap().size();
            sizes.insert(list);
            assert_eq!(places(&site, "ada").await.len(), 100);
            assert!(record.to_bytes().len() < list + 1000 + number / 10);
        }
        if number % 100 == 0 {
            site.clock.advance(MS);
        }
    }
    assert_eq!(sizes.len(), 1, "it is of one size: {sizes:?}");
    assert!(sizes.last() < Some(&10_000), "{sizes:?}");
    let listed = list(&site, "ada").await;
    assert_eq!(listed.len(), 100);
    assert_eq!(admitted(&site, "ada").await.len(), 100);
}

#[tokio::test]
async fn a_hundred_thousand_logins_leave_the_listed_sessions_and_nothing_else() {
    logins(Site::in_memory(), 2000 * times()).await;
}

async fn many_logins_leave_the_listed_sessions_and_nothing_else(site: Site) {
    logins(site, 200 * times()).await;
}
