//! What can go wrong, for the app, for whoever calls it, and for whoever operates it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use axum_core::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use crate::observe;

pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// Says why a session could not be loaded or written.
///
/// As a response it says nothing of the cause; that goes to the log, and is in
/// [`source`](StdError::source). Middleware finds the error itself among the response's extensions. A 503 says
/// `Retry-After: 1`.
///
/// ```
/// use session_runtime::{Error, Session};
///
/// # use session_runtime::Session as _;
/// #[derive(session_runtime::Session)]
/// struct Shop {
///     cart: Vec<String>,
/// }
///
/// async fn pay(mut session: Session<Shop>) -> Result<&'static str, Error> {
///     session.cart.clear();
///     session.save().await?; // an `Error` is a response
///     Ok("paid")
/// }
/// # let _ = pay;
/// ```
#[derive(Clone, Debug)]
pub struct Error(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    source: Option<Cause>,
    /// Set if it is of an outage, of which the log tells already.
    is_known: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    MissingLayer,
    /// The layers answer for other structs.
    OnlyFor {
        named: String,
        /// What is asked for, and what to do.
        advice: String,
    },
    Unavailable,
    Timeout,
    Full,
    Unsettled,
    Rejected {
        field: String,
    },
    TooLarge {
        what: String,
        size: usize,
        limit: usize,
        /// What may help.
        advice: &'static str,
    },
    Encode {
        field: String,
    },
    Undecodable {
        field: String,
    },
    UserName {
        size: usize,
        limit: usize,
    },
    /// The app could not say what a user is logged in by.
    NoFingerprint,
    /// Changed where there is no browser.
    OfBrowser {
        field: String,
    },
    /// Two structs store something under one name.
    ClaimedTwice {
        field: String,
        /// Each struct, and what the field is kept as there.
        sides: [(&'static str, String); 2],
    },
    /// Browsers would refuse the cookie, by what the app says of it.
    Refused {
        says: &'static str,
        refusal: String,
    },
    Random,
    TooLate,
    /// The response took along what was changed beside it, and came to nothing.
    Dropped,
    /// All sessions are to be listed from where there is nothing.
    NoPlace,
    Revoked,
    TooManySessions,
}

/// What to do about a value that is too large.
const KEEP_ELSEWHERE: &str = "keep large data elsewhere and its name in the session";

/// The same for bytes.
const AS_BASE64: &str = "bytes take a third of that with `#[session(with = session_runtime::base64)]` above the field; \
     or keep large data elsewhere and its name in the session";

/// The same for bytes within a value.
const WITHIN_AS_BASE64: &str = "bytes take a third of that with `#[serde(with = \"session_runtime::base64\")]` above them, in the type that has them; \
     or keep large data elsewhere and its name in the session";

/// Returns `true` if more than half of the payload is one list of bytes, written as numbers.
fn is_of_bytes(payload: &[u8]) -> bool {
    let lists = payload.split(|byte| *byte == b'[').filter_map(|list| {
        let end = list.iter().position(|byte| *byte == b']')?;
        Some(&list[..end])
    });
    let longest = lists.max_by_key(|list| list.len()).unwrap_or_default();
    let mut items = longest.split(|byte| *byte == b',');
    let is_byte = |item: &[u8]| {
        let number = std::str::from_utf8(item).ok();
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    };
    longest.len() > payload.len() / 2 && items.all(is_byte)
}

/// Returns the name of a field without what the library has put before it: `token` of `@guest/token`.
pub(crate) fn own_name(field: &str) -> &str {
    let set_off = field.strip_prefix('@');
    set_off.map_or(field, |name| {
        name.split_once('/').map_or(field, |(_, own)| own)
    })
}

/// Returns a type's name without its path.
fn short_name(name: &str) -> &str {
    name.rsplit_once("::").map_or(name, |(_, own)| own)
}

impl Error {
    fn new(kind: Kind, source: Option<Cause>) -> Self {
        Self::told(kind, source, false)
    }

    /// Makes an error of which the log may tell already.
    fn told(kind: Kind, source: Option<Cause>, is_known: bool) -> Self {
        Self(Arc::new(Inner {
            kind,
            source,
            is_known,
        }))
    }

    /// Makes an error of a store that is away, of which the log tells already, or that cannot do what it is asked.
    pub(crate) fn unavailable(source: Cause, is_away: bool) -> Self {
        Self::told(Kind::Unavailable, Some(source), is_away)
    }

    /// Makes an error of a store that has not answered, of which the log tells already.
    pub(crate) fn unanswered(source: Cause) -> Self {
        Self::told(Kind::Timeout, Some(source), true)
    }

    pub(crate) fn full(source: Cause) -> Self {
        Self::new(Kind::Full, Some(source))
    }

    pub(crate) fn missing_layer() -> Self {
        Self::new(Kind::MissingLayer, None)
    }

    /// No layer answers for `asked`, but for what is `named`.
    pub(crate) fn only_for(asked: &str, named: &str) -> Self {
        let advice = format!(
            "none answers for `{asked}`: call `.only_for::<{}>()` of the layer that has its session, too, or leave `only_for` out of one of them",
            short_name(asked)
        );
        let named = named.to_owned();
        Self::new(Kind::OnlyFor { named, advice }, None)
    }

    /// `Sessions` was asked for, and each layer answers for what is `named` alone.
    pub(crate) fn only_for_structs(named: &str) -> Self {
        let advice = "`Sessions` is extracted of a layer that is `only_for` nothing: hand what `SessionLayer::sessions` returns to the handler, in the app's state say".to_owned();
        let named = named.to_owned();
        Self::new(Kind::OnlyFor { named, advice }, None)
    }

    pub(crate) fn timeout() -> Self {
        Self::new(Kind::Timeout, None)
    }

    pub(crate) fn unsettled() -> Self {
        Self::new(Kind::Unsettled, None)
    }

    pub(crate) fn rejected(field: &str) -> Self {
        let field = own_name(field).to_owned();
        Self::new(Kind::Rejected { field }, None)
    }

    pub(crate) fn too_large(what: impl Into<String>, size: usize, limit: usize) -> Self {
        let (what, advice) = (what.into(), KEEP_ELSEWHERE);
        let kind = Kind::TooLarge {
            what,
            size,
            limit,
            advice,
        };
        Self::new(kind, None)
    }

    pub(crate) fn field_too_large(field: &str, payload: &[u8], limit: usize) -> Self {
        let what = format!("the field `{}`", own_name(field));
        let advice = match payload {
            _ if !is_of_bytes(payload) => KEEP_ELSEWHERE,
            [b'[', ..] => AS_BASE64,
            _ => WITHIN_AS_BASE64,
        };
        let kind = Kind::TooLarge {
            what,
            size: payload.len(),
            limit,
            advice,
        };
        Self::new(kind, None)
    }

    pub(crate) fn user_name(size: usize, limit: usize) -> Self {
        Self::new(Kind::UserName { size, limit }, None)
    }

    pub(crate) fn no_fingerprint(source: Cause) -> Self {
        Self::new(Kind::NoFingerprint, Some(source))
    }

    pub(crate) fn of_browser(field: &str) -> Self {
        let field = own_name(field).to_owned();
        Self::new(Kind::OfBrowser { field }, None)
    }

    pub(crate) fn encode(field: &str, source: EncodeError) -> Self {
        let field = own_name(field).to_owned();
        Self::new(Kind::Encode { field }, Some(Box::new(source)))
    }

    pub(crate) fn undecodable(field: &str) -> Self {
        let field = own_name(field).to_owned();
        Self::new(Kind::Undecodable { field }, None)
    }

    pub(crate) fn claimed_twice(field: &str, sides: [(&'static str, String); 2]) -> Self {
        let field = own_name(field).to_owned();
        Self::new(Kind::ClaimedTwice { field, sides }, None)
    }

    #[cfg(feature = "cookie")]
    pub(crate) fn cookie(refusal: String) -> Self {
        let says =
            "what `SessionLayer::cookie_by` has returned for this request works in no browser";
        Self::new(Kind::Refused { says, refusal }, None)
    }

    pub(crate) fn lifetime(refusal: String) -> Self {
        let says = "the `absolute` of the struct that was asked for cannot be had";
        Self::new(Kind::Refused { says, refusal }, None)
    }

    pub(crate) fn random(source: impl Into<Cause>) -> Self {
        Self::new(Kind::Random, Some(source.into()))
    }

    pub(crate) fn too_late() -> Self {
        Self::new(Kind::TooLate, None)
    }

    pub(crate) fn dropped() -> Self {
        Self::new(Kind::Dropped, None)
    }

    pub(crate) fn no_place() -> Self {
        Self::new(Kind::NoPlace, None)
    }

    pub(crate) fn revoked() -> Self {
        Self::new(Kind::Revoked, None)
    }

    pub(crate) fn too_many_sessions() -> Self {
        Self::new(Kind::TooManySessions, None)
    }

    /// The task that committed is gone: it panicked, or the runtime is shutting down.
    pub(crate) fn lost(task: tokio::task::JoinError) -> Self {
        Self::unavailable(Box::new(task), false)
    }

    /// Returns `true` if the store cannot be reached, did not answer in time, or is full, if a conflict could not be
    /// settled in time, or if the app's look-up of a fingerprint or the system's generator of random numbers failed: trying
    /// later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::Unavailable
                | Kind::Timeout
                | Kind::Full
                | Kind::Unsettled
                | Kind::NoFingerprint
                | Kind::Random
        )
    }

    /// Returns `true` if the store did not answer before the deadline.
    pub fn is_timeout(&self) -> bool {
        self.0.kind == Kind::Timeout
    }

    /// Returns `true` if another request changed a field whose rule is `reject`, or others kept changing the same ones
    /// until the deadline.
    pub fn is_conflict(&self) -> bool {
        matches!(self.0.kind, Kind::Rejected { .. } | Kind::Unsettled)
    }

    /// Returns `true` if a field, the session or a user's name is over its limit.
    pub fn is_too_large(&self) -> bool {
        matches!(self.0.kind, Kind::TooLarge { .. } | Kind::UserName { .. })
    }

    /// Returns `true` if there is no [`SessionLayer`](crate::SessionLayer) around whatever has asked for the session, or none
    /// that [answers](crate::SessionLayer::only_for) for it.
    pub fn is_missing_layer(&self) -> bool {
        matches!(self.0.kind, Kind::MissingLayer | Kind::OnlyFor { .. })
    }

    /// Returns `true` if a login was refused because the user has as many sessions as
    /// [`SessionLayer::max_sessions`](crate::SessionLayer::max_sessions) allows. Nothing of the guest is lost.
    pub fn is_too_many_sessions(&self) -> bool {
        self.0.kind == Kind::TooManySessions
    }

    /// Returns `true` if a login failed because all sessions of the user were revoked, or the user was deleted, while it
    /// was under way. Logging in again may help.
    pub fn is_revoked(&self) -> bool {
        self.0.kind == Kind::Revoked
    }

    /// Returns `true` if a field's value cannot be stored: NaN, a map whose keys are not text, what is nested so deep that
    /// it could not be read back, or what [`SessionLayer::check_values`](crate::SessionLayer::check_values) has found.
    pub fn is_encode(&self) -> bool {
        matches!(self.0.kind, Kind::Encode { .. })
    }

    /// Returns `true` if two requests have changed a field, and what is stored of it cannot be read as its type, so that it
    /// is kept and this request's is not written.
    pub fn is_undecodable(&self) -> bool {
        matches!(self.0.kind, Kind::Undecodable { .. })
    }

    /// Returns `true` if what a task has changed beside the handler may be lost, since the response could not be written, or is one that
    /// writes nothing.
    pub fn is_dropped(&self) -> bool {
        self.0.kind == Kind::Dropped
    }

    /// Returns `true` if the app is to be changed, as the message says: a [missing layer](Self::is_missing_layer), two structs
    /// that store one name as different types, a cookie that no browser takes, a session's lifetime beyond a cookie's, a
    /// field of the browser's that is set where there is none, a new id once the response has left, a [page](crate::Sessions::page)
    /// after what the store has never called a place.
    pub fn is_misuse(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::MissingLayer
                | Kind::OnlyFor { .. }
                | Kind::ClaimedTwice { .. }
                | Kind::Refused { .. }
                | Kind::OfBrowser { .. }
                | Kind::TooLate
                | Kind::NoPlace
        )
    }

    /// Returns what the client is told: a status, and a sentence that gives nothing away.
    fn answer(&self) -> (StatusCode, &'static str) {
        match self.0.kind {
            Kind::Unavailable
            | Kind::Timeout
            | Kind::Full
            | Kind::Unsettled
            | Kind::Random
            | Kind::NoFingerprint
            | Kind::Revoked => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The session is not available just now. Please try again.",
            ),
            Kind::Rejected { .. } => (
                StatusCode::CONFLICT,
                "Something else changed this at the same time. Please try again.",
            ),
            Kind::TooManySessions => (
                StatusCode::FORBIDDEN,
                "You are logged in in too many places. Please log out in one of them.",
            ),
            Kind::NoPlace => (
                StatusCode::BAD_REQUEST,
                "There is no such page of sessions.",
            ),
            Kind::TooLarge { .. } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "This is more than a session can hold.",
            ),
            Kind::MissingLayer
            | Kind::OnlyFor { .. }
            | Kind::Encode { .. }
            | Kind::Undecodable { .. }
            | Kind::UserName { .. }
            | Kind::OfBrowser { .. }
            | Kind::ClaimedTwice { .. }
            | Kind::Refused { .. }
            | Kind::TooLate
            | Kind::Dropped => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong with the session: see the log.",
            ),
        }
    }

    /// Returns what a 503 is counted as.
    fn label(&self) -> &'static str {
        match self.0.kind {
            Kind::Timeout => "timeout",
            Kind::Full => "full",
            Kind::Unsettled => "unsettled",
            Kind::Random => "random",
            Kind::Revoked => "revoked",
            Kind::NoFingerprint => "fingerprint",
            _ => "unavailable",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::MissingLayer => f.write_str(
                "there is no session layer around this: add `.layer(SessionLayer::new(store))` to the router, after the routes and after the middleware that use sessions, since what is added last runs first",
            ),
            Kind::OnlyFor { named, advice } => {
                write!(f, "the session layers around this are `only_for` {named}, and {advice}")
            }
            Kind::Unavailable => f.write_str("the session store is not available"),
            Kind::Timeout => f.write_str("the session store did not answer before the deadline"),
            Kind::Full => f.write_str("the session store is full"),
            Kind::Unsettled => {
                f.write_str("other requests kept changing the same fields of the session until the deadline")
            }
            Kind::Rejected { field } => {
                write!(f, "another request changed `{field}`, whose rule is `reject`")
            }
            Kind::TooLarge { what, size, limit, advice } => {
                write!(f, "{what} takes {size} bytes, and {limit} is the limit: {advice}")
            }
            Kind::UserName { size, limit } => write!(
                f,
                "the user's name takes {size} bytes, and {limit} is the limit: name users by a number, or by a hash of what names them"
            ),
            Kind::NoFingerprint => f.write_str(
                "the app could not say what a user is logged in by: see the cause, and `SessionLayer::fingerprint_of`",
            ),
            Kind::OfBrowser { field } => write!(
                f,
                "`{field}` stays with the browser, and there is none here: give it a `#[merge]` rule, so that it follows the user, or set it in a request"
            ),
            Kind::Encode { field } => write!(f, "the value of `{field}` cannot be stored"),
            Kind::Undecodable { field } => {
                write!(f, "a stored value of `{field}` does not fit its type, so it is kept and not merged")
            }
            Kind::ClaimedTwice { field, sides: [(one, as_one), (other, as_other)] } => write!(
                f,
                "`{one}` stores `{field}` as {as_one}, and `{other}` as {as_other}: each would destroy what the other stores; write `#[session(prefix = \"…\")]` above one of them, or give the field the same type and attributes in both"
            ),
            Kind::Refused { says, refusal } => write!(f, "{says}: {refusal}"),
            Kind::Random => f.write_str("the operating system's random generator failed"),
            Kind::NoPlace => f.write_str(
                "`Sessions::page` is to go on after what is no place in this store: hand it what the last page has as `next`, or `None`",
            ),
            Kind::Revoked => f.write_str(
                "the session was ended, all sessions of the user were revoked, or the user was deleted, while the login was under way",
            ),
            Kind::TooManySessions => f.write_str(
                "the user has as many sessions as `SessionLayer::max_sessions` allows",
            ),
            Kind::Dropped => f.write_str(
                "what was changed beside the handler may be lost: it was to be written with the response, which could not be written, or is one that writes nothing",
            ),
            Kind::TooLate => f.write_str(
                "the response has left already, or there is none, so no new session id can be sent: log in, rotate or begin a session before responding",
            ),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl Error {
    /// Returns the response in place of another, by which the client may have been told already to come back later: that counts once.
    /// The ids that sessions of other layers have got are good all the same, and are sent.
    pub(crate) fn in_place_of<B>(self, other: &Response<B>) -> Response {
        let is_error = other.extensions().get::<Self>().is_some();
        let is_told = is_error && other.status() == StatusCode::SERVICE_UNAVAILABLE;
        let mut response = self.response(is_told);
        let headers = response.headers_mut();
        let all = other.headers().iter();
        for (name, id) in all.filter(|(_, value)| value.is_sensitive()) {
            headers.append(name, id.clone());
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
    }

    fn response(self, is_told: bool) -> Response {
        let (status, body) = self.answer();
        let error = Causes(&self);
        if status == StatusCode::SERVICE_UNAVAILABLE && !is_told {
            observe::unavailable(self.label());
        }
        if self.0.is_known {
            tracing::debug!(%error, status = status.as_u16(), "session error");
        } else if status.is_server_error() {
            tracing::error!(%error, status = status.as_u16(), "session error");
        } else {
            tracing::warn!(%error, status = status.as_u16(), "session error");
        }
        let mut response = (status, body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let second = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, second);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Error {
    /// Returns what the client is told, and logs the cause.
    fn into_response(self) -> Response {
        self.response(false)
    }
}

/// An error and what it came from, on one line, for the log.
pub(crate) struct Causes<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let cause = error.to_string();
            // Many wrap an error in one that says the same.
            if cause != said {
                write!(f, ": {cause}")?;
            }
            (said, source) = (cause, error.source());
        }
        Ok(())
    }
}

/// Says why a stored value could not be read as its field's type.
///
/// It counts as absent for reading, and its bytes stay in the store until the field is set.
///
/// ```
/// use session_runtime::{DecodeError, Session};
///
/// #[derive(Session)]
/// struct Shop {
///     cart: Vec<String>,
/// }
///
/// async fn show(session: Session<Shop>) -> String {
///     match session.cart.try_get() {
///         Ok(cart) => cart.join(", "),
///         Err(DecodeError { .. }) => "Your cart comes from an older version of this shop.".to_owned(),
///     }
/// }
/// # let _ = show;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct DecodeError {
    field: &'static str,
    position: (usize, usize),
}

impl DecodeError {
    pub(crate) fn new(field: &'static str, source: &serde_json::Error) -> Self {
        // Not kept as a source: serde's messages quote the value.
        Self {
            field: own_name(field),
            position: (source.line(), source.column()),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position;
        write!(
            f,
            "the stored value of `{}` does not fit its type, at line {line} column {column}",
            self.field
        )
    }
}

impl StdError for DecodeError {}

/// Says why a value cannot be written as JSON. The message never quotes the value.
#[derive(Debug)]
pub struct EncodeError(pub(crate) Cow<'static, str>);

impl EncodeError {
    /// The type cannot read what it has written.
    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        // Others of serde's messages quote the value.
        let message = error.to_string();
        let quotable = ["missing field", "duplicate field"];
        let why = if quotable.iter().any(|known| message.starts_with(known)) {
            message
        } else {
            format!("at line {} column {}", error.line(), error.column())
        };
        let fault = format!(
            "its type cannot read what it has written ({why}): see that `Serialize` and `Deserialize` say the same"
        );
        Self(fault.into())
    }

    pub(crate) fn reads_otherwise() -> Self {
        Self("it is read back as another value than was written: a name or a part that only one of `Serialize` and `Deserialize` knows, or `Some(None)`, which is written as `None` is".into())
    }

    pub(crate) fn changed_unseen() -> Self {
        Self("it was changed through `get`, which nobody notices: change it through `get_mut`, or `set` it".into())
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for EncodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the predicates that hold: an app with a page of its own for each kind asks them.
    fn predicates(error: &Error) -> usize {
        let predicates = [
            Error::is_unavailable,
            Error::is_conflict,
            Error::is_too_large,
            Error::is_too_many_sessions,
            Error::is_revoked,
            Error::is_encode,
            Error::is_undecodable,
            Error::is_dropped,
            Error::is_misuse,
        ];
        predicates.iter().filter(|holds| holds(error)).count()
    }

    #[test]
    fn every_kind_has_a_predicate() {
        let cause = || Cause::from("the cause");
        let twice = ["Shop", "Admin"].map(|name| (name, name.to_lowercase()));
        for error in [
            Error::missing_layer(),
            Error::only_for("Shop", "`Admin`"),
            Error::unavailable(cause(), true),
            Error::timeout(),
            Error::full(cause()),
            Error::rejected("seat"),
            Error::too_large("the session", 2, 1),
            Error::encode("cart", EncodeError::changed_unseen()),
            Error::undecodable("cart"),
            Error::user_name(2, 1),
            Error::no_fingerprint(cause()),
            Error::of_browser("theme"),
            Error::claimed_twice("theme", twice),
            Error::lifetime("too long".to_owned()),
            Error::random(cause()),
            Error::too_late(),
            Error::no_place(),
            Error::revoked(),
            Error::too_many_sessions(),
            Error::dropped(),
        ] {
            assert_eq!(predicates(&error), 1, "{error}");
        }
        assert_eq!(predicates(&Error::unsettled()), 2, "a conflict, and a 503");
    }
}
