//! What a store recognises a commit by that it has applied before.

use crate::change::CommitId;
use crate::key::Key;

/// One commit to one record, as it is remembered.
///
/// The id is random, so folding the record into it keeps one id apart on two records at no cost in size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token(u128);

impl Token {
    pub(super) fn new(key: &Key, id: CommitId) -> Self {
        Self(u128::from_le_bytes(id.to_bytes()) ^ u128::from(key.spread()))
    }

    /// Its bytes, for a store to keep.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    #[cfg(feature = "sqlite")]
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::UserId;

    #[test]
    fn one_id_on_two_records_is_two_commits() {
        let id = CommitId::random();
        let [ada, bob] = ["ada", "bob"].map(|name| Token::new(&Key::User(UserId::new(name)), id));
        assert_ne!(ada, bob);
    }
}
