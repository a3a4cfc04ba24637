//! Users' records in the app's own table: the very code of the example.

use session_runtime::UserId;
use session_runtime::store::{UserStore, Version};
use tempfile::TempDir;

mod http_members;

#[path = "../../../examples/members/table.rs"]
mod table;

use table::Members;

const ONE: Version = Version::from_bytes([1; 8]);
const TWO: Version = Version::from_bytes([2; 8]);

fn ada() -> UserId {
    UserId::from("ada")
}

async fn replace(
    members: &Members,
    before: Option<Version>,
    after: Version,
    record: &[u8],
) -> bool {
    let user = ada();
    let replaced = members.replace(&user, before, after, record.to_vec());
    replaced.await.expect("an answer")
}

async fn column(members: &Members) -> Option<Vec<u8>> {
    members.load(&ada()).await.expect("an answer")
}

async fn open(folder: &TempDir) -> Members {
    let members = Members::open(folder.path().join("db")).expect("a file");
    members.join("ada").await.expect("an answer");
    members
}

#[tokio::test]
async fn a_row_takes_a_record_in_place_of_the_version_that_is_there() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let members = open(&folder).await;
    assert_eq!(column(&members).await, None);
    assert!(!replace(&members, Some(ONE), TWO, b"x").await);
    assert!(replace(&members, None, ONE, b"a\0\xff").await);
    assert_eq!(column(&members).await.as_deref(), Some(&b"a\0\xff"[..]));
    for before in [None, Some(TWO)] {
        assert!(!replace(&members, before, TWO, b"x").await);
    }
    assert!(replace(&members, Some(ONE), TWO, b"b").await);
    let other = open(&folder).await;
    assert_eq!(column(&other).await.as_deref(), Some(&b"b"[..]));
}

#[tokio::test]
async fn a_member_who_has_left_has_no_row_to_write_to() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let members = open(&folder).await;
    assert!(replace(&members, None, ONE, b"a").await);
    assert!(members.leave("ada").await.expect("an answer"));
    for before in [None, Some(ONE)] {
        assert!(!replace(&members, before, TWO, b"b").await);
    }
    assert_eq!(column(&members).await, None);
}
