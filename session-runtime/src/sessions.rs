//! All of a user's sessions, for pages about them and for whoever has to end them.

use std::any::{TypeId, type_name};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::config::Config;

use crate::error::Error;
use crate::everybody::{self, Found};
use crate::id::SessionId;
use crate::key::{IntoUserId, UserFuture};
use crate::request::Request;
use crate::revoke::{Device, OfUser};
use crate::schema::Schema;
use crate::session::Session;
use crate::task::to_its_end;
use crate::user_fields::UserFields;

/// The sessions of any user: lists them, labels them, ends them. A user is named as [`login`](crate::Session::login) has it:
/// `sessions.revoke_all(42)`.
///
/// A handler extracts it; outside of requests, [`SessionLayer::sessions`](crate::SessionLayer::sessions) hands
/// it out. None of its methods asks whether the caller may do this: that is the app's to know. What one has begun runs to
/// its end, though the caller stops waiting.
///
/// ```
/// use session_runtime::{Error, Session, Sessions};
///
/// #[derive(session_runtime::Session)]
/// struct Shop {
///     note: Option<String>,
/// }
///
/// /// "You are logged in on …"
/// async fn devices(session: Session<Shop>, sessions: Sessions) -> Result<String, Error> {
///     let Some(user) = session.user() else {
///         return Ok("Nowhere.".to_owned());
///     };
///     let devices = sessions.list(&user).await?;
///     let names: Vec<_> = devices.iter().filter_map(|device| device.user_agent()).collect();
///     Ok(names.join(", "))
/// }
///
/// /// "Log out everywhere else"
/// async fn log_out_others(session: Session<Shop>, sessions: Sessions) -> Result<(), Error> {
///     if let (Some(user), Some(device)) = (session.user(), session.device()) {
///         sessions.revoke_others(&user, &device).await?;
///     }
///     Ok(())
/// }
/// # let router: axum::Router = axum::Router::new()
/// #     .route("/devices", axum::routing::get(devices))
/// #     .route("/others", axum::routing::post(log_out_others));
/// ```
#[derive(Clone)]
pub struct Sessions {
    config: Arc<Config>,
}

impl Sessions {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config }
    }

    fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> UserFuture<'_, Result<T, Error>> {
        Box::pin(to_its_end(self.config.underway.clone(), work))
    }

    /// Does something about a user, to its end. Its time begins when it is awaited.
    fn act<T, F>(
        &self,
        user: impl IntoUserId,
        act: impl FnOnce(OfUser) -> F + Send + 'static,
    ) -> UserFuture<'_, Result<T, Error>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (config, user) = (Arc::clone(&self.config), user.into_user_id());
        self.to_its_end(async move { act(OfUser::new(&config, &user)?).await })
    }

    /// Opens the session of an id outside of a request: for another protocol, a job that was given the id, a websocket that outlives the
    /// layer. `None` if the id opens nothing (any more). It never makes a session nor an id.
    ///
    /// What is changed is written by [`save`](Session::save), which counts as use of the session, and by nothing else. `logout` and `delete` work;
    /// what would issue an id (`login`, `rotate`, and setting anything once the session has ended) is an error. The id does not
    /// count as presented by the client, and no binding to an address or user agent is looked at. Flashes are used up by `claim`.
    ///
    /// ```
    /// use session_runtime::{Error, Session, SessionId, Sessions};
    ///
    /// #[derive(Session)]
    /// struct Shop {
    ///     #[merge(append, browser)]
    ///     exports: Vec<String>,
    /// }
    ///
    /// /// A job that was told the cookie's value when it was begun.
    /// async fn export(sessions: Sessions, cookie: &str) -> Result<bool, Error> {
    ///     let Some(id) = SessionId::parse(cookie.as_bytes()) else {
    ///         return Ok(false);
    ///     };
    ///     let Some(mut session) = sessions.open::<Shop>(id).await? else {
    ///         return Ok(false); // it has ended meanwhile
    ///     };
    ///     session.exports.get_mut().push("report.pdf".to_owned());
    ///     session.save().await?;
    ///     Ok(true)
    /// }
    /// # let _ = export;
    /// ```
    ///
    /// # Errors
    ///
    /// If the store fails, or if another struct stores a field of the same name as another type.
    pub async fn open<S: Schema>(&self, id: SessionId) -> Result<Option<Session<S>>, Error> {
        let config = &self.config;
        config.know(TypeId::of::<S>(), type_name::<S>(), S::ROWS)?;
        let request = Arc::new(Request::new(Arc::clone(config)));
        let deadline = request.deadline();
        if !request.open_for_app(id, deadline).await? {
            return Ok(None);
        }
        request.uses(S::LIFETIME, true)?;
        let session = Session::<S>::open(request, true, None, deadline).await?;
        Ok((!session.is_new()).then_some(session)) // it may have been revoked
    }

    /// Looks up what follows a user, for a webhook, a job or an admin's page: no session is needed, and none is made.
    ///
    /// ```
    /// use session_runtime::{Error, Session, Sessions};
    ///
    /// #[derive(Session)]
    /// struct Shop {
    ///     #[merge(sum)]
    ///     points: u32,
    /// }
    ///
    /// /// A payment provider says that an order has been paid.
    /// async fn paid(sessions: Sessions) -> Result<(), Error> {
    ///     let mut ada = sessions.with_user::<Shop>(42).await?;
    ///     *ada.points.get_mut() += 10;
    ///     ada.save().await?;
    ///     Ok(())
    /// }
    /// # let _ = paid;
    /// ```
    ///
    /// # Errors
    ///
    /// If the store fails, if the user's name has more than 1,024 bytes, or if another struct stores a field of the same
    /// name as another type.
    pub fn with_user<S: Schema>(
        &self,
        user: impl IntoUserId,
    ) -> UserFuture<'_, Result<UserFields<S>, Error>> {
        let user = user.into_user_id();
        Box::pin(async move {
            let config = &self.config;
            config.know(TypeId::of::<S>(), type_name::<S>(), S::ROWS)?;
            let request = Request::new(Arc::clone(config));
            let deadline = request.deadline();
            request.load_for_app(user, deadline).await?;
            Ok(UserFields(Session::over(Arc::new(request), false, None)))
        })
    }

    /// Lists all sessions of the user, the oldest first: one call to the store, and one for each session, all at once. One that cannot be read is
    /// logged and passed over.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list(&self, user: impl IntoUserId) -> UserFuture<'_, Result<Vec<Device>, Error>> {
        let user = user.into_user_id();
        Box::pin(async move { OfUser::new(&self.config, &user)?.list().await })
    }

    /// Calls a session of the user by a name of the user's own; `None` takes it away. Returns `false` if the user has
    /// no such session (any more).
    ///
    /// # Errors
    ///
    /// If the store fails, or the label is larger than a field may be.
    pub fn label(
        &self,
        user: impl IntoUserId,
        device: &str,
        label: Option<String>,
    ) -> UserFuture<'_, Result<bool, Error>> {
        let device = device.to_owned();
        self.act(user, |user| async move {
            user.label(&device, label.as_deref()).await
        })
    }

    /// Ends one session of the user. Returns `false` if the user has no such session (any more).
    ///
    /// It is over when this returns, for requests that are still running, too: what they change is not written
    /// ([`Saved::Ended`](crate::Saved::Ended)).
    ///
    /// # Errors
    ///
    /// If the store fails. The session may or may not be there still.
    pub fn revoke(
        &self,
        user: impl IntoUserId,
        device: &str,
    ) -> UserFuture<'_, Result<bool, Error>> {
        let device = device.to_owned();
        self.act(user, |user| async move { user.revoke(&device).await })
    }

    /// Ends all sessions of the user but one, and says how many that were; if none of them is called `device`, all end. Logins
    /// that are under way count among them: they fail.
    ///
    /// # Errors
    ///
    /// If the store fails. Some may be there still: call it again.
    pub fn revoke_others(
        &self,
        user: impl IntoUserId,
        device: &str,
    ) -> UserFuture<'_, Result<usize, Error>> {
        let device = device.to_owned();
        self.act(
            user,
            |user| async move { user.revoke_all(Some(&device)).await },
        )
    }

    /// Ends all sessions of the user, and says how many that were. Logins that are under way count among
    /// them: they fail. What follows the user stays.
    ///
    /// # Errors
    ///
    /// If the store fails. Some may be there still: call it again.
    pub fn revoke_all(&self, user: impl IntoUserId) -> UserFuture<'_, Result<usize, Error>> {
        self.act(user, |user| async move { user.revoke_all(None).await })
    }

    /// Deletes what follows the user, and ends all sessions of the user. Nothing that is under way brings it
    /// back; a later login under the same name starts from nothing.
    ///
    /// First refuse logins of the user, then call this, then delete the user's row: a login that comes between the last
    /// two would make a new record.
    ///
    /// # Errors
    ///
    /// If the store fails. Some may be there still: call it again.
    pub fn delete(&self, user: impl IntoUserId) -> UserFuture<'_, Result<(), Error>> {
        self.act(user, |user| async move { user.delete().await })
    }

    /// Returns some of all live sessions, guests' and users', about a hundred, and where to go on: begin with `None`. It takes one call to
    /// the store, and one for each session.
    ///
    /// Whoever goes on until there is no [`next`](Page::next) has seen each session that was there all the while, once or more
    /// often; of those that came or went in between, some. One that cannot be read, since it is of a newer version of the library say, is logged and
    /// passed over.
    ///
    /// ```
    /// use session_runtime::{Error, Sessions};
    ///
    /// /// Whoever is here, page by page.
    /// async fn who(sessions: Sessions, after: Option<String>) -> Result<String, Error> {
    ///     let page = sessions.page(after.as_deref()).await?;
    ///     let users = page.devices.iter().filter_map(|device| device.user());
    ///     let names: Vec<_> = users.map(|user| user.as_str()).collect();
    ///     Ok(format!("{} … next: {:?}", names.join(", "), page.next))
    /// }
    /// # let _ = who;
    /// ```
    ///
    /// # Errors
    ///
    /// If the store fails, cannot list its sessions, or does not know `after`.
    pub async fn page(&self, after: Option<&str>) -> Result<Page, Error> {
        let Found { sessions, next, .. } = everybody::find(&self.config, after).await?;
        let devices = sessions.into_iter();
        Ok(Page {
            devices: devices
                .map(|(selector, record)| Device::new(selector, record))
                .collect(),
            next,
        })
    }

    /// Counts all live sessions, guests' and users'. It looks at each: on a store in another place, a hundred at a time.
    /// Those that come or go meanwhile count or not; on a Redis that fails over meanwhile, or a Cluster whose slots move, some are missed.
    ///
    /// ```
    /// # use session_runtime::{Error, Sessions};
    /// async fn visitors(sessions: Sessions) -> Result<String, Error> {
    ///     Ok(format!("{} are here.", sessions.count().await?))
    /// }
    /// # let _ = visitors;
    /// ```
    ///
    /// # Errors
    ///
    /// As [`page`](Self::page).
    pub async fn count(&self) -> Result<usize, Error> {
        let (mut seen, mut next) = (HashSet::new(), None);
        loop {
            let found = everybody::find(&self.config, next.as_deref()).await?;
            seen.extend(found.sessions.into_iter().map(|(selector, _)| selector));
            next = found.next;
            if next.is_none() {
                return Ok(seen.len());
            }
        }
    }

    /// Ends all sessions, guests' and users', and says how many that were: "log everybody out". What follows users stays.
    ///
    /// Each session that is there when this is called is over when it returns, as by [`revoke_all`](Self::revoke_all), and so
    /// are logins of these users that were under way. One that is created meanwhile may stay; and on a Redis that fails over meanwhile, or
    /// a Cluster whose slots move, some that were there: call it again after that.
    ///
    /// ```
    /// # use session_runtime::{Error, Sessions};
    /// async fn log_everybody_out(sessions: Sessions) -> Result<String, Error> {
    ///     Ok(format!("{} sessions have ended.", sessions.end_all().await?))
    /// }
    /// # let _ = log_everybody_out;
    /// ```
    ///
    /// # Errors
    ///
    /// As [`page`](Self::page). Some have ended then: call it again for the others. If what is stored of one cannot be read, that is an error, too, once
    /// all others have ended.
    pub async fn end_all(&self) -> Result<usize, Error> {
        let (mut all, mut next, mut left) = (0, None::<String>, None);
        loop {
            let config = Arc::clone(&self.config);
            let some = async move { everybody::end_some(&config, next.as_deref()).await };
            let some = self.to_its_end(some).await?;
            all += some.ended;
            next = some.next;
            left = left.or(some.left);
            if next.is_none() {
                return left.map_or(Ok(all), Err);
            }
        }
    }
}

/// Some of all sessions; from [`Sessions::page`].
///
/// ```
/// use session_runtime::{Sessions, SessionLayer, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_runtime::Error> {
/// let sessions = SessionLayer::new(MemoryStore::new()).sessions();
/// let page = sessions.page(None).await?;
/// assert!(page.devices.is_empty() && page.next.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// These sessions.
    pub devices: Vec<Device>,
    /// The place to go on at; `None` at the end. It opens nothing, so it may stand in an admin's page.
    pub next: Option<String>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
