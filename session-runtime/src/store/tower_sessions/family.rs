//! Stores of the family, whatever their version: the two differ in nothing but their types' names, so each is one
//! expansion of one macro.

use std::collections::HashMap;

use serde_json::Value;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::clock::Timestamp;
use crate::store::{Answer, StoreError};

/// The contents of a record of theirs.
pub(crate) type Data = HashMap<String, Value>;

/// A store of the family.
pub(super) trait Family: Send + Sync + 'static {
    fn load(&self, id: i128) -> Answer<'_, Option<Data>>;

    /// Puts this under the id, and returns `true` if there was nothing.
    fn create(&self, id: i128, data: Data, expires: OffsetDateTime) -> Answer<'_, bool>;

    /// Puts this in place of what is under the id.
    fn save(&self, id: i128, data: Data, expires: OffsetDateTime) -> Answer<'_, ()>;
}

macro_rules! version {
    ($version:ident, $core:ident) => {
        pub(super) mod $version {
            use super::*;
            use $core::session::{Id, Record};
            use $core::session_store::{Error, SessionStore};

            /// A store of theirs.
            pub(in super::super) struct Theirs<S>(pub(in super::super) S);

            impl<S: SessionStore> Family for Theirs<S> {
                fn load(&self, id: i128) -> Answer<'_, Option<Data>> {
                    Box::pin(async move {
                        let found = self.0.load(&Id(id)).await.map_err(store_error)?;
                        Ok(found.map(|record| record.data))
                    })
                }

                fn create(
                    &self,
                    id: i128,
                    data: Data,
                    expires: OffsetDateTime,
                ) -> Answer<'_, bool> {
                    Box::pin(async move {
                        let mut record = record(id, data, expires);
                        self.0.create(&mut record).await.map_err(store_error)?;
                        if record.id == Id(id) {
                            return Ok(true);
                        }
                        // Theirs puts it under an id of its own choosing if the one it is given is taken.
                        self.0.delete(&record.id).await.map_err(store_error)?;
                        Ok(false)
                    })
                }

                fn save(&self, id: i128, data: Data, expires: OffsetDateTime) -> Answer<'_, ()> {
                    Box::pin(async move {
                        let record = record(id, data, expires);
                        self.0.save(&record).await.map_err(store_error)
                    })
                }
            }

            fn record(id: i128, data: Data, expiry_date: OffsetDateTime) -> Record {
                Record {
                    id: Id(id),
                    data,
                    expiry_date,
                }
            }

            /// Does not quote what goes wrong with coding: that may show a value.
            fn store_error(error: Error) -> StoreError {
                match error {
                    Error::Backend(text) => StoreError::unavailable(text),
                    Error::Encode(_) => StoreError::broken("it could not encode a record"),
                    Error::Decode(_) => StoreError::broken("it could not decode a record"),
                }
            }
        }
    };
}

version!(v0_14, tower_sessions_core_0_14);
version!(v0_15, tower_sessions_core_0_15);

/// Returns the time as they write it. What is beyond the year 9999 is its end.
pub(crate) fn date(time: Timestamp) -> OffsetDateTime {
    let nanos = i128::from(time.as_millis()) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or_else(|_| {
        if time.as_millis() < 0 {
            PrimitiveDateTime::MIN.assume_utc()
        } else {
            PrimitiveDateTime::MAX.assume_utc()
        }
    })
}

/// Returns the time as we write it: to the millisecond.
pub(crate) fn timestamp(date: OffsetDateTime) -> Timestamp {
    let millis = date.unix_timestamp_nanos().div_euclid(1_000_000);
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_back_to_the_millisecond() {
        for millis in [0, 1, -1, 999, -62_000_000_000_001, 1_793_491_200_123] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(timestamp(date(time)), time);
        }
    }

    #[test]
    fn dates_beyond_the_calendar_stop_at_its_ends() {
        assert_eq!(date(Timestamp::from_millis(i64::MAX)).year(), 9_999);
        assert_eq!(date(Timestamp::from_millis(i64::MIN)).year(), -9_999);
    }
}
