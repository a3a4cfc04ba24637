//! What an app allows of a field is allowed of what the derives make of it.

#![deny(deprecated, warnings)]

use session_runtime::{Merge, Session};

#[deprecated]
type Cents = u32;

#[derive(Session)]
struct Customer {
    #[allow(deprecated)]
    #[merge(sum)]
    debt: Cents,
    #[expect(deprecated, reason = "until everybody has moved")]
    limit: Option<Cents>,
}

#[allow(deprecated)]
#[derive(Session)]
struct Supplier {
    debt: Cents,
}

#[derive(Merge, PartialEq)]
struct Line {
    #[allow(deprecated)]
    price: Cents,
}

#[test]
fn each_is_a_session() {
    fn is_a_session<S: session_runtime::Schema>() {}
    is_a_session::<Customer>();
    is_a_session::<Supplier>();
    assert!(Line { price: 1 } != Line { price: 2 });
}
