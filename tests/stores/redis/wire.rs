//! What a store sends: commands, round trips and bytes; and what its server keeps.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use session_runtime::store::{Record, RedisStore, Slot, Store, Swapped};
use session_runtime::{Key, Session, Timestamp, UserId};
use session_tests::{PATIENCE, Proxy, RedisCluster, RedisServer, Site};

use super::{
    TTL, calls, create, expiring, load, name, next, now, put, record, session_key, slot, tombstone,
    without,
};

#[derive(Session)]
struct Shop {
    points: u32,
}

/// A server behind a proxy that counts, and a store that goes through it.
async fn counted(server: &RedisServer) -> (Proxy, RedisStore) {
    let proxy = Proxy::open(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let url = format!("redis://{}", proxy.address());
    let options = RedisStore::options().prefix("counted:");
    let store = options.timeout(PATIENCE).connect(&url).await;
    let store = store.expect("the server answers");
    proxy.traffic();
    (proxy, store)
}

#[tokio::test]
async fn a_load_is_one_round_trip_and_so_is_a_swap() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (proxy, store) = counted(server).await;
    let key = session_key();
    let created = record([slot("a", "1"), slot("large", vec![b'x'; 4 << 10])]);
    let changed = next(&created, [slot("b", "1")]);
    let extended = expiring(&changed, now() + 2 * TTL);
    let smaller = without(&extended, "large");
    let ended = tombstone(&smaller);
    let mut before = None;
    for after in [&created, &changed, &extended, &smaller, &ended] {
        put(&store, &key, before, after).await;
        assert_eq!(proxy.traffic().round_trips, 1);
        assert_eq!(load(&store, &key).await, *after);
        assert_eq!(proxy.traffic().round_trips, 1, "a load");
        // One that is late learns what is there in the same round trip.
        let late = store.swap(&key, before, &created).await;
        assert_eq!(late.unwrap(), Swapped::Stale(Some(after.clone())));
        assert_eq!(proxy.traffic().round_trips, 1, "a stale one");
        before = Some(after);
    }
}

#[tokio::test]
async fn a_swap_has_the_server_compare_and_write_once() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = server.store().await;
    let (key, before) = create(&store, [slot("a", "1")]).await;
    let commands = ["hget", "hset", "hdel", "pexpire", "exists", "hgetall"];
    let counts = || commands.map(|command| calls(&server, command));
    let run = async |before, after| {
        let earlier = counts();
        put(&store, &key, Some(before), after).await;
        let later = counts();
        std::array::from_fn::<_, 6, _>(|n| later[n] - earlier[n])
    };
    let changed = next(&before, [slot("a", "2")]);
    assert_eq!(run(&before, &changed).await, [1, 1, 0, 0, 0, 0]);
    let extended = expiring(&changed, now() + 2 * TTL);
    assert_eq!(run(&changed, &extended).await, [1, 1, 0, 1, 0, 0]);
    let larger = next(&extended, [slot("b", vec![b'x'; 300])]);
    assert_eq!(run(&extended, &larger).await, [1, 1, 0, 0, 0, 0]);
    let smaller = without(&larger, "b");
    assert_eq!(run(&larger, &smaller).await, [1, 1, 1, 0, 0, 0]);
}

#[tokio::test]
async fn changing_a_small_field_of_64_kib_sends_290_bytes_and_brings_4() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let (proxy, store) = counted(server).await;
    let large = slot("large", vec![b'x'; 64 << 10]);
    let (key, before) = create(&store, [large, slot("small", "1")]).await;
    let after = next(&before, [slot("small", "2")]);
    proxy.traffic();
    put(&store, &key, Some(&before), &after).await;
    let traffic = proxy.traffic();
    assert_eq!((traffic.up, traffic.down), (290, 4));

    // With all that a record remembers, and the expiry.
    let mut before = after;
    for n in 0..16 {
        let after = next(&before, [slot("small", n.to_string())]);
        put(&store, &key, Some(&before), &after).await;
        before = after;
    }
    let after = expiring(&before, now() + 2 * TTL);
    proxy.traffic();
    put(&store, &key, Some(&before), &after).await;
    let traffic = proxy.traffic();
    assert_eq!((traffic.up, traffic.down), (425, 4));
}

#[tokio::test]
async fn a_session_of_two_small_fields_takes_half_a_kib() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    let fields = [
        slot("cart", r#"{"anchor-lamp":1}"#),
        slot("theme", r#""dark""#),
    ];
    let (key, mut before) = create(&store, fields).await;
    let used = |key| -> u64 { server.command(&["MEMORY", "USAGE", &name(&store, key)]) };
    let created = used(&key);
    assert!(created <= 384, "{created}");
    for n in 0..16 {
        let after = next(&before, [slot("cart", format!(r#"{{"anchor-lamp":{n}}}"#))]);
        put(&store, &key, Some(&before), &after).await;
        before = after;
    }
    let full = used(&key);
    // A secret and an address, which only a request gives it, take some 60 bytes; a user agent a hundred or two.
    assert!(full <= 512, "{created} {full}");
    for n in 0..100 {
        let after = next(&before, [slot("cart", format!(r#"{{"anchor-lamp":{n}}}"#))]);
        put(&store, &key, Some(&before), &after).await;
        before = after;
    }
    assert_eq!(used(&key), full, "nothing grows with the number of writes");
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_script_is_sent_it_once() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (proxy, store) = counted(&server).await;
    let (key, created) = create(&store, []).await;
    let () = server.command(&["SCRIPT", "FLUSH"]);
    proxy.traffic();
    let one = next(&created, [slot("a", "1")]);
    put(&store, &key, Some(&created), &one).await;
    assert_eq!(proxy.traffic().round_trips, 2);
    let two = next(&one, [slot("b", "1")]);
    put(&store, &key, Some(&one), &two).await;
    assert_eq!(proxy.traffic().round_trips, 1);
    let ended = tombstone(&two);
    put(&store, &key, Some(&two), &ended).await;
    assert_eq!(proxy.traffic().round_trips, 2, "the other of the two");
}

#[tokio::test]
async fn a_cluster_that_has_forgotten_the_script_is_sent_it() {
    let Some(cluster) = RedisCluster::shared() else {
        return;
    };
    let store = cluster.store().await;
    let (key, created) = create(&store, []).await;
    for node in cluster.nodes() {
        let () = node.command(&["SCRIPT", "FLUSH"]);
    }
    let after = next(&created, [slot("a", "1")]);
    put(&store, &key, Some(&created), &after).await;
}

#[tokio::test]
async fn a_record_expires_on_the_server_too_ten_minutes_later() {
    const KEPT: i64 = 600;
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    let ttl = |key: &Key| -> i64 { server.command(&["PTTL", &name(&store, key)]) };
    // What has passed since, at most, and what the server's clock may be off.
    let begun = now();
    let near = |ttl: i64, seconds: i64| {
        let passed = now().as_millis() - begun.as_millis() + 1_000;
        (-1_000..=passed).contains(&(seconds * 1_000 - ttl))
    };

    let (key, created) = create(&store, []).await;
    assert!(near(ttl(&key), 7_200 + KEPT), "{}", ttl(&key));
    let same = next(&created, [slot("a", "1")]);
    put(&store, &key, Some(&created), &same).await;
    assert!(near(ttl(&key), 7_200 + KEPT), "{}", ttl(&key));
    let shorter = expiring(&same, same.seen());
    put(&store, &key, Some(&same), &shorter).await;
    assert!(near(ttl(&key), KEPT), "{}", ttl(&key));
    let longer = expiring(&shorter, same.seen() + 3 * TTL);
    put(&store, &key, Some(&shorter), &longer).await;
    assert!(near(ttl(&key), 3 * 7_200 + KEPT), "{}", ttl(&key));
    let ended = tombstone(&longer);
    put(&store, &key, Some(&longer), &ended).await;
    assert!(near(ttl(&key), 86_400 + KEPT), "{}", ttl(&key));

    let user = Key::User(UserId::new("ada"));
    let forever = Timestamp::from_millis(i64::MAX);
    let created = std::sync::Arc::new(Record::new(now(), forever));
    put(&store, &user, None, &created).await;
    assert_eq!(ttl(&user), -1, "it has none");
    let mortal = expiring(&created, created.seen() + TTL);
    put(&store, &user, Some(&created), &mortal).await;
    assert!(near(ttl(&user), 7_200 + KEPT), "{}", ttl(&user));
    let immortal = expiring(&mortal, forever);
    put(&store, &user, Some(&mortal), &immortal).await;
    assert_eq!(ttl(&user), -1, "it has none again");
}

#[tokio::test]
async fn what_is_left_is_counted_by_the_apps_clock_and_not_by_the_servers() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    for app in [0, 4_000_000_000_000] {
        let (key, app) = (session_key(), Timestamp::from_millis(app));
        let record = std::sync::Arc::new(Record::new(app, app + TTL));
        put(&store, &key, None, &record).await;
        let ttl: u64 = server.command(&["PTTL", &name(&store, &key)]);
        let ttl = Duration::from_millis(ttl);
        assert!(
            ttl > TTL && ttl <= TTL + Duration::from_secs(600),
            "{ttl:?}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_while_has_no_session_dropped_before_its_time() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    let site = Site::new(|_| store.clone());
    let mut visitor = site.visitor();
    let add_one = async |mut session: Session<Shop>| *session.points.get_mut() += 1;
    visitor.visit(add_one).await;
    site.clock.step_forward(TTL / 2);
    visitor.visit(add_one).await;
    site.clock.step_back(TTL / 2);
    site.clock.advance(TTL / 4);
    visitor.visit(add_one).await;
    let left: u64 = server.command(&["PTTL", &name(&store, &visitor.key())]);
    assert!(left > TTL.as_secs() * 1_000, "{left}");
}

#[tokio::test]
async fn a_record_of_ten_thousand_slots_is_swapped_whole() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    let slots = |payload: &'static str| {
        (0..10_000).map(move |n| std::sync::Arc::new(Slot::new(format!("s{n}"), payload, None)))
    };
    let (key, created) = create(&store, slots("1")).await;
    assert_eq!(load(&store, &key).await, created);
    let changed = next(&created, slots("2"));
    put(&store, &key, Some(&created), &changed).await;
    assert_eq!(load(&store, &key).await, changed);
    let ended = tombstone(&changed);
    put(&store, &key, Some(&changed), &ended).await;
    let fields: u64 = server.command(&["HLEN", &name(&store, &key)]);
    assert_eq!(fields, 2);
    assert_eq!(load(&store, &key).await, ended);
}

#[tokio::test]
async fn what_stands_beside_the_head_can_be_read_as_it_is() {
    let Some(server) = RedisServer::shared() else {
        return;
    };
    let store = server.store().await;
    let text = format!(r#"{{"note":"{}"}}"#, "x".repeat(300));
    let (key, _) = create(&store, [slot("draft", text.as_bytes())]).await;
    let found: String = server.command(&["HGET", &name(&store, &key), "=draft"]);
    assert_eq!(found, text);
}
