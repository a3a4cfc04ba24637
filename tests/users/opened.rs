//! Sessions that are opened by their id, outside of a request.

use session_runtime::{Saved, Session, SessionId};
use session_tests::customers::{
    NOTHING, Shop, add, ask, gather, guest, login, logout, rotate, shown, user,
};
use session_tests::{Site, Visitor, on_a_cache, on_each_store};

use super::stored::{DAY, HOUR, MINUTE, account, load};

on_each_store!(
    a_session_is_read_and_changed_by_its_id_by_the_same_rules,
    an_id_that_opens_nothing_opens_nothing_outside_of_a_request_either,
    clearing_flashes_keeps_what_was_changed,
    nothing_is_written_once_the_session_has_ended,
    no_id_is_made_and_none_is_taken_for_presented,
);

on_a_cache!(an_id_that_opens_nothing_opens_nothing_outside_of_a_request_either);

fn id(visitor: &Visitor) -> SessionId {
    SessionId::parse(visitor.id().as_bytes()).expect("an id")
}

async fn open(site: &Site, id: SessionId) -> Option<Session<Shop>> {
    let opened = site.layer.sessions().open(id).await;
    opened.expect("the store answers")
}

async fn a_session_is_read_and_changed_by_its_id_by_the_same_rules(site: Site) {
    for is_user in [false, true] {
        let mut visitor = guest(&site, &[1]).await;
        if is_user {
            login(&mut visitor, "ada").await;
        }
        let mut session = open(&site, id(&visitor)).await.unwrap();
        assert_eq!(
            (session.theme.get().as_str(), &**session.seen.get()),
            ("dark", &[1][..])
        );
        assert_eq!(session.user().is_some(), is_user);
        add(&mut session, 2);
        session.theme.set("light".to_owned());
        gather(&mut visitor, 4).await;
        assert_eq!(session.save().await.unwrap(), Saved::Written);
        assert_eq!(&**session.seen.get(), [1, 4, 2]);
        let seen = ask(&mut visitor, shown).await;
        assert!(seen.ends_with("[1, 4, 2] 7 light"), "{seen}");
        assert_eq!(session.save().await.unwrap(), Saved::Unchanged);
    }

    // What is saved counts as use, what is read does not.
    let mut visitor = guest(&site, &[1]).await;
    site.clock.advance(HOUR);
    drop(open(&site, id(&visitor)).await.unwrap());
    let mut session = open(&site, id(&visitor)).await.unwrap();
    session.save().await.unwrap();
    site.clock.advance(HOUR + MINUTE);
    assert_eq!(ask(&mut visitor, shown).await, "guest [1] 1 dark");
}

async fn an_id_that_opens_nothing_opens_nothing_outside_of_a_request_either(site: Site) {
    assert!(open(&site, SessionId::generate().unwrap()).await.is_none());
    let mut phone = guest(&site, &[1]).await;
    let before = id(&phone);
    login(&mut phone, "ada").await;
    assert!(open(&site, before).await.is_none(), "superseded");
    let now = id(&phone);
    assert!(open(&site, now).await.is_some());
    let forged = format!("{}{}", &now.expose()[..16], "0".repeat(32));
    assert!(
        open(&site, SessionId::parse(forged.as_bytes()).unwrap())
            .await
            .is_none()
    );
    site.layer.sessions().revoke_all("ada").await.unwrap();
    assert!(open(&site, now).await.is_none(), "revoked");
    let mut desk = user(&site, "ada", &[]).await;
    let desks = id(&desk);
    ask(&mut desk, logout).await;
    assert!(open(&site, desks).await.is_none(), "logged out");
    let idle = user(&site, "ada", &[]).await;
    site.clock.advance(DAY);
    assert!(open(&site, id(&idle)).await.is_none(), "expired");
}

async fn clearing_flashes_keeps_what_was_changed(site: Site) {
    let mut visitor = guest(&site, &[1]).await;
    let note = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    visitor.visit(note).await;
    let mut session = open(&site, id(&visitor)).await.unwrap();
    add(&mut session, 2);
    session.clear_flashes();
    assert_eq!(session.notice.peek(), &None);
    assert_eq!(session.save().await.unwrap(), Saved::Written);
    assert_eq!(ask(&mut visitor, shown).await, "guest [1, 2] 3 dark");
    let notice = async |session: Session<Shop>| format!("{:?}", session.notice.peek());
    assert_eq!(visitor.visit(notice).await.body, "None");
}

async fn nothing_is_written_once_the_session_has_ended(site: Site) {
    let phone = user(&site, "ada", &[1]).await;
    let mut session = open(&site, id(&phone)).await.unwrap();
    add(&mut session, 2);
    session.theme.set("dark".to_owned());
    site.layer.sessions().revoke_all("ada").await.unwrap();
    assert_eq!(session.save().await.unwrap(), Saved::Ended);
    assert_eq!(account(&site, "ada").await, "[1] 1");

    let mut desk = user(&site, "ada", &[]).await;
    let mut session = open(&site, id(&desk)).await.unwrap();
    add(&mut session, 4);
    session.logout().await.unwrap();
    assert_eq!(account(&site, "ada").await, "[1,4] 5");
    assert_eq!(ask(&mut desk, shown).await, NOTHING);
    session.theme.set("dark".to_owned());
    assert!(session.save().await.is_err(), "no session begins");
}

async fn no_id_is_made_and_none_is_taken_for_presented(site: Site) {
    let mut phone = guest(&site, &[1]).await;
    ask(&mut phone, shown).await;
    let mut old = phone.clone();
    ask(&mut phone, rotate).await;
    let key = phone.key();
    let before = load(&site, &key).await.unwrap();
    let mut session = open(&site, id(&phone)).await.unwrap();
    add(&mut session, 2);
    session.save().await.unwrap();
    assert!(session.rotate().await.is_err() && session.login("ada").await.is_err());
    let after = load(&site, &key).await.unwrap();
    assert_ne!(before.version(), after.version());
    // The browser may never have had the new id: the old one stays good.
    site.clock.advance(HOUR);
    assert_eq!(ask(&mut old, shown).await, "guest [1, 2] 3 dark");
    assert_eq!(id(&phone).expose(), phone.id());
}
