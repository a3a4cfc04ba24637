//! Several handles of one request, several structs in one process, several versions of an app: what each sees of the
//! others, and what is said where one would lose something.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::any;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use session_runtime::{Session, SessionLayer};
use session_tests::{Handles, Logs, Site, Visitor};

#[derive(Session)]
struct Page {
    theme: String,
    #[merge(append, browser)]
    #[flash]
    notices: Vec<String>,
    #[flash]
    notice: Option<String>,
    #[merge(sum, browser)]
    visits: u32,
}

mod other {
    use session_runtime::Session;

    /// Stores the theme as a number.
    #[derive(Session)]
    pub(super) struct Admin {
        pub(super) theme: u32,
    }

    /// The same, under a name of its own.
    #[derive(Session)]
    #[session(prefix = "admin")]
    pub(super) struct Prefixed {
        pub(super) theme: u32,
    }

    /// Means the same theme.
    #[derive(Session)]
    pub(super) struct Same {
        pub(super) theme: String,
    }

    /// Each keeps what is the page's otherwise.
    pub(super) mod otherwise {
        use session_runtime::Session;

        #[derive(Session)]
        pub(in super::super) struct Encoded {
            #[session(with = shouted)]
            pub(in super::super) theme: String,
        }

        #[derive(Session)]
        pub(in super::super) struct Ordered {
            #[session(ordered)]
            pub(in super::super) theme: String,
        }

        #[derive(Session)]
        pub(in super::super) struct UsedUp {
            #[flash]
            pub(in super::super) theme: String,
        }

        #[derive(Session)]
        pub(in super::super) struct Following {
            #[merge(user)]
            pub(in super::super) theme: String,
        }

        #[derive(Session)]
        pub(in super::super) struct Renamed {
            #[session(alias = "theme")]
            pub(in super::super) look: u32,
        }

        /// The page would lose its theme with the first `look` that is written.
        #[derive(Session)]
        pub(in super::super) struct RenamedAlone {
            #[session(alias = "theme")]
            pub(in super::super) look: String,
        }

        #[derive(Session)]
        pub(in super::super) struct Lapsing {
            #[expire("5m", sliding)]
            pub(in super::super) theme: String,
        }

        mod shouted {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(crate) fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
                text.to_uppercase().serialize(to)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<String, D::Error> {
                String::deserialize(from).map(|text| text.to_lowercase())
            }
        }
    }
}

async fn paint(mut session: Session<Page>) {
    session.theme.set("dark".to_owned());
}

#[tokio::test]
async fn two_structs_that_store_one_name_as_different_types_are_told_at_once() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(paint).await;
    for _ in 0..2 {
        let reply = visitor
            .visit(|mut s: Session<other::Admin>| async move { s.theme.set(3) })
            .await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        let error = reply.error.expect("the response has its error").to_string();
        for part in [
            "handles::Page",
            "handles::other::Admin",
            "`theme`",
            "`u32`",
            "String",
            "prefix",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    let reply = visitor
        .visit(|mut s: Session<other::Prefixed>| async move { s.theme.set(3) })
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    let reply = visitor
        .visit(|s: Session<other::Same>| async move { assert_eq!(s.theme.get(), "dark") })
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        visitor.visit(paint).await.status,
        StatusCode::OK,
        "the first goes on"
    );
}

/// The notices of the page, under every page.
#[derive(Session)]
struct Footer {
    #[merge(append, browser)]
    #[flash]
    notices: Vec<String>,
}

#[tokio::test]
async fn a_notice_that_two_structs_have_survives_a_logout_once() {
    let site = Site::in_memory();
    let notices = async |session: Session<Footer>| session.notices.get().join(" ");
    for as_another in [true, false] {
        let mut visitor = site.visitor();
        visitor.visit(notices).await;
        let leave = async move |mut session: Session<Page>| {
            session.login("Ada").await?;
            session.notices.get_mut().push("Goodbye.".to_owned());
            if as_another {
                session.login("Bob").await
            } else {
                session.logout().await
            }
        };
        assert_eq!(visitor.visit(leave).await.status, StatusCode::OK);
        assert_eq!(
            visitor.visit(notices).await.body,
            "Goodbye.",
            "{as_another}"
        );
    }
}

/// Each of the two would lose what the other writes.
#[tokio::test]
async fn two_structs_that_keep_one_name_otherwise_are_told_at_once() {
    use other::otherwise::{Encoded, Following, Lapsing, Ordered, Renamed, RenamedAlone, UsedUp};

    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor.visit(paint).await;
    let replies = [
        (
            visitor
                .visit(|mut s: Session<Encoded>| async move { s.theme.set("x") })
                .await,
            "with `shouted`",
        ),
        (
            visitor
                .visit(|mut s: Session<Ordered>| async move { s.theme.set("x") })
                .await,
            ", ordered",
        ),
        (
            visitor
                .visit(|s: Session<UsedUp>| async move { s.theme.get().clone() })
                .await,
            ", a flash",
        ),
        (
            visitor
                .visit(|mut s: Session<Following>| async move { s.login("ada").await })
                .await,
            ", which follows the user",
        ),
        (
            visitor
                .visit(|mut s: Session<Renamed>| async move { s.look.set(1) })
                .await,
            "`u32`",
        ),
        (
            visitor
                .visit(|mut s: Session<RenamedAlone>| async move { s.look.set("x") })
                .await,
            ", now called `look`",
        ),
        (
            visitor
                .visit(|mut s: Session<Lapsing>| async move { s.theme.set("x") })
                .await,
            ", for 300s after it was used",
        ),
    ];
    for (reply, differs) in replies {
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{differs}");
        let error = reply.error.expect("the response has its error");
        assert!(error.is_misuse());
        let told = error.to_string();
        assert!(
            told.contains(differs) && told.contains("stores `theme` as"),
            "{told}"
        );
    }
    let stored = site.payload(&visitor, "theme").await;
    assert_eq!(stored.as_deref(), Some(r#""dark""#));
}

/// Serves a handler within a middleware that keeps its handle while the handler runs.
async fn held_over(handler: axum::routing::MethodRouter) -> (Site, Visitor, Logs) {
    async fn hold(mut session: Session<Page>, request: Request, next: Next) -> Response {
        session.theme.set("of the middleware".to_owned());
        session.notice.set("of the middleware".to_owned());
        session
            .notices
            .get_mut()
            .push("of the middleware".to_owned());
        *session.visits.get_mut() += 1;
        let response = next.run(request).await;
        drop(session);
        response
    }

    let site = Site::in_memory();
    let app = Router::new()
        .route("/", handler)
        .layer(from_fn(hold))
        .layer(site.layer.clone());
    let mut visitor = site.visitor();
    let logs = Logs::capture();
    visitor.browser = session_tests::Browser::new(app);
    visitor.browser.get("/").await;
    (site, visitor, logs)
}

const UNSEEN: &str = "what that changed is not seen";
const OVERWRITTEN: &str = "the one that was dropped last counts";

#[tokio::test]
async fn what_a_handle_does_not_see_and_what_it_overwrites_is_said() {
    let (site, visitor, logs) = held_over(any(|mut s: Session<Page>| async move {
        assert_eq!(s.theme.get(), "", "the middleware's handle is open");
        s.theme.set("of the handler".to_owned());
        s.notices.get_mut().push("of the handler".to_owned());
        *s.visits.get_mut() += 1;
    }))
    .await;
    assert_eq!(logs.lines("WARN", UNSEEN), 1, "{}", logs.text());
    assert_eq!(logs.lines("WARN", "handles::Page"), 1);
    assert_eq!(logs.lines("WARN", OVERWRITTEN), 1, "{}", logs.text());
    assert_eq!(logs.lines("theme", OVERWRITTEN), 1);
    // By their rules both count.
    let stored = |name| site.payload(&visitor, name);
    assert_eq!(stored("visits").await.as_deref(), Some("2"));
    let notices = stored("notices").await;
    assert_eq!(
        notices.as_deref(),
        Some(r#"["of the handler","of the middleware"]"#)
    );
}

#[tokio::test]
async fn two_notices_at_once_without_a_rule_are_said_to_be_one() {
    let (_, _, logs) = held_over(any(|mut s: Session<Page>| async move {
        s.notice.set("of the handler".to_owned());
    }))
    .await;
    assert_eq!(logs.lines("notice", OVERWRITTEN), 1, "{}", logs.text());
}

#[tokio::test]
async fn nothing_is_said_of_handles_that_do_not_get_in_each_others_way() {
    let logs = Logs::capture();
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let reply = visitor.visit(|mut handles: Handles| async move {
        let mut first = handles.open::<Page>().await;
        let second = handles.open::<other::Same>().await;
        first.theme.set("dark".to_owned());
        drop(first);
        let _ = second.theme.get();
        let mut third = handles.open::<Page>().await;
        assert_eq!(third.theme.get(), "dark");
        third.theme.set("light".to_owned());
        third.save().await.expect("it is saved");
        let fourth = handles.open::<Page>().await;
        assert_eq!(fourth.theme.get(), "light");
    });
    assert_eq!(reply.await.status, StatusCode::OK);
    assert_eq!(logs.lines("WARN", ""), 0, "{}", logs.text());
}

#[tokio::test]
async fn a_value_for_now_that_is_kept_is_there_once_more() {
    let site = Site::in_memory();
    let show = |s: Session<Page>| async move { s.notice.get().clone().unwrap_or_default() };
    let mut visitor = site.visitor();
    let shown = visitor.visit(|mut s: Session<Page>| async move {
        s.notice.now("now".to_owned());
        s.notice.keep();
        s.notice.get().clone().unwrap_or_default()
    });
    assert_eq!(shown.await.body, "now");
    assert_eq!(visitor.visit(show).await.body, "now");
    assert_eq!(visitor.visit(show).await.body, "");
    // Kept by another handle than showed it.
    let mut visitor = site.visitor();
    visitor
        .visit(|mut handles: Handles| async move {
            handles.open::<Page>().await.notice.now("now".to_owned());
            let mut session = handles.open::<Page>().await;
            assert_eq!(session.notice.get().as_deref(), Some("now"));
            session.notice.keep();
        })
        .await;
    assert_eq!(visitor.visit(show).await.body, "now");
    assert_eq!(visitor.visit(show).await.body, "");
}

#[tokio::test]
async fn a_notice_that_was_set_before_a_logout_or_another_users_login_survives_it() {
    let show = |s: Session<Page>| async move {
        format!(
            "{} {}",
            s.notice.get().as_deref().unwrap_or_default(),
            s.theme.get()
        )
    };
    let site = Site::in_memory();
    let log_in = |mut s: Session<Page>| async move {
        s.login("Ada").await.expect("she is logged in");
        s.notices.set(vec!["left over".to_owned()]);
    };
    // Set before, set and saved before, shown now alone.
    for saves in [false, true] {
        let mut visitor = site.visitor();
        visitor.visit(log_in).await;
        let left = visitor.clone();
        let goodbye = visitor.visit(move |mut s: Session<Page>| async move {
            s.theme.set("of the session".to_owned());
            s.notice.set("Goodbye.".to_owned());
            if saves {
                s.save().await.expect("it is saved");
            }
            s.logout().await.expect("she is logged out");
            assert_eq!(s.user(), None);
            s.notice.peek().clone().unwrap_or_default()
        });
        assert_eq!(goodbye.await.body, "Goodbye.");
        assert_ne!(visitor.id(), left.id());
        assert_eq!(
            visitor.visit(show).await.body,
            "Goodbye. ",
            "nothing else is"
        );
        assert_eq!(visitor.visit(show).await.body, " ");
        let mut left = left;
        assert_eq!(left.visit(show).await.body, " ", "the session has ended");
    }
    let mut visitor = site.visitor();
    visitor.visit(log_in).await;
    visitor
        .visit(|mut s: Session<Page>| async move {
            s.logout().await.expect("she is logged out");
        })
        .await;
    assert_eq!(
        visitor.id(),
        "",
        "what earlier requests had set has gone with the session"
    );
    let mut visitor = site.visitor();
    visitor.visit(log_in).await;
    visitor
        .visit(|mut s: Session<Page>| async move {
            s.notice.set("Welcome, Bob.".to_owned());
            s.login("Bob").await.expect("he is logged in");
        })
        .await;
    assert_eq!(visitor.visit(show).await.body, "Welcome, Bob. ");
    let notices = visitor.visit(|s: Session<Page>| async move { s.notices.get().concat() });
    assert_eq!(notices.await.body, "");
}

/// A field is renamed, another is retyped, in two deploys. Any two versions that follow each other run at once.
mod deploys {
    use super::{Deserialize, Serialize, Session};

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    pub(super) struct Price {
        pub(super) cents: u32,
    }

    fn of_cents(cents: u32) -> Price {
        Price { cents }
    }

    /// Reads both forms, and writes the older one.
    mod older_form {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use super::{Price, of_cents};

        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Older(u32),
            Newer(Price),
        }

        pub(crate) fn serialize<S: Serializer>(price: &Price, to: S) -> Result<S::Ok, S::Error> {
            price.cents.serialize(to)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Price, D::Error> {
            Ok(match Form::deserialize(from)? {
                Form::Older(cents) => of_cents(cents),
                Form::Newer(price) => price,
            })
        }
    }

    #[derive(Session)]
    pub(super) struct First {
        pub(super) colour: String,
        pub(super) price: u32,
    }

    /// Knows both, and writes what the first reads.
    #[derive(Session)]
    pub(super) struct Second {
        #[session(rename = "colour", alias = "color")]
        pub(super) color: String,
        #[session(with = older_form)]
        pub(super) price: Price,
    }

    /// Knows both, and writes what the second reads.
    #[derive(Session)]
    pub(super) struct Third {
        #[session(alias = "colour")]
        pub(super) color: String,
        #[session(upgrade(from = u32, with = of_cents))]
        pub(super) price: Price,
    }
}

/// Has a version read, and then write.
async fn turn(
    version: usize,
    visitor: &mut Visitor,
    layers: &[SessionLayer; 3],
    number: u32,
) -> String {
    use deploys::{First, Price, Second, Third};

    *visitor = visitor.moved_to(&layers[version]);
    let reply = match version {
        0 => {
            visitor
                .visit(move |mut s: Session<First>| async move {
                    let read = format!("{} {}", s.colour.get(), s.price.get());
                    s.colour.set(format!("colour {number}"));
                    s.price.set(number);
                    read
                })
                .await
        }
        1 => {
            visitor
                .visit(move |mut s: Session<Second>| async move {
                    let read = format!("{} {}", s.color.get(), s.price.get().cents);
                    s.color.set(format!("colour {number}"));
                    s.price.set(Price { cents: number });
                    read
                })
                .await
        }
        _ => {
            visitor
                .visit(move |mut s: Session<Third>| async move {
                    let read = format!("{} {}", s.color.get(), s.price.get().cents);
                    s.color.set(format!("colour {number}"));
                    s.price.get_mut().cents = number;
                    read
                })
                .await
        }
    };
    assert_eq!(reply.status, StatusCode::OK);
    reply.body
}

/// Over a file each process reads what it has written as others do.
#[tokio::test]
async fn a_field_is_renamed_and_retyped_in_two_deploys_and_each_version_sees_what_the_other_wrote()
{
    each_version_sees_what_the_other_wrote(Site::in_memory()).await;
    each_version_sees_what_the_other_wrote(Site::in_a_file()).await;
}

/// Tries every order in which two neighbours take six turns.
async fn each_version_sees_what_the_other_wrote(site: Site) {
    let layers = [
        site.other_process(),
        site.other_process(),
        site.other_process(),
    ];
    for (older, orders) in [0, 1]
        .into_iter()
        .flat_map(|older| (0..64).map(move |orders| (older, orders)))
    {
        let mut visitor = site.visitor();
        let mut before = " 0".to_owned();
        for number in 1..=6 {
            let version = older + (orders >> (number - 1) & 1);
            let read = turn(version, &mut visitor, &layers, number).await;
            assert_eq!(read, before, "{older} {orders:b} {number}");
            before = format!("colour {number} {number}");
        }
    }
}

#[tokio::test]
async fn a_rename_in_one_deploy_loses_what_the_older_version_writes() {
    let site = Site::in_memory();
    let layers = [
        site.other_process(),
        site.other_process(),
        site.other_process(),
    ];
    let mut visitor = site.visitor();
    turn(2, &mut visitor, &layers, 1).await;
    assert_eq!(
        turn(0, &mut visitor, &layers, 2).await,
        " 0",
        "which is why there are two"
    );
}

/// Nobody's changes of the seat are merged.
#[derive(Session)]
struct Hall {
    #[merge(reject)]
    seat: u32,
}

#[tokio::test]
async fn what_could_not_be_folded_in_fails_nothing_once_it_is_forgotten() {
    for forgets in [true, false] {
        let mut visitor = Site::in_memory().visitor();
        let handler = async move |mut handles: Handles| {
            let mut both = [handles.open::<Hall>().await, handles.open().await];
            both[0].seat.set(1_u32);
            both[1].seat.set(2_u32);
            drop(both);
            let mut session = handles.open::<Hall>().await;
            if forgets {
                session.forget_changes();
                session.seat.set(3_u32);
            }
        };
        let reply = visitor.visit(handler).await;
        let seat = async |session: Session<Hall>| session.seat.get().to_string();
        let seat = visitor.visit(seat).await.body;
        let expected = if forgets {
            (StatusCode::OK, "3")
        } else {
            (StatusCode::CONFLICT, "0")
        };
        assert_eq!((reply.status, &*seat), expected);
    }
}
