//! Rules: how each field merges at a login.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use session_runtime::Session;
use session_tests::customers::{ask, quietly};
use session_tests::{Site, on_each_store};

use super::stored::{holds_any, load_user};

on_each_store!(
    each_field_is_merged_by_its_rule_and_an_untouched_one_overwrites_nothing,
    a_rule_for_the_whole_struct_merges_as_per_user_did,
);

type Amounts = BTreeMap<String, u32>;

#[derive(Session)]
struct Rules {
    plain: u32,
    #[flash]
    flash: Option<u32>,
    #[merge(reject)]
    reject: u32,
    #[merge(sum, browser)]
    browser: u32,
    #[session(guest)]
    alone: u32,
    #[merge(user)]
    user: u32,
    #[merge(guest)]
    guest: u32,
    #[merge(append)]
    append: Vec<u32>,
    #[merge(union)]
    union: BTreeSet<u32>,
    #[merge(sum)]
    sum: u32,
    #[merge(sum)]
    sums: Amounts,
    #[merge(max)]
    max: u32,
    #[merge(min)]
    min: u32,
    #[merge(deep)]
    deep: BTreeMap<String, Amounts>,
    #[merge(with = both)]
    with: String,
}

fn both(sides: session_runtime::Sides<String>) -> String {
    assert!(sides.base.is_none(), "nothing is the base at login");
    let [theirs, ours] = [sides.theirs, sides.ours].map(Option::unwrap_or_default);
    format!("{theirs}+{ours}")
}

/// Sets every field of `Rules`, given one number.
fn values(number: u32) -> Rules {
    let amounts: Amounts = [("both".to_owned(), number), (format!("{number}"), number)].into();
    Rules {
        plain: number,
        flash: Some(number),
        reject: number,
        browser: number,
        alone: number,
        user: number,
        guest: number,
        append: vec![0, number],
        union: [0, number].into(),
        sum: number,
        sums: amounts.clone(),
        max: number,
        min: number,
        deep: [("all".to_owned(), amounts)].into(),
        with: number.to_string(),
    }
}

async fn every_field(session: Session<Rules>) -> String {
    format!(
        "plain {} flash {:?} reject {} browser {} alone {} user {} guest {} append {:?} union {:?} sum {} \
         sums {:?} max {} min {} deep {:?} with {}",
        session.plain.get(),
        session.flash.peek(),
        session.reject.get(),
        session.browser.get(),
        session.alone.get(),
        session.user.get(),
        session.guest.get(),
        session.append.get(),
        session.union.get(),
        session.sum.get(),
        session.sums.get(),
        session.max.get(),
        session.min.get(),
        session.deep.get(),
        session.with.get(),
    )
}

async fn each_field_is_merged_by_its_rule_and_an_untouched_one_overwrites_nothing(site: Site) {
    let set = |number| async move |mut session: Session<Rules>| session.assign(values(number));
    let enter = async |mut session: Session<Rules>| session.login("ada").await;

    // The first login finds no account: all is the guest's.
    let mut first = site.visitor();
    first.visit(set(5)).await;
    assert_eq!(first.visit(enter).await.set_cookies().len(), 1);
    let fives = "user 5 guest 5 append [0, 5] union {0, 5} sum 5 sums {\"5\": 5, \"both\": 5} max 5 \
                 min 5 deep {\"all\": {\"5\": 5, \"both\": 5}} with 5";
    let with_the_browser = "plain 5 flash Some(5) reject 5 browser 5 alone 0";
    assert_eq!(
        quietly(&mut first, every_field).await,
        format!("{with_the_browser} {fives}")
    );

    // A guest who has touched nothing of it overwrites nothing.
    let mut second = site.visitor();
    let plain = async |mut session: Session<Rules>| {
        session.plain.set(9);
        session.sum.get_mut();
        session.guest.get_mut();
    };
    second.visit(plain).await;
    assert_eq!(second.visit(enter).await.set_cookies().len(), 1);
    assert_eq!(
        quietly(&mut second, every_field).await,
        format!("plain 9 flash None reject 0 browser 0 alone 0 {fives}")
    );

    // Where both have something, the rule decides.
    let mut third = site.visitor();
    third.visit(set(3)).await;
    assert_eq!(third.visit(enter).await.set_cookies().len(), 1);
    assert_eq!(
        quietly(&mut third, every_field).await,
        "plain 3 flash Some(3) reject 3 browser 3 alone 0 user 5 guest 3 append [0, 5, 0, 3] union {0, 3, 5} sum 8 \
         sums {\"3\": 3, \"5\": 5, \"both\": 8} max 5 min 3 deep {\"all\": {\"3\": 3, \"5\": 5, \"both\": 3}} \
         with 5+3"
    );
    let stored = load_user(&site, "ada").await.unwrap();
    for name in ["plain", "flash", "reject", "browser", "alone"] {
        assert!(!holds_any(&stored, name), "{name} is never migrated");
    }
}

/// A session whose every field merges as in Catalyst by `PerUser`.
#[derive(Session)]
#[session(merge = right_precedent)]
struct Loose {
    scalar: serde_json::Value,
    hash: serde_json::Value,
    list: serde_json::Value,
    mixed: serde_json::Value,
}

async fn a_rule_for_the_whole_struct_merges_as_per_user_did(site: Site) {
    use serde_json::json;
    let enter = async |mut session: Session<Loose>| session.login("ada").await;
    let loose = async |session: Session<Loose>| {
        let [scalar, hash, list, mixed] = [
            &session.scalar,
            &session.hash,
            &session.list,
            &session.mixed,
        ]
        .map(session_runtime::Field::get);
        json!([scalar, hash, list, mixed]).to_string()
    };
    let mut first = site.visitor();
    let of_the_user = async |mut session: Session<Loose>| {
        session.assign(Loose {
            scalar: json!("user"),
            hash: json!({"a": 1, "deep": {"x": 1, "y": [1], "z": {"p": 1}}, "only": "user"}),
            list: json!([1, 2]),
            mixed: json!([1, {"k": 2}]),
        });
    };
    first.visit(of_the_user).await;
    assert_eq!(first.visit(enter).await.status, StatusCode::OK);

    // A guest who has nothing overwrites nothing.
    let mut second = site.visitor();
    assert_eq!(second.visit(enter).await.status, StatusCode::OK);
    let of_the_user = ask(&mut first, loose).await;
    assert_eq!(ask(&mut second, loose).await, of_the_user);

    // Where both have something the guest's is right: it precedes, hash by hash.
    let mut third = site.visitor();
    let of_the_guest = async |mut session: Session<Loose>| {
        session.assign(Loose {
            scalar: json!("guest"),
            hash: json!({"a": 2, "deep": {"x": 3, "y": [4], "z": {"q": 5}}, "new": "guest"}),
            list: json!([2, 3]),
            mixed: json!({"k": 7}),
        });
    };
    third.visit(of_the_guest).await;
    assert_eq!(third.visit(enter).await.status, StatusCode::OK);
    let merged = json!([
        "guest",
        {
            "a": 2,
            "deep": {"x": 3, "y": [1, 4], "z": {"p": 1, "q": 5}},
            "new": "guest",
            "only": "user",
        },
        [1, 2, 2, 3],
        {"k": 7},
    ]);
    for browser in [&mut first, &mut second, &mut third] {
        let seen: serde_json::Value = serde_json::from_str(&ask(browser, loose).await).unwrap();
        assert_eq!(seen, merged);
    }
}
