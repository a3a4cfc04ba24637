//! The error of a store that could not do what was asked.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{Cause, Error};
use crate::frame::FrameError;

/// Says why a store could not do what was asked.
///
/// ```
/// use session_runtime::store::StoreError;
///
/// let error = StoreError::unavailable("connection refused");
/// assert!(error.is_transient());
/// assert_eq!(error.to_string(), "the store cannot be reached");
/// ```
#[derive(Debug)]
pub struct StoreError {
    kind: Kind,
    source: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Refused,
    Contended,
    Timeout,
    Full,
    NoPlace,
    Broken,
}

impl StoreError {
    /// Says that the store cannot be reached, or the connection broke. It is not known whether a swap happened; the same
    /// is asked again.
    pub fn unavailable(source: impl Into<Cause>) -> Self {
        Self {
            kind: Kind::Unavailable,
            source: Some(source.into()),
        }
    }

    /// Says that there is no connection to be had, since nobody listens there: nothing was asked, so nothing was written.
    /// The client is told at once.
    pub fn refused(source: impl Into<Cause>) -> Self {
        Self {
            kind: Kind::Refused,
            source: Some(source.into()),
        }
    }

    /// Says that the store did not answer in time. It is not known whether a swap happened; the same is asked again.
    pub fn timeout() -> Self {
        Self {
            kind: Kind::Timeout,
            source: None,
        }
    }

    /// Says that others were in the way, a deadlock for instance. Nothing was written, and the same may be asked again.
    pub fn contended(source: impl Into<Cause>) -> Self {
        Self {
            kind: Kind::Contended,
            source: Some(source.into()),
        }
    }

    /// Says that there is no room. Nothing was written; trying again at once will not help.
    pub fn full(source: impl Into<Cause>) -> Self {
        Self {
            kind: Kind::Full,
            source: Some(source.into()),
        }
    }

    /// Says that a [scan](crate::store::Store::scan) is to go on from what is no place in this store: from a place in another one, say,
    /// or from what somebody has typed into an address.
    pub fn no_place() -> Self {
        Self {
            kind: Kind::NoPlace,
            source: None,
        }
    }

    /// Says what no repeat will mend, such as a table that does not exist or a record that cannot be
    /// read. Nothing was written.
    pub fn broken(source: impl Into<Cause>) -> Self {
        Self {
            kind: Kind::Broken,
            source: Some(source.into()),
        }
    }

    /// Returns `true` if the same call may succeed if it is made again soon.
    pub fn is_transient(&self) -> bool {
        self.is_away() || self.kind == Kind::Contended
    }

    /// Returns `true` if it is not known whether the swap happened that ended so.
    pub fn is_unknown(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Timeout)
    }

    /// Returns `true` if no connection was to be had.
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// Returns `true` if a scan was to go on from what is no place in the store.
    pub fn is_no_place(&self) -> bool {
        self.kind == Kind::NoPlace
    }

    /// Returns `true` if the store does not answer, whatever it is asked.
    pub(crate) fn is_away(&self) -> bool {
        self.is_unknown() || self.is_refused()
    }

    /// Returns `true` if no repeat will mend it.
    pub(crate) fn is_broken(&self) -> bool {
        self.kind == Kind::Broken
    }

    /// Returns what it is counted as.
    pub(crate) fn label(&self) -> &'static str {
        match self.kind {
            Kind::Unavailable => "unavailable",
            Kind::Refused => "refused",
            Kind::Contended => "contended",
            Kind::Timeout => "timeout",
            Kind::Full => "full",
            Kind::NoPlace => "no_place",
            Kind::Broken => "broken",
        }
    }

    /// Returns `true` if the store had no room.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Unavailable => "the store cannot be reached",
            Kind::Refused => "the store takes no connections",
            Kind::Contended => "others were in the way in the store",
            Kind::Timeout => "the store did not answer in time",
            Kind::Full => "the store has no room",
            Kind::NoPlace => "a scan is to go on from what is no place in this store",
            Kind::Broken => "the store cannot do this",
        })
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<FrameError> for StoreError {
    fn from(error: FrameError) -> Self {
        Self::broken(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let is_away = error.is_away();
        match error.kind {
            Kind::Timeout => Self::unanswered(Box::new(error)),
            Kind::Full => Self::full(Box::new(error)),
            Kind::NoPlace => Self::no_place(),
            Kind::Unavailable | Kind::Refused | Kind::Contended | Kind::Broken => {
                Self::unavailable(Box::new(error), is_away)
            }
        }
    }
}
