//! What a request may cost: round trips to the store, and headers in the response.

use std::time::Duration;

use axum::body::Body;
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::any;
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HeaderName, LOCATION, SET_COOKIE, VARY};
use http::{HeaderMap, Request, StatusCode};
use session_runtime::transport::HeaderTransport;
use session_runtime::{Error, PassiveSession, Saved, Session};
use session_tests::{Fault, Handles, Site, Visitor, cost};

const TTL: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(Session)]
struct Shop {
    visits: u32,
    #[session(default = 20)]
    page_size: u32,
    #[flash]
    notice: Option<String>,
}

async fn untouched() {}

async fn look(_: Session<Shop>) {}

async fn read(session: Session<Shop>) -> String {
    session.visits.get().to_string()
}

async fn borrow(mut session: Session<Shop>) {
    session.visits.get_mut();
    session.page_size.get_mut();
    session.notice.get_mut();
}

async fn count(mut session: Session<Shop>) {
    *session.visits.get_mut() += 1;
}

async fn rotate(mut session: Session<Shop>) -> Result<(), Error> {
    session.rotate().await
}

async fn delete(mut session: Session<Shop>) -> Result<(), Error> {
    session.delete("done").await
}

/// A site, and a visitor who has a session.
async fn shop() -> (Site, Visitor) {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    assert_eq!(cost(&site, &mut visitor, count).await, [0, 1, 1]);
    (site, visitor)
}

/// Tells of each request in a row if it costs a commit, `count` times, `step` apart.
async fn touches<T: 'static>(
    site: &Site,
    visitor: &mut Visitor,
    handler: impl Handler<T, ()>,
    (count, step): (usize, Duration),
) -> Vec<usize> {
    let mut due = Vec::new();
    for request in 1..=count {
        site.clock.advance(step);
        match cost(site, visitor, handler.clone()).await {
            [1, 0, 0] => {}
            [1, 1, 0] => due.push(request),
            other => panic!("request {request} cost {other:?}"),
        }
    }
    due
}

#[tokio::test]
async fn a_handler_that_does_not_extract_the_session_costs_nothing() {
    let (site, mut visitor) = shop().await;
    assert_eq!(cost(&site, &mut visitor, untouched).await, [0, 0, 0]);
    assert_eq!(cost(&site, &mut site.visitor(), untouched).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_guest_who_writes_nothing_costs_nothing() {
    let site = Site::in_memory();
    let handlers = [any(look), any(read), any(borrow), any(rotate), any(delete)];
    for handler in handlers {
        let mut guest = site.visitor();
        assert_eq!(cost(&site, &mut guest, handler).await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn reading_costs_one_load() {
    let (site, mut visitor) = shop().await;
    assert_eq!(cost(&site, &mut visitor, look).await, [1, 0, 0]);
    assert_eq!(cost(&site, &mut visitor, read).await, [1, 0, 0]);
}

#[tokio::test]
async fn borrowing_mutably_without_changing_costs_no_commit() {
    let (site, mut visitor) = shop().await;
    assert_eq!(cost(&site, &mut visitor, borrow).await, [1, 0, 0]);
    let there_and_back = async |mut session: Session<Shop>| {
        *session.visits.get_mut() += 1;
        *session.visits.get_mut() -= 1;
    };
    assert_eq!(cost(&site, &mut visitor, there_and_back).await, [1, 0, 0]);
    let the_same = async |mut session: Session<Shop>| session.visits.set(1);
    assert_eq!(cost(&site, &mut visitor, the_same).await, [1, 0, 0]);
}

#[tokio::test]
async fn changing_costs_a_load_and_a_commit_and_no_cookie() {
    let (site, mut visitor) = shop().await;
    for _ in 0..3 {
        assert_eq!(cost(&site, &mut visitor, count).await, [1, 1, 0]);
    }
    assert_eq!(visitor.visit(read).await.body, "4");
}

#[tokio::test]
async fn a_change_that_another_request_came_before_costs_one_more_swap() {
    let (site, mut visitor) = shop().await;
    for others in 1..=3 {
        site.store.plan(
            [Fault::None]
                .into_iter()
                .chain(vec![Fault::Contested; others]),
        );
        let swaps = 1 + others;
        assert_eq!(cost(&site, &mut visitor, count).await, [1, swaps, 0]);
    }
    assert_eq!(visitor.visit(read).await.body, "4");
}

#[tokio::test]
async fn rotating_costs_one_swap_and_the_first_request_under_the_new_id_another() {
    let (site, mut visitor) = shop().await;
    let rotate_and_count = async |mut session: Session<Shop>| {
        *session.visits.get_mut() += 1;
        session.rotate().await?;
        *session.page_size.get_mut() = 10;
        session.rotate().await
    };
    let save_and_rotate = async |mut session: Session<Shop>| {
        *session.visits.get_mut() += 1;
        session.save().await?;
        session.rotate().await
    };
    let steps = [
        ("rotate", any(rotate), [1, 1, 1]),
        ("the first request", any(read), [1, 1, 0]),
        ("the second", any(read), [1, 0, 0]),
        ("rotate again", any(rotate), [1, 1, 1]),
        ("the first, and a change", any(count), [1, 1, 0]),
        ("the second", any(read), [1, 0, 0]),
        (
            "change and rotate",
            any(count.layer(from_fn(rotated))),
            [1, 1, 1],
        ),
        ("rotate under a new id", any(rotate), [1, 1, 1]),
        ("rotate twice, and change", any(rotate_and_count), [1, 2, 1]),
        ("save and rotate", any(save_and_rotate), [1, 2, 1]),
    ];
    for (step, handler, costs) in steps {
        assert_eq!(cost(&site, &mut visitor, handler).await, costs, "{step}");
    }
    assert_eq!(visitor.visit(read).await.body, "5");
}

/// Rotates what the handler has changed.
async fn rotated(mut handles: Handles, request: Request<Body>, next: Next) -> Response {
    let response = next.run(request).await;
    let rotated = handles.open::<Shop>().await.rotate().await;
    rotated.expect("the store answers");
    response
}

#[tokio::test]
async fn claiming_deleting_and_refreshing_cost_one_call_each() {
    let (site, mut visitor) = shop().await;
    let notify = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    let claim = async |mut session: Session<Shop>| session.notice.claim().await.map(|_| ());
    let refresh = async |mut session: Session<Shop>| session.refresh().await;
    assert_eq!(cost(&site, &mut visitor, claim).await, [1, 0, 0]);
    visitor.visit(notify).await;
    assert_eq!(cost(&site, &mut visitor, claim).await, [1, 1, 0]);
    assert_eq!(cost(&site, &mut visitor, refresh).await, [2, 0, 0]);
    assert_eq!(cost(&site, &mut visitor, delete).await, [1, 1, 1]);
}

#[tokio::test]
async fn many_changes_in_one_request_are_one_commit() {
    let (site, mut visitor) = shop().await;
    let changes = async |mut first: Session<Shop>, mut second: Session<Shop>| {
        first.visits.set(10);
        first.page_size.set(50);
        drop(first);
        second.notice.set("Hello".to_owned());
    };
    assert_eq!(cost(&site, &mut visitor, changes).await, [1, 1, 0]);
    assert_eq!(cost(&site, &mut site.visitor(), changes).await, [0, 1, 1]);
}

#[tokio::test]
async fn what_is_saved_is_not_written_again_at_the_end() {
    let (site, mut visitor) = shop().await;
    let save = async |mut session: Session<Shop>| {
        *session.visits.get_mut() += 1;
        assert_eq!(session.save().await.unwrap(), Saved::Written);
        assert_eq!(session.save().await.unwrap(), Saved::Unchanged);
    };
    assert_eq!(cost(&site, &mut visitor, save).await, [1, 1, 0]);
    assert_eq!(cost(&site, &mut site.visitor(), save).await, [0, 1, 1]);
    assert_eq!(visitor.visit(read).await.body, "2");
}

#[tokio::test]
async fn two_extractors_in_one_request_load_once() {
    let (site, mut visitor) = shop().await;
    let both = async |_: Session<Shop>, _: PassiveSession<Shop>, _: Option<Session<Shop>>| {};
    assert_eq!(cost(&site, &mut visitor, both).await, [1, 0, 0]);
    let at_once = async |mut one: Handles, mut other: Handles| {
        let (one, other) = tokio::join!(one.open::<Shop>(), other.open::<Shop>());
        assert_eq!((one.visits.get(), other.visits.get()), (&1, &1));
    };
    site.store.plan([Fault::Slow(Duration::from_millis(10))]);
    assert_eq!(cost(&site, &mut visitor, at_once).await, [1, 0, 0]);
}

#[derive(Session)]
struct Member {
    page: u32,
    #[merge(sum)]
    points: u32,
}

#[tokio::test]
async fn what_follows_the_user_costs_one_more_load_and_if_it_changed_one_more_commit() {
    let (site, mut visitor) = shop().await;
    let login = async |mut session: Session<Member>| session.login("ada").await;
    assert_eq!(visitor.visit(login).await.set_cookies().len(), 1);
    visitor.visit(look).await; // takes in what the schema that logged in did not know
    let read = async |session: Session<Member>| session.page.get().to_string();
    let turn = async |mut session: Session<Member>| *session.page.get_mut() += 1;
    let score = async |mut session: Session<Member>| *session.points.get_mut() += 1;
    let borrow = async |mut session: Session<Member>| *session.points.get_mut() += 0;
    let both = async |mut session: Session<Member>| {
        *session.page.get_mut() += 1;
        *session.points.get_mut() += 1;
    };
    for (what, handler, costs) in [
        ("a schema of which nothing follows", any(look), [1, 0, 0]),
        ("read", any(read), [2, 0, 0]),
        ("borrowed", any(borrow), [2, 0, 0]),
        ("changed, but nothing that follows", any(turn), [2, 1, 0]),
        ("changed what follows alone", any(score), [2, 1, 0]),
        ("changed both", any(both), [2, 2, 0]),
        (
            "a schema of which nothing follows, changed",
            any(count),
            [1, 1, 0],
        ),
    ] {
        assert_eq!(cost(&site, &mut visitor, handler).await, costs, "{what}");
    }
}

#[tokio::test]
async fn a_malformed_id_costs_no_load() {
    let site = Site::in_memory();
    let mut visitor = site.visitor().presenting("not-an-id");
    assert_eq!(cost(&site, &mut visitor, read).await, [0, 0, 0]);
    assert_eq!(cost(&site, &mut visitor, count).await, [0, 1, 1]);
    assert_eq!(cost(&site, &mut visitor, read).await, [1, 0, 0]);
}

#[tokio::test]
async fn an_unknown_id_costs_one_load() {
    let site = Site::in_memory();
    let mut visitor = site.visitor().presenting(&"0".repeat(48));
    assert_eq!(cost(&site, &mut visitor, read).await, [1, 0, 0]);
    assert_eq!(cost(&site, &mut visitor, count).await, [1, 1, 1]);
}

#[tokio::test]
async fn the_idle_lifetime_is_written_once_per_tenth_of_it() {
    let (site, mut visitor) = shop().await;
    let due = touches(&site, &mut visitor, read, (1000, TTL / 1000)).await;
    assert_eq!(due, (1..=10).map(|tenth| tenth * 100).collect::<Vec<_>>());
    // A lifetime of its own has tenths of its own.
    let hour = async |mut session: Session<Shop>| session.set_ttl(TTL / 2);
    visitor.visit(hour).await;
    let due = touches(&site, &mut visitor, read, (100, TTL / 1000)).await;
    assert_eq!(due, [50, 100]);
}

#[tokio::test]
async fn a_change_extends_the_lifetime_in_the_same_commit() {
    let (site, mut visitor) = shop().await;
    site.clock.advance(TTL / 10);
    assert_eq!(cost(&site, &mut visitor, count).await, [1, 1, 0]);
    let expires = site.record(&visitor).await.unwrap().expires();
    assert_eq!(expires, site.now() + TTL);
    assert_eq!(cost(&site, &mut visitor, read).await, [1, 0, 0]);
}

#[tokio::test]
async fn a_request_that_does_not_look_at_the_session_does_not_extend_it() {
    let (site, mut visitor) = shop().await;
    site.clock.advance(TTL / 2);
    assert_eq!(cost(&site, &mut visitor, untouched).await, [0, 0, 0]);
    site.clock.advance(TTL / 2);
    assert_eq!(visitor.visit(read).await.body, "0");
}

#[tokio::test]
async fn a_passive_session_never_extends_not_even_when_it_writes() {
    let (site, mut visitor) = shop().await;
    let poll = async |session: PassiveSession<Shop>| session.visits.get().to_string();
    let due = touches(&site, &mut visitor, poll, (99, TTL / 100)).await;
    assert!(due.is_empty(), "{due:?}");
    let write = async |mut session: PassiveSession<Shop>| session.visits.set(7);
    assert_eq!(cost(&site, &mut visitor, write).await, [1, 1, 0]);
    assert_eq!(visitor.visit(poll).await.body, "7");
    site.clock.advance(TTL / 100);
    assert_eq!(visitor.visit(poll).await.body, "0");
}

#[tokio::test]
async fn one_active_handle_extends_whatever_passive_ones_there_are() {
    let (site, mut visitor) = shop().await;
    site.clock.advance(TTL / 10);
    let both = async |_: PassiveSession<Shop>, _: Session<Shop>, _: PassiveSession<Shop>| {};
    assert_eq!(cost(&site, &mut visitor, both).await, [1, 1, 0]);
}

#[tokio::test]
async fn an_optional_session_is_there_exactly_where_a_live_one_was_presented() {
    let (site, mut visitor) = shop().await;
    let there = async |session: Option<Session<Shop>>| session.is_some().to_string();
    let presented = [
        (visitor.clone(), "true", [1, 0, 0]),
        (site.visitor(), "false", [0, 0, 0]),
        (
            site.visitor().presenting(&"0".repeat(48)),
            "false",
            [1, 0, 0],
        ),
        (site.visitor().presenting("malformed"), "false", [0, 0, 0]),
    ];
    for (mut visitor, found, costs) in presented {
        assert_eq!(visitor.visit(there).await.body, found);
        assert_eq!(cost(&site, &mut visitor, there).await, costs);
    }
    site.clock.advance(TTL / 10);
    let passive = async |session: Option<PassiveSession<Shop>>| session.is_some().to_string();
    assert_eq!(cost(&site, &mut visitor, passive).await, [1, 0, 0]);
    assert_eq!(visitor.visit(passive).await.body, "true");
    assert_eq!(cost(&site, &mut visitor, there).await, [1, 1, 0]);
    visitor.visit(delete).await;
    assert_eq!(visitor.visit(there).await.body, "false");
    assert_eq!(visitor.visit(passive).await.body, "false");
}

#[tokio::test]
async fn a_cookie_is_set_when_an_id_is_issued_or_removed_and_never_else() {
    let keep = async |mut session: Session<Shop>| session.notice.keep();
    let use_up = async |session: Session<Shop>| session.notice.get().clone().unwrap_or_default();
    let remember = async |mut session: Session<Shop>| session.set_ttl(TTL * 2);
    let refresh = async |mut session: Session<Shop>| session.refresh().await;
    let unbind = async |mut session: Session<Shop>| session.unbind();
    let notify = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    let steps = [
        ("read as a guest", any(read), 0),
        ("remember a guest", any(remember), 0),
        ("create", any(count), 1),
        ("read", any(read), 0),
        ("borrow", any(borrow), 0),
        ("change", any(count), 0),
        ("set a flash", any(notify), 0),
        ("keep a flash", any(keep), 0),
        ("use up a flash", any(use_up), 0),
        ("remember", any(remember), 0),
        ("refresh", any(refresh), 0),
        ("unbind", any(unbind), 0),
        ("rotate", any(rotate), 1),
        ("read after rotating", any(read), 0),
        ("delete", any(delete), 1),
        ("read after deleting", any(read), 0),
        ("create again", any(count), 1),
    ];
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    for (step, handler, cookies) in steps {
        let [.., set] = cost(&site, &mut visitor, handler).await;
        assert_eq!(set, cookies, "{step}");
    }
    site.clock.advance(TTL);
    assert_eq!(
        cost(&site, &mut visitor, read).await,
        [1, 0, 0],
        "a mere miss"
    );
}

/// The values of a header, in order.
fn values(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    let values = headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn a_response_that_sets_the_cookie_is_not_stored_by_caches() {
    let (site, mut visitor) = shop().await;
    let caching = |headers: &HeaderMap| values(headers, CACHE_CONTROL).join("; ");
    for handler in [any(look), any(count), any(untouched)] {
        assert_eq!(caching(&visitor.visit(handler).await.headers), "");
    }
    for handler in [any(rotate), any(delete), any(count)] {
        assert_eq!(caching(&visitor.visit(handler).await.headers), "no-store");
    }
    let own = async |mut session: Session<Shop>| {
        session.visits.set(1);
        ([(CACHE_CONTROL, "private, max-age=0")], "")
    };
    let reply = site.visitor().visit(own).await;
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(caching(&reply.headers), "private, max-age=0");
}

#[tokio::test]
async fn a_response_varies_by_the_cookie_exactly_when_the_session_was_looked_at() {
    async fn vary(visitor: &mut Visitor, own: &'static str, look: bool) -> Vec<String> {
        let says = async move |mut handles: Handles| {
            if look {
                drop(handles.open::<Shop>().await);
            }
            let mut headers = HeaderMap::new();
            for own in own.split('|').filter(|own| !own.is_empty()) {
                headers.append(VARY, own.parse().unwrap());
            }
            headers
        };
        let headers = visitor.visit(says).await.headers;
        values(&headers, VARY)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }
    let (site, visitor) = shop().await;
    for mut visitor in [visitor, site.visitor()] {
        let cases = [
            ("", &["cookie"][..]),
            ("accept", &["accept", "cookie"]),
            ("Cookie", &["Cookie"]),
            ("accept, COOKIE", &["accept, COOKIE"]),
            ("accept|cookie", &["accept", "cookie"]),
            ("*", &["*"]),
        ];
        for (own, expected) in cases {
            assert_eq!(vary(&mut visitor, own, true).await, expected, "{own}");
        }
        assert!(vary(&mut visitor, "", false).await.is_empty());
        assert_eq!(vary(&mut visitor, "accept", false).await, ["accept"]);
    }
}

#[tokio::test]
async fn cookies_of_the_app_are_left_alone() {
    let (site, visitor) = shop().await;
    let own = ["theme=dark", "__Host-id-theme=dark; Path=/", "lang=de"];
    let with_own = |issue: bool| {
        async move |mut session: Session<Shop>| {
            if issue {
                session.visits.set(1);
            }
            let mut headers = HeaderMap::new();
            for own in own {
                headers.append(SET_COOKIE, own.parse().unwrap());
            }
            headers
        }
    };
    for (mut visitor, issued) in [(visitor, 0), (site.visitor(), 1)] {
        let reply = visitor.visit(with_own(true)).await;
        let cookies = reply.set_cookies();
        assert_eq!(cookies[..3], own);
        assert_eq!(cookies.len(), 3 + issued);
    }
    assert_eq!(
        site.visitor().visit(with_own(false)).await.set_cookies(),
        own
    );
}

#[tokio::test]
async fn a_redirect_carries_the_cookie_of_what_it_wrote() {
    let site = Site::in_memory();
    let add = async |mut session: Session<Shop>| {
        session.visits.set(3);
        (StatusCode::SEE_OTHER, [(LOCATION, "/cart")])
    };
    let mut visitor = site.visitor();
    let reply = visitor.visit(add).await;
    assert_eq!(reply.location(), Some("/cart"));
    assert_eq!(visitor.visit(read).await.body, "3");
}

#[tokio::test]
async fn insecure_renames_the_cookie_and_drops_secure_alone() {
    let site = Site::in_memory();
    let plain = Site::in_memory().with(session_runtime::SessionLayer::insecure);
    let secure = site.visitor().visit(count).await;
    let mut visitor = plain.visitor();
    let insecure = visitor.visit(count).await;
    let attributes = |cookie: &str| {
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        let mut attributes: Vec<_> = attributes.split("; ").map(str::to_owned).collect();
        attributes.sort();
        (
            pair.split('=').next().unwrap().to_owned(),
            attributes.join("; "),
        )
    };
    let (name, kept) = attributes(secure.set_cookies()[0]);
    assert_eq!(name, "__Host-id");
    assert_eq!(
        kept,
        "HttpOnly; Max-Age=2592000; Path=/; SameSite=Lax; Secure"
    );
    let (name, kept) = attributes(insecure.set_cookies()[0]);
    assert_eq!(name, "id");
    assert_eq!(kept, "HttpOnly; Max-Age=2592000; Path=/; SameSite=Lax");
    assert_eq!(visitor.visit(read).await.body, "1");
}

#[tokio::test]
async fn the_header_transport_makes_the_round_trip_without_cookies() {
    let site = Site::in_memory().with(|layer| layer.transport(HeaderTransport::bearer()));
    let answer = HeaderName::from_static("session-id");
    let ask = |id: Option<&str>| {
        let request = Request::builder().header(COOKIE, format!("__Host-id={}", "0".repeat(48)));
        let request = match id {
            Some(id) => request.header(AUTHORIZATION, format!("Bearer {id}")),
            None => request,
        };
        request.body(Body::empty()).unwrap()
    };
    let reply = site.visitor().send(ask(None), count).await;
    let id = values(&reply.headers, answer.clone()).concat();
    assert_eq!(id.len(), 48);
    assert!(reply.set_cookies().is_empty());
    assert_eq!(values(&reply.headers, VARY), ["authorization"]);
    assert_eq!(values(&reply.headers, CACHE_CONTROL), ["no-store"]);

    site.store.round_trips();
    let reply = site.visitor().send(ask(Some(&id)), read).await;
    assert_eq!(reply.body, "1");
    assert_eq!(site.store.round_trips(), (1, 0));
    assert!(values(&reply.headers, answer.clone()).is_empty());

    let reply = site.visitor().send(ask(Some(&id)), delete).await;
    assert_eq!(values(&reply.headers, answer), [""]);
    assert_eq!(site.visitor().send(ask(Some(&id)), read).await.body, "0");
}
