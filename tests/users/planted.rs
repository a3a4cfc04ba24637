//! Ids and values that somebody has planted in a browser before its user logs in.

use std::time::Duration;

use session_runtime::Session;
use session_tests::customers::{
    NOTHING, Shop, ask, club, gather, guest, login, paint, quietly, rotate, shown, user,
};
use session_tests::{Site, Visitor, on_a_cache, on_each_store, times};
use tokio::task::JoinSet;

use super::stored::{HOUR, MINUTE, SECOND, account, holds_any};

on_each_store!(
    a_planted_id_shows_nothing_of_the_user,
    a_planted_id_opens_nothing_whatever_is_done_under_the_new_one,
    what_is_a_guests_alone_is_gone_at_a_login,
);

on_a_cache!(
    a_planted_id_shows_nothing_of_the_user,
    what_is_a_guests_alone_is_gone_at_a_login,
);

async fn a_planted_id_shows_nothing_of_the_user(site: Site) {
    let ada = user(&site, "ada", &[1000]).await;
    for round in 0..50 * times() {
        let attacker = guest(&site, &[]).await;
        let mut victim = attacker.clone();
        if round % 2 == 1 {
            // The planted id is good beside the victim's, until that is presented and for a minute more.
            ask(&mut victim, rotate).await;
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
        replays.join_all().await;
        let waits = [Duration::ZERO, 10 * SECOND, MINUTE, 5 * MINUTE, HOUR];
        for (wait, presents) in waits.into_iter().zip([false, true, true, true, true]) {
            site.clock.advance(wait);
            let mut attacker = attacker.clone();
            assert_eq!(quietly(&mut attacker, shown).await, NOTHING, "{round}");
            assert_eq!(quietly(&mut attacker, club).await, "0 ");
            gather(&mut attacker, 1).await;
            let seen = attacker.visit(shown).await.body;
            assert!([NOTHING, "guest [1] 1 plain"].contains(&&*seen), "{seen}");
            if presents {
                assert_eq!(quietly(&mut victim, shown).await, "ada [1000] 1000 dark");
            }
        }
    }
    assert_eq!(account(&site, "ada").await, "[1000] 1000");
    drop(ada);
}

/// Does something as the victim, with the id of that moment.
async fn act(victim: &mut Visitor, act: usize) {
    let end = async |mut session: Session<Shop>| session.delete("over").await;
    match act {
        0 => drop(ask(victim, rotate).await),
        1 => login(victim, "ada").await,
        2 => paint(victim, "loud").await,
        3 => drop(gather(victim, 1).await),
        4 => drop(ask(victim, session_tests::customers::logout).await),
        _ => drop(ask(victim, end).await),
    }
}

async fn a_planted_id_opens_nothing_whatever_is_done_under_the_new_one(site: Site) {
    for first in 0..6 {
        for second in 0..6 {
            let mut attacker = guest(&site, &[]).await;
            let mut victim = attacker.clone();
            ask(&mut victim, rotate).await;
            let mut between = victim.clone(); // might have been planted, too
            login(&mut victim, "ada").await;
            for (what, wait) in [(first, SECOND), (second, MINUTE)] {
                act(&mut victim, what).await;
                for planted in [&mut attacker, &mut between] {
                    assert_eq!(quietly(planted, shown).await, NOTHING, "{first} {second}");
                }
                site.clock.advance(wait);
            }
            for planted in [&mut attacker, &mut between] {
                assert_eq!(quietly(planted, shown).await, NOTHING, "{first} {second}");
            }
        }
    }
}

/// A token, as an app keeps it in forms of guests, and what somebody may find there.
#[derive(Session)]
struct Form {
    #[session(guest)]
    token: Option<String>,
    draft: String,
    #[merge(sum)]
    tries: u32,
}

async fn what_is_a_guests_alone_is_gone_at_a_login(site: Site) {
    let form = async |session: Session<Form>| {
        let (token, draft) = (session.token.get(), session.draft.get());
        format!("{token:?} {draft:?} {}", session.tries.get())
    };
    let fill = async |mut session: Session<Form>| {
        session.token.set(Some("planted".to_owned()));
        session.draft.set("kept".to_owned());
        session.tries.set(1);
    };
    let enter = async |mut session: Session<Form>| {
        session.token.set(Some("newer".to_owned()));
        session.login("ada").await.unwrap();
        assert_eq!(session.token.get(), &None);
        assert_eq!(session.token.brought(), None);
    };
    for saved in [true, false] {
        let mut visitor = guest(&site, &[]).await;
        if saved {
            visitor.visit(fill).await;
            // By a version that knows a field which this one does not.
            site.plant(&visitor, "@guest/flag", "true").await;
            let seen = quietly(&mut visitor, form).await;
            assert_eq!(seen, "Some(\"planted\") \"kept\" 1");
        }
        assert_eq!(visitor.visit(enter).await.set_cookies().len(), 1);
        let seen = quietly(&mut visitor, form).await;
        assert_eq!(
            seen,
            format!("None {} 1", if saved { "\"kept\"" } else { "\"\"" })
        );
        let record = site.record(&visitor).await.unwrap();
        assert!(!holds_any(&record, "guest"), "not even set apart");

        // Set after the login, it is there, until the next one.
        let set = async |mut session: Session<Form>| session.token.set(Some("own".to_owned()));
        quietly(&mut visitor, set).await;
        assert!(
            quietly(&mut visitor, form)
                .await
                .starts_with("Some(\"own\")")
        );
        let mut old = visitor.clone();
        login(&mut visitor, "ada").await;
        assert!(quietly(&mut visitor, form).await.starts_with("None"));

        // Also one by an id that has been superseded.
        quietly(&mut visitor, set).await;
        login(&mut old, "ada").await;
        assert!(quietly(&mut old, form).await.starts_with("None"));
        let record = site.record(&old).await.unwrap();
        assert!(!holds_any(&record, "guest"), "not even set apart");
    }
}
