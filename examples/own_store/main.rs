//! A store of one's own, for a database that the library has no store for: `store.rs`, some sixty lines.
//!
//! ```sh
//! cargo run -p session-examples --example own_store
//! ```
//!
//! `tests/stores/own_store` runs the conformance suite over it, as you should over yours.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use session_runtime::store::{Record, Slot, Store, Swapped};
use session_runtime::{Clock, Key, SessionId, SystemClock};

mod store;

use store::OwnStore;

/// Does by hand what `SessionLayer::new(store)` does for an app: creates a session, changes it, and is too late once.
#[expect(clippy::print_stdout, reason = "it shows what is kept")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = SystemClock::default();
    let store = OwnStore::new(Connection::open_in_memory()?, clock)?;
    let key = Key::from(&SessionId::generate()?);

    let expires = clock.now() + Duration::from_secs(2 * 60 * 60);
    let cart = |apples: u32| Arc::new(Slot::new("cart", format!(r#"{{"apple":{apples}}}"#), None));
    let first = Arc::new(Record::new(clock.now(), expires).with_slots([cart(1)]));
    assert_eq!(store.swap(&key, None, &first).await?, Swapped::Done);

    let second = Arc::new(first.next().with_slots([cart(2)]));
    assert_eq!(
        store.swap(&key, Some(&first), &second).await?,
        Swapped::Done
    );

    // Another request has loaded the first one, too. It learns what is there now, and begins with that.
    let late = Arc::new(first.next().with_slots([cart(9)]));
    let Swapped::Stale(Some(there)) = store.swap(&key, Some(&first), &late).await? else {
        return Err("a swap of what is no longer there was done".into());
    };
    assert_eq!(there, second);
    println!(
        "the cart is {:?}",
        there.slot("cart").map(|slot| slot.payload())
    );
    Ok(())
}
