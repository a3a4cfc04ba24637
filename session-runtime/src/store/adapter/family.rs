//! The two versions of the family's trait. They differ in nothing but their types' names, so each is one
//! expansion of one macro, in both directions.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::{Answer, Store};

use super::offered::{ForTowerSessions, Refusal};

/// What a record of theirs holds.
pub(super) type Data = HashMap<String, Value>;

/// A store of the family, whatever its version.
pub(super) trait Family: fmt::Debug + Send + Sync + 'static {
    fn load(&self, id: i128) -> Answer<'_, Option<Data>>;

    /// Whether there was nothing under the id, so that this is there now.
    fn create(&self, id: i128, data: Data, expires: OffsetDateTime) -> Answer<'_, bool>;

    /// Puts this in place of what is under the id.
    fn save(&self, id: i128, data: Data, expires: OffsetDateTime) -> Answer<'_, ()>;
}

macro_rules! version {
    ($version:ident, $core:ident) => {
        pub(super) mod $version {
            use super::*;
            use $core::session::{Id, Record};
            use $core::session_store::{Error, ExpiredDeletion, Result, SessionStore};

            /// A store of theirs.
            #[derive(Debug)]
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

            /// What goes wrong with coding is not quoted: it may show a value.
            fn store_error(error: Error) -> StoreError {
                match error {
                    Error::Backend(text) => StoreError::unavailable(text),
                    Error::Encode(_) => StoreError::broken("it could not encode a record"),
                    Error::Decode(_) => StoreError::broken("it could not decode a record"),
                }
            }

            #[async_trait]
            impl<S: Store> SessionStore for ForTowerSessions<S> {
                async fn create(&self, record: &mut Record) -> Result<()> {
                    while !self
                        .offer(record.id.0, &record.data, record.expiry_date)
                        .await?
                    {
                        record.id = Id::default();
                    }
                    Ok(())
                }

                async fn save(&self, record: &Record) -> Result<()> {
                    let Record {
                        id,
                        data,
                        expiry_date,
                    } = record;
                    Ok(self.replace(id.0, data, *expiry_date).await?)
                }

                async fn load(&self, id: &Id) -> Result<Option<Record>> {
                    let found = self.find(id.0).await?;
                    Ok(found.map(|(data, expires)| record(id.0, data, expires)))
                }

                async fn delete(&self, id: &Id) -> Result<()> {
                    Ok(self.end(id.0).await?)
                }
            }

            #[async_trait]
            impl<S: Store> ExpiredDeletion for ForTowerSessions<S> {
                async fn delete_expired(&self) -> Result<()> {
                    Ok(self.sweep().await?)
                }
            }

            impl From<Refusal> for Error {
                fn from(refusal: Refusal) -> Self {
                    match refusal {
                        Refusal::Store(text) => Self::Backend(text),
                        Refusal::Encode(text) => Self::Encode(text),
                        Refusal::Decode(text) => Self::Decode(text),
                    }
                }
            }
        }
    };
}

version!(v0_14, tower_sessions_core_0_14);
version!(v0_15, tower_sessions_core_0_15);

/// The time as they write it. What is beyond the year 9999 is its end.
pub(super) fn date(time: Timestamp) -> OffsetDateTime {
    let nanos = i128::from(time.as_millis()) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or_else(|_| {
        if time.as_millis() < 0 {
            PrimitiveDateTime::MIN.assume_utc()
        } else {
            PrimitiveDateTime::MAX.assume_utc()
        }
    })
}

/// The time as we write it: to the millisecond.
pub(super) fn timestamp(date: OffsetDateTime) -> Timestamp {
    let millis = date.unix_timestamp_nanos().div_euclid(1_000_000);
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// That much later than now, by this machine's clock.
pub(super) fn date_in(time: Duration) -> OffsetDateTime {
    date(timestamp(OffsetDateTime::now_utc()) + time)
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
