//! Versions of an app side by side: fields that are new, gain or lose their rule, or are renamed.

use axum::handler::Handler;
use http::StatusCode;
use session_runtime::{Session, SessionLayer};
use session_tests::customers::{Shop, entering, gather, guest, login, quietly, shown, user};
use session_tests::{Fault, Site, Visitor, on_each_store};

use super::breaks::{CONFIRMATION, break_off};
use super::stored::{account, cost};

/// What the process of the other version makes of a browser: it has seen the schemas of its own version alone.
#[derive(Clone)]
struct Other(SessionLayer);

impl Other {
    fn of(site: &Site) -> Self {
        Self(site.other_process())
    }

    /// Lends the browser to the other version for one request.
    async fn ask<T: 'static>(&self, visitor: &mut Visitor, handler: impl Handler<T, ()>) -> String {
        let mut there = visitor.moved_to(&self.0);
        let reply = there.visit(handler).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        visitor.browser = there.browser;
        reply.body
    }
}

on_each_store!(
    fields_of_a_newer_version_survive_a_login_through_an_older_one,
    a_field_that_is_given_a_rule_follows_with_what_is_in_it,
    a_field_that_loses_its_rule_is_the_browsers_from_then,
    a_login_finds_what_the_user_has_under_an_older_name,
);

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

async fn fields_of_a_newer_version_survive_a_login_through_an_older_one(site: Site) {
    let newer = Other::of(&site);
    let change = async |mut session: Session<NewShop>| {
        session.theme.set("dark".to_owned());
        session.seen.get_mut().push(1);
        *session.stars.get_mut() += 4;
        session.color.set("red".to_owned());
    };
    for logins in 1..=3 {
        let mut visitor = site.visitor();
        newer.ask(&mut visitor, change).await;
        login(&mut visitor, "ada").await;
        let seen = vec![1; logins];
        let old = quietly(&mut visitor, shown).await;
        assert_eq!(old, format!("ada {seen:?} 0 dark"));
        for _ in 0..2 {
            let new = newer.ask(&mut visitor, new_shown).await;
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

async fn earn(other: &Other, visitor: &mut Visitor, points: u32) {
    let earn = async move |mut session: Session<OtherShop>| *session.points.get_mut() += points;
    other.ask(visitor, earn).await;
}

async fn a_field_that_is_given_a_rule_follows_with_what_is_in_it(site: Site) {
    let other = Other::of(&site);
    let mut desk = user(&site, "ada", &[1]).await;
    let mut visitor = user(&site, "ada", &[]).await;
    earn(&other, &mut visitor, 2).await;
    assert_eq!(other.ask(&mut visitor, other_shown).await, "2 plain");
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 3 plain");
    assert_eq!(cost(&site, &mut visitor, shown).await, (2, 0), "once");
    assert_eq!(quietly(&mut desk, shown).await, "ada [1] 3 plain");

    // Both versions are there for a while, and write the same once more.
    earn(&other, &mut visitor, 2).await;
    gather(&mut visitor, 4).await;
    earn(&other, &mut visitor, 2).await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 4] 11 plain");
    earn(&other, &mut visitor, 2).await;
    let clear = async |mut session: Session<Shop>| session.points.clear();
    quietly(&mut visitor, clear).await;
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 4] 0 plain");

    // Who logs in meanwhile, through either.
    let other_login = async |mut session: Session<OtherShop>| session.login("ada").await;
    let mut guest = site.visitor();
    earn(&other, &mut guest, 2).await;
    other.ask(&mut guest, other_login).await;
    assert_eq!(quietly(&mut guest, shown).await, "ada [1, 4] 2 plain");
    let mut guest = site.visitor();
    earn(&other, &mut guest, 2).await;
    login(&mut guest, "ada").await;
    assert_eq!(quietly(&mut guest, shown).await, "ada [1, 4] 4 plain");
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Shop>| {
        earn(&other, &mut tab, 2).await;
        session.login("ada").await
    };
    assert_eq!(visitor.visit(late).await.status, StatusCode::OK);
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1, 4] 6 plain");
    assert_eq!(quietly(&mut desk, shown).await, "ada [1, 4] 6 plain");
}

async fn a_field_that_loses_its_rule_is_the_browsers_from_then(site: Site) {
    let other = Other::of(&site);
    let mut visitor = user(&site, "ada", &[2]).await;
    let mut desk = user(&site, "ada", &[]).await;
    earn(&other, &mut visitor, 5).await;
    earn(&other, &mut visitor, 5).await;
    assert_eq!(other.ask(&mut visitor, other_shown).await, "10 plain");
    assert_eq!(other.ask(&mut desk, other_shown).await, "0 plain");
    let stored = account(&site, "ada").await;
    assert_eq!(stored, "[2] 2", "nothing of it is gone");
    // Or the deploy is taken back.
    assert_eq!(quietly(&mut visitor, shown).await, "ada [2] 12 plain");
    assert_eq!(quietly(&mut desk, shown).await, "ada [2] 12 plain");
}

/// `Shop`, with a field renamed.
#[derive(Session)]
struct Renamed {
    #[merge(append)]
    #[session(alias = "seen")]
    viewed: Vec<u32>,
}

async fn a_login_finds_what_the_user_has_under_an_older_name(site: Site) {
    let newer = Other::of(&site);
    let viewed = async |session: Session<Renamed>| format!("{:?}", session.viewed.get());
    let view = async |mut session: Session<Renamed>| session.viewed.get_mut().push(3);
    let enter = async |mut session: Session<Renamed>| session.login("ada").await;
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = site.visitor();
    newer.ask(&mut visitor, view).await;
    newer.ask(&mut visitor, enter).await;
    assert_eq!(newer.ask(&mut visitor, viewed).await, "[1, 3]");
    // What a guest has under the older name, too.
    let mut visitor = guest(&site, &[2]).await;
    newer.ask(&mut visitor, enter).await;
    assert_eq!(newer.ask(&mut visitor, viewed).await, "[1, 3, 2]");
    // And what the older version has set apart, but not credited.
    let mut visitor = guest(&site, &[4]).await;
    let at = (CONFIRMATION, Fault::Before, Fault::Full);
    break_off(&site, &mut visitor, at, entering("ada")).await;
    newer.ask(&mut visitor, enter).await;
    assert_eq!(newer.ask(&mut visitor, viewed).await, "[1, 3, 2, 4]");
}
