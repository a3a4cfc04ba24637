//! Structs that merge field by field, and lists that merge item by item.

use std::collections::BTreeMap;

use http::StatusCode;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use session_runtime::{Merge, Occasion, Session, Sides};
use session_tests::{Site, Visitor};

#[derive(Clone, Debug, Merge, PartialEq, Serialize, Deserialize)]
struct Line {
    sku: u8,
    #[merge(sum)]
    quantity: i64,
    #[merge(max)]
    added_at: u8,
}

#[derive(Clone, Debug, Default, Merge, PartialEq, Serialize, Deserialize)]
struct Cart {
    #[merge(by_key = sku)]
    lines: Vec<Line>,
    note: String,
    #[merge(user)]
    currency: String,
    #[merge(with = longest)]
    address: String,
    #[merge(right_precedent)]
    extras: Value,
    #[merge(deep)]
    gift: Option<Gift>,
}

#[derive(Clone, Debug, Merge, PartialEq, Serialize, Deserialize)]
struct Gift {
    #[merge(by_key = 0)]
    ribbons: Vec<Ribbon>,
}

/// Known by its colour. The later writer wins, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ribbon(String, u8);

impl Merge for Ribbon {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        sides.ours
    }
}

fn longest(sides: Sides<String>) -> String {
    let sides = [sides.ours, sides.theirs].map(Option::unwrap_or_default);
    sides
        .into_iter()
        .max_by_key(String::len)
        .unwrap_or_default()
}

fn line(sku: u8, quantity: i64, added_at: u8) -> Line {
    Line {
        sku,
        quantity,
        added_at,
    }
}

fn cart(lines: &[Line]) -> Cart {
    Cart {
        lines: lines.to_vec(),
        ..Cart::default()
    }
}

/// Merges what two requests make of what both have loaded.
fn conflict<T: Merge>(base: T, ours: T, theirs: T) -> Option<T> {
    let sides = Sides::new(Some(base), Some(ours), Some(theirs), Occasion::Conflict);
    T::merge(sides)
}

fn login<T: Merge>(guest: T, user: T) -> Option<T> {
    T::merge(Sides::new(None, Some(guest), Some(user), Occasion::Login))
}

/// Merges the lines of a cart.
fn merged_lines(base: &[Line], ours: &[Line], theirs: &[Line]) -> Vec<Line> {
    let merged = conflict(cart(base), cart(ours), cart(theirs));
    merged.expect("neither side removed the cart").lines
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = (0..4_u8, 1..9_i64, any::<u8>());
    let line = line.prop_map(|(sku, quantity, added_at)| self::line(sku, quantity, added_at));
    prop::collection::vec(line, 0..6)
}

/// No sku is there twice.
fn distinct_lines() -> impl Strategy<Value = Vec<Line>> {
    lines().prop_map(|mut lines| {
        let mut seen = [false; 4];
        lines.retain(|line| !std::mem::replace(&mut seen[usize::from(line.sku)], true));
        lines
    })
}

fn carts() -> impl Strategy<Value = Cart> {
    let texts = || "[a-c]{0,2}";
    let json = prop_oneof![
        Just(json!(null)),
        (0..3).prop_map(|number| json!({ "a": number })),
        texts().prop_map(|text| json!([text])),
    ];
    let gift = prop::option::of(texts().prop_map(|colour| Gift {
        ribbons: vec![Ribbon(colour, 1)],
    }));
    let cart = (lines(), texts(), texts(), texts(), json, gift);
    cart.prop_map(|(lines, note, currency, address, extras, gift)| Cart {
        lines,
        note,
        currency,
        address,
        extras,
        gift,
    })
}

/// `cart`, with those of its fields that `mask` names taken from `other`.
fn mixed(cart: &Cart, other: &Cart, mask: [bool; 6]) -> Cart {
    let of = |at: usize| {
        if mask[at] {
            other.clone()
        } else {
            cart.clone()
        }
    };
    Cart {
        lines: of(0).lines,
        note: of(1).note,
        currency: of(2).currency,
        address: of(3).address,
        extras: of(4).extras,
        gift: of(5).gift,
    }
}

fn by_sku(lines: Vec<Line>) -> BTreeMap<u8, Line> {
    lines.into_iter().map(|line| (line.sku, line)).collect()
}

fn quantity(lines: &[Line]) -> i64 {
    lines.iter().map(|line| line.quantity).sum()
}

proptest! {
    #[test]
    fn a_side_that_left_the_struct_alone_never_counts(base in carts(), other in carts()) {
        prop_assert_eq!(conflict(base.clone(), base.clone(), other.clone()), Some(other.clone()));
        prop_assert_eq!(conflict(base.clone(), other.clone(), base), Some(other));
    }

    #[test]
    fn a_side_that_left_a_field_alone_does_not_count_there(
        base in carts(), other in carts(), mask in any::<[bool; 6]>()
    ) {
        let ours = mixed(&base, &other, mask);
        let theirs = mixed(&base, &other, mask.map(|ours| !ours));
        prop_assert_eq!(conflict(base, ours, theirs), Some(other));
    }

    #[test]
    fn items_of_one_key_merge_as_the_values_of_a_map_do(
        base in distinct_lines(), ours in distinct_lines(), theirs in distinct_lines()
    ) {
        prop_assume!(ours != base && theirs != base);
        let merged = merged_lines(&base, &ours, &theirs);
        let expected = conflict(by_sku(base), by_sku(ours), by_sku(theirs));
        prop_assert_eq!(Some(by_sku(merged)), expected);
    }

    #[test]
    fn their_order_comes_first_and_then_ours(
        base in distinct_lines(), ours in distinct_lines(), theirs in distinct_lines()
    ) {
        prop_assume!(ours != base && theirs != base);
        let merged = merged_lines(&base, &ours, &theirs);
        let skus = |lines: &[Line]| lines.iter().map(|line| line.sku).collect::<Vec<_>>();
        let (merged, theirs) = (skus(&merged), skus(&theirs));
        let new = skus(&ours).into_iter().filter(|sku| !theirs.contains(sku));
        let mut order = theirs.iter().copied().chain(new);
        prop_assert!(merged.iter().all(|sku| order.any(|other| other == *sku)));
    }

    #[test]
    fn of_keys_that_are_there_twice_nothing_is_lost(
        base in lines(), ours in lines(), theirs in lines()
    ) {
        let with = |more: &[Line]| [base.as_slice(), more].concat();
        let (ours, theirs) = (with(&ours), with(&theirs));
        let merged = merged_lines(&base, &ours, &theirs);
        let expected = quantity(&ours) + quantity(&theirs) - quantity(&base);
        prop_assert_eq!(quantity(&merged), expected);
    }

    #[test]
    fn the_quantities_of_lines_come_out_the_same_in_any_order(
        base in distinct_lines(), ours in distinct_lines(), theirs in distinct_lines()
    ) {
        let one = merged_lines(&base, &ours, &theirs);
        let other = merged_lines(&base, &theirs, &ours);
        prop_assert_eq!(by_sku(one), by_sku(other));
    }
}

#[test]
fn a_line_that_one_side_removed_goes_unless_the_other_changed_it() {
    let base = [line(1, 2, 0), line(2, 2, 0), line(3, 2, 0)];
    let ours = [line(2, 2, 0), line(4, 1, 0)]; // 1 and 3 removed, 4 added
    let theirs = [line(3, 5, 0), line(1, 2, 0), line(2, 3, 0)]; // 3 and 2 changed
    let merged = [line(3, 5, 0), line(2, 3, 0), line(4, 1, 0)];
    assert_eq!(merged_lines(&base, &ours, &theirs), merged);
}

#[test]
fn of_keys_that_are_there_twice_the_first_goes_with_the_first() {
    let base = [line(1, 1, 0), line(1, 5, 0)];
    let ours = [line(1, 2, 0), line(1, 5, 0)];
    let theirs = [line(1, 1, 0), line(1, 6, 0)];
    let merged = [line(1, 2, 0), line(1, 6, 0)];
    assert_eq!(merged_lines(&base, &ours, &theirs), merged);
}

#[test]
fn a_change_outlives_a_removal_whichever_came_first() {
    let base = || Some(line(1, 2, 0));
    let sides = |ours, theirs| Sides::new(base(), ours, theirs, Occasion::Conflict);
    let changed = || Some(line(1, 3, 0));
    assert_eq!(Line::merge(sides(changed(), None)), changed());
    assert_eq!(Line::merge(sides(None, changed())), changed());
    assert_eq!(Line::merge(sides(None, None)), None);
}

#[test]
fn at_login_each_field_goes_by_its_rule() {
    let guest = Cart {
        lines: vec![line(1, 2, 9), line(2, 1, 9)],
        note: "guest".to_owned(),
        currency: "EUR".to_owned(),
        address: "at home".to_owned(),
        extras: json!({"wrap": true, "coupon": "new"}),
        gift: None,
    };
    let user = Cart {
        lines: vec![line(3, 1, 5), line(1, 1, 5)],
        note: "user".to_owned(),
        currency: "USD".to_owned(),
        address: "work".to_owned(),
        extras: json!({"coupon": "old", "points": 5}),
        gift: None,
    };
    let merged = Cart {
        lines: vec![line(3, 1, 5), line(1, 3, 9), line(2, 1, 9)],
        note: "guest".to_owned(),
        currency: "USD".to_owned(),
        address: "at home".to_owned(),
        extras: json!({"wrap": true, "coupon": "new", "points": 5}),
        gift: None,
    };
    assert_eq!(login(guest, user), Some(merged));
}

#[test]
fn a_part_that_its_own_merge_removes_takes_the_whole_with_it() {
    #[derive(Clone, Debug, PartialEq)]
    struct Credit(i32);

    impl Merge for Credit {
        fn merge(sides: Sides<Self>) -> Option<Self> {
            let ours = sides.ours.filter(|credit| credit.0 > 0);
            ours.and(sides.theirs).filter(|credit| credit.0 > 0)
        }
    }

    #[derive(Clone, Debug, Merge, PartialEq)]
    struct Account {
        #[merge(deep)]
        credit: Credit,
    }

    let account = |credit| Account {
        credit: Credit(credit),
    };
    assert_eq!(
        conflict(account(1), account(2), account(3)),
        Some(account(3))
    );
    assert_eq!(conflict(account(1), account(2), account(0)), None);
}

#[test]
fn what_is_in_an_option_merges_as_it_would_without() {
    let account = cart(&[line(1, 1, 0)]);
    let other = cart(&[line(1, 2, 0), line(2, 1, 0)]);
    let both = cart(&[line(1, 3, 0), line(2, 1, 0)]);
    let some = |cart: &Cart| Some(cart.clone());
    assert_eq!(login(some(&other), some(&account)), Some(Some(both)));
    assert_eq!(login(None, some(&account)), Some(some(&account)));
    assert_eq!(login(some(&account), None), Some(some(&account)));
    // A change outlives a removal, and where neither has parts the later writer wins.
    assert_eq!(
        conflict(some(&account), None, some(&other)),
        Some(some(&other))
    );
    assert_eq!(conflict(Some(1), None, Some(2)), Some(None));
    assert_eq!(conflict(Some(1), Some(2), None), Some(Some(2)));
    assert_eq!(conflict(Some(1), None, None), Some(None));
}

#[derive(Session)]
struct Shop {
    #[merge(by_key = sku)]
    cart: Vec<Line>,
    #[merge(deep)]
    saved: Cart,
    #[merge(retainment_precedent)]
    extras: Value,
}

#[tokio::test]
async fn two_tabs_that_change_one_line_both_count() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor
        .visit(async |mut session: Session<Shop>| {
            session.cart.set(vec![line(1, 2, 0), line(2, 2, 0)]);
            session.saved.set(cart(&[line(1, 1, 0)]));
            session.extras.set(json!({"a": 1, "b": 1}));
        })
        .await;
    let other = visitor.clone();
    visitor
        .visit(async move |mut session: Session<Shop>| {
            other.clone().visit(earlier).await;
            session.cart.get_mut()[0].quantity += 1;
            session.cart.get_mut().push(line(3, 1, 7));
            session.saved.get_mut().note.push('x');
            session.extras.get_mut()["a"] = json!(2);
        })
        .await;
    let stored = async |field| site.payload(&visitor, field).await.unwrap_or_default();
    let cart: Vec<Line> = serde_json::from_str(&stored("cart").await).unwrap();
    assert_eq!(cart, [line(1, 4, 0), line(3, 1, 7)]);
    let saved: Cart = serde_json::from_str(&stored("saved").await).unwrap();
    assert_eq!((saved.lines[0].quantity, saved.note.as_str()), (5, "x"));
    assert_eq!(stored("extras").await, r#"{"a":2,"b":3}"#);
}

async fn earlier(mut session: Session<Shop>) {
    session.cart.get_mut()[0].quantity += 1;
    session.cart.get_mut().pop();
    session.saved.get_mut().lines[0].quantity = 5;
    session.extras.get_mut()["a"] = json!(3);
    session.extras.get_mut()["b"] = json!(3);
}

/// Votes go down as well as up.
#[derive(Session)]
struct Votes {
    #[merge(sum)]
    votes: BTreeMap<String, i32>,
}

async fn vote(visitor: &mut Visitor, on: &'static str, by: i32) {
    let vote = async move |mut session: Session<Votes>| {
        *session.votes.get_mut().entry(on.to_owned()).or_default() += by;
    };
    assert_eq!(visitor.visit(vote).await.status, StatusCode::OK);
}

async fn votes(visitor: &mut Visitor) -> String {
    let votes = async |session: Session<Votes>| format!("{:?}", session.votes.get());
    visitor.visit(votes).await.body
}

#[tokio::test]
async fn a_number_below_zero_that_nobody_removed_stays() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    vote(&mut visitor, "a", 1).await;
    let mut tab = visitor.clone();
    let both = async move |mut session: Session<Votes>| {
        vote(&mut tab, "b", -1).await;
        session.votes.get_mut().insert("c".to_owned(), -1);
        session.votes.get_mut().insert("d".to_owned(), 0);
    };
    visitor.visit(both).await;
    assert_eq!(
        votes(&mut visitor).await,
        r#"{"a": 1, "b": -1, "c": -1, "d": 0}"#
    );
    let login = async |mut session: Session<Votes>| session.login("ada").await;
    visitor.visit(login).await;
    let mut guest = site.visitor();
    vote(&mut guest, "e", -1).await;
    guest.visit(login).await;
    assert_eq!(
        votes(&mut guest).await,
        r#"{"a": 1, "b": -1, "c": -1, "d": 0, "e": -1}"#
    );
}
