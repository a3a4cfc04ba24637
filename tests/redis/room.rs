//! A server that is full, or that throws records out.

use std::sync::Arc;

use session_runtime::store::{RedisStore, Store, StoreError};
use session_runtime::{
    Change, Committed, Ended, Error, Expiry, Key, Kind, Session, SessionLayer, SlotChange, State,
    Timestamp, UserId,
};
use session_tests::{RedisServer, Visitor};

use super::common::{TTL, apply, creation, end, session_key, slot, update};
use super::{new, now};

/// Creates sessions of 32 KiB until that is refused, or there are `most`.
async fn fill(store: &RedisStore, most: usize) -> (Vec<Key>, Option<StoreError>) {
    let large = [slot("large", vec![b'x'; 32 << 10]), slot("small", "1")];
    let mut keys = Vec::new();
    while keys.len() < most {
        let key = session_key();
        match store.commit(&key, &creation(now(), &large)).await {
            Ok(committed) => assert_eq!(committed, Committed::Applied),
            Err(error) => return (keys, Some(error)),
        }
        keys.push(key);
    }
    (keys, None)
}

#[tokio::test]
async fn a_full_server_refuses_what_takes_room_and_does_the_rest() {
    let Some(server) = RedisServer::start(&["--maxmemory", "8mb"]) else {
        return;
    };
    let store = server.store().await;
    let (keys, error) = fill(&store, 1_000).await;
    let error = error.expect("it is full");
    assert!(error.is_full() && !error.is_transient(), "{error:?}");
    // Full for what is smaller, too.
    let () = server.command(&["CONFIG", "SET", "maxmemory", "7mb"]);
    let key = &keys[0];
    let record = store.load(key).await.expect("a load goes on").expect("it");
    let small = record.slot("small").cloned();

    let refused = [
        update(now(), [new("new", "1")]),
        Change::new(Kind::Claim(UserId::new("ada")), now()),
        Change {
            owner: Some(UserId::new("ada")),
            ..update(now(), [])
        },
    ];
    for change in refused {
        let error = store.commit(key, &change).await.expect_err("no room");
        assert!(error.is_full(), "{error:?}");
    }
    assert_eq!(store.load(key).await.unwrap().unwrap(), record);

    let touch = Change {
        expiry: Expiry::Extend(now() + 2 * TTL),
        ..update(now(), [])
    };
    apply(&store, key, &touch).await;
    let other = Arc::new(slot("small", "2"));
    let same_size = SlotChange::set(small, Arc::clone(&other));
    apply(&store, key, &update(now(), [same_size])).await;
    let small = SlotChange::drop(other);
    apply(&store, key, &update(now(), [small])).await;
    for key in &keys {
        apply(&store, key, &end(now())).await;
        let record = store.load(key).await.unwrap().unwrap();
        assert_eq!(record.state, State::Ended(Ended::Revoked));
    }
    let (_, error) = fill(&store, keys.len() / 2).await;
    assert!(error.is_none(), "there is room again: {error:?}");
}

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
}

async fn log_in(mut session: Session<Shop>) -> Result<(), Error> {
    *session.points.get_mut() += 1;
    session.login("ada").await
}

#[tokio::test]
async fn on_a_full_server_a_user_can_be_logged_out_everywhere() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (layer, ada) = (SessionLayer::new(server.store().await), UserId::new("ada"));
    for _ in 0..3 {
        Visitor::of(layer.clone()).visit(log_in).await;
    }
    let () = server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let sessions = layer.sessions();
    let devices = sessions.list(&ada).await.expect("a load goes on");
    let others = sessions.revoke_others(&ada, devices[0].id()).await;
    assert_eq!(others.expect("it takes no room"), 2);
    assert_eq!(sessions.revoke_all(&ada).await.unwrap(), 1);
}

#[tokio::test]
async fn an_evicted_session_is_over_and_no_user_is_evicted() {
    let options = ["--maxmemory", "8mb", "--maxmemory-policy", "volatile-lru"];
    let Some(server) = RedisServer::start(&options) else {
        return;
    };
    let store = server.store().await;
    let users: Vec<_> = (0..50_u64).map(|n| Key::User(UserId::from(n))).collect();
    for user in &users {
        let forever = Change {
            expiry: Expiry::Set(Timestamp::from_millis(i64::MAX)),
            ..creation(now(), &[slot("cart", "1")])
        };
        apply(&store, user, &forever).await;
    }
    let (keys, error) = fill(&store, 1_000).await;
    assert!(error.is_none(), "{error:?}");
    let mut evicted = 0;
    for key in &keys {
        if store.load(key).await.unwrap().is_some() {
            continue;
        }
        evicted += 1;
        let base = Some(Arc::new(slot("small", "1")));
        let set = SlotChange::set(base, Arc::new(slot("small", "2")));
        for change in [update(now(), [set]), update(now(), []), end(now())] {
            let committed = store.commit(key, &change).await.expect("an answer");
            assert_eq!(committed, Committed::Gone);
        }
        assert!(store.load(key).await.unwrap().is_none(), "it stays away");
    }
    assert!(evicted > 500, "{evicted} of {} were evicted", keys.len());
    for user in &users {
        assert!(store.load(user).await.unwrap().is_some());
    }
}
