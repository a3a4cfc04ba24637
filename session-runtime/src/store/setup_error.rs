//! The error of a store that could not be set up.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::error::{Cause, Causes};
#[cfg(any(feature = "mysql", feature = "postgres"))]
use crate::store::{StoreError, tries::Fault};

/// Says why a store could not be opened, connected to, or brought up to date. Its message says what to do. It names the
/// file or the server, and never quotes a password.
///
/// `Debug` shows the message and what it came from: that is what a `main` prints which returns it.
pub struct SetupError {
    message: Cow<'static, str>,
    source: Option<Cause>,
}

impl SetupError {
    pub(super) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn because(self, source: impl Into<Cause>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }
}

#[cfg(any(feature = "mysql", feature = "postgres"))]
impl SetupError {
    /// Says what to write instead of a URL's parameter.
    pub(super) fn parameter(name: &str, instead: &str) -> Self {
        Self::new(format!("the URL has a parameter `{name}`: {instead}"))
    }

    /// Says why the certificates of authorities cannot be read.
    #[cfg(any(feature = "mysql-tls", feature = "postgres-tls"))]
    pub(super) fn authorities(why: impl fmt::Display) -> Self {
        Self::new(format!(
            "the certificates of the authorities that the URL goes by cannot be read: {why}"
        ))
    }

    pub(super) fn migration(server: &str, fault: Fault) -> Self {
        Self::new(format!(
            "{server}: the tables could not be made or brought up to date"
        ))
        .because(StoreError::from(fault))
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Causes(self))
    }
}

impl StdError for SetupError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
