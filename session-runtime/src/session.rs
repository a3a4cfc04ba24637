//! The typed handle: a handler's view of the session.

use std::fmt;
use std::mem::{replace, take};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::error::{Error, own_name};
use crate::field::describe;
use crate::id::SessionId;
use crate::key::{IntoUserId, UserFuture, UserId};
use crate::plan::confirm::Fate;
use crate::record::Ended;
use crate::request::{Request, Saved};
use crate::row::{CellEdit, EditKind};
use crate::schema::{Opener, Schema};
use crate::secret::SecretHash;

/// The session of a request, as the struct `S` sees it.
///
/// It derefs to the cells that `#[derive(Session)]` made of the fields of `S`: `session.cart.get()`. What a
/// handler changes is folded into the request when the handle drops, and written before the response leaves.
///
/// Several handles of one request, of one struct or of several, each see what those that were dropped before them have
/// changed. Of two that are open at once neither sees the other's changes, and if both change one field without a rule, the
/// one that is dropped last counts; the log warns of both. So a middleware drops its handle before it goes on:
///
/// ```
/// use axum::extract::Request;
/// use axum::middleware::Next;
/// use axum::response::Response;
/// use session_runtime::Session;
///
/// #[derive(Session)]
/// struct Visits {
///     #[merge(sum, browser)]
///     count: u32,
/// }
///
/// async fn count(mut session: Session<Visits>, request: Request, next: Next) -> Response {
///     *session.count.get_mut() += 1;
///     drop(session); // the handler sees it
///     next.run(request).await
/// }
/// # let _ = count;
/// ```
///
/// A handle that outlives the request (in a stream, a spawned task, a websocket) must [`save`](Self::save).
///
/// ```
/// use session_runtime::Session;
///
/// #[derive(Session)]
/// struct Shop {
///     cart: Vec<String>,
/// }
///
/// async fn add(mut session: Session<Shop>) -> String {
///     session.cart.get_mut().push("apple".to_owned());
///     format!("{} items", session.cart.get().len())
/// }
/// # let _ = add;
/// ```
#[must_use = "what is changed through a session is written when it drops"]
pub struct Session<S: Schema> {
    cells: Box<S::Cells>,
    request: Arc<Request>,
    generation: u32,
    /// Using it counts as using the session.
    touches: bool,
    /// The cells were borrowed mutably.
    borrowed: bool,
    /// How often changes of the request had been dropped when it was opened, or last told.
    drops: u32,
}

impl<S: Schema> Session<S> {
    pub(crate) async fn open(
        request: Arc<Request>,
        touches: bool,
        loaded: Option<Timestamp>,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let Some(is_read) = request.has_read_user() else {
            return Ok(Self::over(request, touches, loaded));
        };
        if request.is_to_be_checked() {
            Box::pin(request.check_fingerprint(deadline)).await?;
        }
        let follows = || S::ROWS.iter().any(|row| row.0.follows());
        if !is_read && (request.config.always_check_user || follows()) {
            Box::pin(request.load_user(deadline)).await?;
        }
        if request.holds_users(S::ROWS) {
            Box::pin(request.adopt(S::ROWS, deadline)).await?;
        }
        Ok(Self::over(request, touches, None))
    }

    /// Opens the cells over what the request knows: as of when it was `loaded`, if that was just now.
    pub(crate) fn over(request: Arc<Request>, touches: bool, loaded: Option<Timestamp>) -> Self {
        let now = loaded.unwrap_or_else(|| request.config.now());
        let drops = request.drops();
        let (cells, generation) = open::<S>(&request, now);
        Self {
            cells,
            request,
            generation,
            touches,
            borrowed: false,
            drops,
        }
    }

    /// Returns the id that opens this session, if it is stored. A secret: see [`SessionId::expose`].
    ///
    /// A session that is created in this request has none before [`save`](Self::save).
    pub fn id(&self) -> Option<SessionId> {
        self.request.facts().id
    }

    /// Returns `true` if the client presented no live session: what is written now begins a new one.
    pub fn is_new(&self) -> bool {
        !self.request.facts().is_stored
    }

    /// Returns when the session was created, if it is stored.
    pub fn created_at(&self) -> Option<SystemTime> {
        self.request.facts().created.map(Into::into)
    }

    /// Returns when a field was last written, as of when it was loaded.
    pub fn updated_at(&self) -> Option<SystemTime> {
        self.request.facts().updated.map(Into::into)
    }

    /// Returns when it expires if nothing more happens, this request included.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.request.expires().map(Into::into)
    }

    /// Returns why the session that the client presented is no longer there; `None` if it is, or if the client
    /// presented none.
    ///
    /// The reason of an end is kept for a day, for whoever presents an id of the session. An id from before a login is
    /// told [`Ended::LoggedIn`] for five minutes; in that time nothing that such a request sets is written.
    pub fn ended(&self) -> Option<Ended> {
        self.request.facts().ended
    }

    /// Returns the cells, for borrowing several of them at once.
    ///
    /// ```
    /// # use session_runtime::Session;
    /// # #[derive(Session)]
    /// # struct Shop { cart: Vec<String>, saved: Vec<String> }
    /// async fn save_for_later(mut session: Session<Shop>) {
    ///     let shop = session.fields();
    ///     shop.saved.get_mut().append(shop.cart.get_mut());
    /// }
    /// # let _ = save_for_later;
    /// ```
    pub fn fields(&mut self) -> &mut S::Cells {
        self
    }

    /// Returns the name of a field that was changed and stays with the browser, if there is one.
    pub(crate) fn changed_of_browser(&self) -> Result<Option<&'static str>, Error> {
        let edits = self.edits(self.request.config.now())?;
        let mut stays = edits.iter().filter(|edit| !edit.row.follows());
        Ok(stays.next().map(|edit| edit.row.name()))
    }

    /// Returns what there is of each field, sorted by name: whether it has a value, and when that expires. Reads no value and uses up no
    /// flash.
    ///
    /// ```
    /// # use session_runtime::Session;
    /// # #[derive(Session)]
    /// # struct Shop { cart: Vec<String>, #[flash] notice: Option<String> }
    /// async fn debug(session: Session<Shop>) -> String {
    ///     let facts = session.field_facts();
    ///     let present = facts.iter().filter(|field| field.is_present);
    ///     present.map(|field| field.name).collect::<Vec<_>>().join(", ")
    /// }
    /// # let _ = debug;
    /// ```
    pub fn field_facts(&self) -> Vec<FieldFacts> {
        let mut all = Vec::with_capacity(S::ROWS.len());
        let shown = S::visit(&self.cells, &mut |cell| {
            let (is_present, expires) = cell.facts();
            all.push(FieldFacts {
                name: own_name(cell.name()),
                is_present,
                expires_at: expires.map(Into::into),
            });
            Ok(())
        });
        debug_assert!(shown.is_ok(), "nothing here fails");
        all.sort_by_key(|facts| facts.name);
        all
    }

    /// Holds all flashes for one more request, though they are read in this one: for a page that redirects on.
    pub fn keep_flashes(&mut self) {
        let kept = S::visit(self.fields(), &mut |cell| {
            cell.keep();
            Ok(())
        });
        debug_assert!(kept.is_ok(), "nothing here fails");
    }

    /// Removes all flashes of `S` unread: those that are stored, those that this request has set or keeps, and those that it
    /// shows itself.
    ///
    /// ```
    /// # use session_runtime::Session;
    /// # #[derive(Session)]
    /// # struct Shop { #[flash] notice: Option<String>, #[flash] error: Option<String> }
    /// async fn start_over(mut session: Session<Shop>) {
    ///     session.clear_flashes();
    ///     session.notice.set("Here we are again.".to_owned());
    /// }
    /// # let _ = start_over;
    /// ```
    pub fn clear_flashes(&mut self) {
        let now = self.request.config.now();
        let edits = self.edits(now);
        let request = &self.request;
        if request.clear_flashes(self.generation, edits, S::ROWS, now) {
            self.reopen();
        }
    }

    /// Returns `true` if this request has changed something, through this handle or one that was dropped, that is not written
    /// yet. A value that was set to what it was before is no change, nor is a flash that was read, or a field that lives on since it
    /// was used.
    pub fn is_changed(&self) -> bool {
        let edits = self.edits(self.request.config.now());
        let is_change = |edit: &CellEdit| matches!(edit.kind, EditKind::Changed);
        edits.map_or(true, |edits| edits.iter().any(is_change)) || self.request.is_changed()
    }

    /// Forgets what this request has changed, through this handle and those that were dropped, and sees the session as it was. What
    /// was [saved](Self::save) stays.
    pub fn forget_changes(&mut self) {
        self.request.forget_changes();
        self.drops = self.request.drops();
        self.reopen();
    }

    /// Sets every field at once.
    pub fn assign(&mut self, values: S) {
        values.assign(self);
    }

    /// Writes what was changed now, instead of at the end of the request, and says what came of it.
    ///
    /// [`Saved::Ended`] means that nothing of it counts, neither of the session nor of the user. It counts as use of the session, as loading does: a
    /// websocket that saves now and then keeps it alive.
    ///
    /// # Errors
    ///
    /// If a value is too large or cannot be stored (the handle keeps its changes, so that they can be mended), if
    /// a field whose rule is `reject` was changed by another request, or if the store does not answer before
    /// the deadline. What is refused stays as it was changed, and so is refused each time, with all else, until
    /// [`forget_changes`](Self::forget_changes); [`refresh`](Self::refresh) after that shows what the other has set. Once the response
    /// has left, a session that is not stored yet cannot be created any more. A task beside the handler is also told, once, if changes of
    /// the request were dropped since the handle was opened, because the response could not be written or writes nothing: its own may be
    /// among them.
    pub async fn save(&mut self) -> Result<Saved, Error> {
        if !self.fold()? {
            return Ok(Saved::Ended);
        }
        let saved = Arc::clone(&self.request).save().await;
        self.reopen();
        let (saved, drops) = (saved?, self.request.drops());
        if replace(&mut self.drops, drops) != drops && saved != Saved::Ended {
            return Err(Error::dropped());
        }
        Ok(saved)
    }

    /// Loads what other requests have stored since. What was changed here stays, on top of that, by the
    /// fields' rules.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    pub async fn refresh(&mut self) -> Result<(), Error> {
        self.fold()?;
        let refreshed = Arc::clone(&self.request).refresh().await;
        self.reopen();
        refreshed
    }

    /// Gives the session a new id and keeps its data. Writes what was changed, too.
    ///
    /// The old id stays good until the new one has been presented, and for a minute more. So it is not for
    /// changes of privilege: that is [`login`](Self::login). A session that is not stored yet needs none: it gets a fresh
    /// id when it is. While four ids are on their way that nobody has presented, no more is issued.
    ///
    /// Do not rotate guests' ids on a schedule. If a guest's rotation and a login overlap, and the rotation's answer
    /// arrives last, the browser has an id that the login has superseded, and the user has to log in once more.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save); and once the response has left, since the new id could not be sent.
    pub async fn rotate(&mut self) -> Result<(), Error> {
        self.fold()?;
        let rotated = Arc::clone(&self.request).rotate().await;
        self.reopen();
        rotated
    }

    /// Ends the session, here and in the store. What was changed of the user's is written, as by
    /// [`logout`](Self::logout); the rest goes with the session, notices that were set before this, too.
    ///
    /// For a day, whoever presents its id is told `reason` by [`ended`](Self::ended), up to 1,024 bytes of it. What is set after this
    /// begins a new session. Under an id from before a login, or where another request has logged out meanwhile, it ends nothing but this
    /// request's view, and what is set after this is not written.
    ///
    /// # Errors
    ///
    /// As [`logout`](Self::logout). The session has not ended then.
    pub async fn delete(&mut self, reason: impl Into<String>) -> Result<(), Error> {
        self.fold()?;
        let deleted = Arc::clone(&self.request).delete(reason.into()).await;
        self.reopen();
        deleted
    }

    /// Logs `user` in.
    ///
    /// The session gets a new id, and the old one opens nothing any more. Fields with a `#[merge]` rule other than `reject` follow
    /// the user: what a guest has gathered in them is merged into the user's, exactly once, by their rules, and
    /// from now on `session.cart` is the user's cart, on every device. Other fields stay with the browser, but those of
    /// `#[session(guest)]` are gone. What this request has changed goes along. A login as another user starts clean, in
    /// a new session; what [`remember`](Self::remember), [`set_ttl`](Self::set_ttl), [`set_end`](Self::set_end) and
    /// [`unbind`](Self::unbind) have said in this request, and nothing has written yet, is said of that one.
    ///
    /// ```
    /// # use session_runtime::{Error, Session};
    /// # #[derive(Session)]
    /// # struct Shop { #[merge(append)] cart: Vec<String> }
    /// async fn sign_in(mut session: Session<Shop>) -> Result<&'static str, Error> {
    ///     // … after the password has been verified
    ///     session.login("user 42").await?;
    ///     Ok("Welcome back.")
    /// }
    /// # let _ = sign_in;
    /// ```
    ///
    /// # Errors
    ///
    /// If the user's name has more than 1,024 bytes, if the store does not answer before the deadline, if the user's sessions were all revoked meanwhile, or this one was ended
    /// by another request after it had been opened, if the user has [as many as are allowed](crate::SessionLayer::max_sessions) and is refused one more
    /// ([`is_too_many_sessions`](Error::is_too_many_sessions)), if what this request has changed is too
    /// large ([`is_too_large`](Error::is_too_large)), or once the response has left. Nothing of the guest is lost;
    /// logging in again goes on where this stopped. What the user has no room for is no error: it stays set apart, for
    /// [`Field::brought`](crate::Field::brought).
    pub fn login(&mut self, user: impl IntoUserId) -> UserFuture<'_, Result<(), Error>> {
        self.log_in(user.into_user_id(), None)
    }

    /// Logs `user` in, as [`login`](Self::login) does, for as long as `fingerprint` is what
    /// [`SessionLayer::fingerprint_of`](crate::SessionLayer::fingerprint_of) says of that user: the stored hash of the password, so
    /// that the session ends when the password changes. The session's record holds a hash of it.
    ///
    /// On the page that changes the password, call it with the new one after that is stored: this session goes on, and the others end.
    ///
    /// ```
    /// # use session_runtime::{Error, Session};
    /// # #[derive(Session)]
    /// # struct Shop { #[merge(append)] cart: Vec<String> }
    /// async fn sign_in(mut session: Session<Shop>) -> Result<&'static str, Error> {
    ///     let password_hash = "$argon2id$v=19$…"; // of the user's row, after the password has been verified
    ///     session.login_with_fingerprint("user 42", password_hash).await?;
    ///     Ok("Welcome back.")
    /// }
    /// # let _ = sign_in;
    /// ```
    ///
    /// # Errors
    ///
    /// As [`login`](Self::login).
    pub fn login_with_fingerprint(
        &mut self,
        user: impl IntoUserId,
        fingerprint: impl AsRef<[u8]>,
    ) -> UserFuture<'_, Result<(), Error>> {
        let fingerprint = SecretHash::of(fingerprint.as_ref());
        self.log_in(user.into_user_id(), Some(fingerprint))
    }

    fn log_in(
        &mut self,
        user: UserId,
        fingerprint: Option<SecretHash>,
    ) -> UserFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.fold()?;
            let login = Arc::clone(&self.request).login(user, fingerprint).await;
            self.reopen();
            login
        })
    }

    /// Ends the browser's session. What was changed of the user's is written before, and kept for the next login. What this request
    /// sets after this begins a new session, and so does a flash that this request has set before. For a guest it does
    /// nothing.
    ///
    /// Under an id from before a login it ends the session only while nobody has presented the new id. Once that has
    /// arrived, it ends nothing: whoever planted the old id could log users out. Where another request has logged out meanwhile, nothing
    /// that this one has set or sets is written: the browser may have logged in anew.
    ///
    /// # Errors
    ///
    /// If the store does not answer before the deadline, or what was changed cannot be written. The session has not ended
    /// then.
    pub async fn logout(&mut self) -> Result<(), Error> {
        self.fold()?;
        let logout = Arc::clone(&self.request).logout(&[]).await;
        self.reopen();
        logout
    }

    /// Logs out as [`logout`](Self::logout) does, and takes the fields of `S` that stay with the browser along into the guest's
    /// session that begins: a theme, a language, a consent. That is a new session under a new id; nothing that follows the user is in
    /// it, no `guest` field, nothing of other structs, and of the flashes those that survive a logout.
    ///
    /// Give it a struct of its own that has such fields only: what says who somebody is or what they may do is not to stay.
    ///
    /// ```
    /// use session_runtime::{Error, Session};
    ///
    /// #[derive(Session)]
    /// struct Look {
    ///     theme: String,
    ///     language: Option<String>,
    /// }
    ///
    /// async fn sign_out(mut look: Session<Look>) -> Result<&'static str, Error> {
    ///     look.logout_keeping_fields().await?;
    ///     Ok("Goodbye.")
    /// }
    /// # let _ = sign_out;
    /// ```
    ///
    /// # Errors
    ///
    /// As [`logout`](Self::logout).
    pub async fn logout_keeping_fields(&mut self) -> Result<(), Error> {
        self.fold()?;
        let logout = Arc::clone(&self.request).logout(S::ROWS).await;
        self.reopen();
        logout
    }

    /// Credits the user with what the guest had gathered before the login in the fields of `S`, where
    /// [`SessionLayer::migrate(false)`](crate::SessionLayer::migrate) has left it set apart:
    /// [`Field::brought`](crate::Field::brought) shows it.
    ///
    /// ```
    /// # use session_runtime::{Error, Session};
    /// # #[derive(Session)]
    /// # struct Shop { #[merge(append)] cart: Vec<String> }
    /// /// "Add these items to your account?"
    /// async fn answer(mut session: Session<Shop>, yes: bool) -> Result<(), Error> {
    ///     if yes { session.migrate().await } else { session.discard().await }
    /// }
    /// # let _ = answer;
    /// ```
    ///
    /// # Errors
    ///
    /// If the store does not answer before the deadline. Where another handle of this request has changed something of the guest's
    /// during the login, what this request has changed is written first, with the errors of [`save`](Self::save).
    pub async fn migrate(&mut self) -> Result<(), Error> {
        self.settle_brought(Fate::Credited).await
    }

    /// Drops all that the guest had gathered before the login and the user has not been credited with.
    ///
    /// # Errors
    ///
    /// As [`migrate`](Self::migrate).
    pub async fn discard(&mut self) -> Result<(), Error> {
        self.settle_brought(Fate::Discarded).await
    }

    async fn settle_brought(&mut self, fate: Fate) -> Result<(), Error> {
        self.fold()?;
        let request = Arc::clone(&self.request);
        let settled = request.settle_brought(S::ROWS, fate).await;
        self.reopen();
        settled
    }

    /// Returns what this session is called towards [`Sessions`](crate::Sessions), once a user has logged in.
    pub fn device(&self) -> Option<String> {
        let facts = self.request.facts();
        let id = facts.id.filter(|_| facts.user.is_some())?;
        Some(id.selector().public_name())
    }

    /// Returns who is logged in.
    pub fn user(&self) -> Option<UserId> {
        self.request.facts().user
    }

    /// Returns when that user logged in.
    pub fn authenticated_at(&self) -> Option<SystemTime> {
        self.request.facts().authenticated.map(Into::into)
    }

    /// Gives this one session another idle lifetime, kept across requests: longer for "remember me", shorter
    /// on a shared computer. Never past the absolute limit. It counts from the write that stores it.
    pub fn set_ttl(&mut self, ttl: Duration) {
        self.request.set_ttl(ttl);
    }

    /// Ends this one session at that time, however much it is used until then: at midnight, or when an exam is over. It is kept
    /// across requests, rotations and logins; a logout ends it with the session. Said again, it moves, earlier or later. Never past the absolute limit;
    /// a time that is past ends the session with this request.
    ///
    /// ```
    /// # use session_runtime::Session;
    /// # use std::time::{Duration, SystemTime};
    /// # #[derive(Session)]
    /// # struct Exam { answers: Vec<String> }
    /// async fn begin(mut session: Session<Exam>) {
    ///     session.set_end(SystemTime::now() + Duration::from_secs(90 * 60));
    /// }
    /// # let _ = begin;
    /// ```
    pub fn set_end(&mut self, at: SystemTime) {
        self.request.set_end(at.into());
    }

    /// Has the browser keep the cookie when it is closed (`true`), or end it then (`false`): the box "remember me". For this
    /// one session, and kept across requests; [`CookieTransport`](crate::transport::CookieTransport::ends_with_browser) says
    /// what holds for the others. For how long the server keeps the session is [`set_ttl`](Self::set_ttl)'s.
    ///
    /// The browser is told with the next id. So call it in the request that logs in:
    ///
    /// ```
    /// # use session_runtime::{Error, Session};
    /// # use std::time::Duration;
    /// # #[derive(Session)]
    /// # struct Shop { #[merge(append)] cart: Vec<String> }
    /// async fn sign_in(mut session: Session<Shop>, remember_me: bool) -> Result<(), Error> {
    ///     session.remember(remember_me);
    ///     let hours = if remember_me { 30 * 24 } else { 2 };
    ///     session.set_ttl(Duration::from_secs(hours * 60 * 60)); // cut to `absolute`
    ///     session.login("user 42").await
    /// }
    /// # let _ = sign_in;
    /// ```
    pub fn remember(&mut self, wanted: bool) {
        self.request.remember(wanted);
    }

    /// Lifts the binding of this one session to an address and a user agent.
    pub fn unbind(&mut self) {
        self.request.unbind();
    }

    fn edits(&self, now: Timestamp) -> Result<Vec<CellEdit>, Error> {
        let mut edits = Vec::new();
        if self.may_have_edits() {
            let config = &self.request.config;
            let may_slide = || self.touches && config.watch.is_steady(now);
            let checks = config.check_values;
            S::visit(&self.cells, &mut |cell| {
                cell.edit(now, &may_slide, &mut edits)?;
                if checks {
                    cell.check()?;
                }
                Ok(())
            })?;
        }
        Ok(edits)
    }

    /// Returns `false` if no cell can have an edit, nor is to be checked: none was borrowed mutably, and none that counts
    /// was read.
    fn may_have_edits(&self) -> bool {
        self.borrowed
            || S::READING_COUNTS
            || self.request.has_read_flashes()
            || self.request.config.check_values
    }

    /// Folds what was changed into the request. `false` if the session was ended or replaced meanwhile,
    /// through another handle.
    fn fold(&mut self) -> Result<bool, Error> {
        let now = self.request.config.now();
        let edits = self.edits(now)?;
        self.request.check_fields(&edits)?;
        let folded = self.request.fold(self.generation, edits, now)?;
        self.reopen();
        Ok(folded)
    }

    /// Opens the cells anew, on what the request knows by now.
    fn reopen(&mut self) {
        let now = self.request.config.now();
        (self.cells, self.generation) = open::<S>(&self.request, now);
        if take(&mut self.borrowed) {
            self.request.closes_changes();
        }
    }
}

fn open<S: Schema>(request: &Arc<Request>, now: Timestamp) -> (Box<S::Cells>, u32) {
    request.view(now, |view| {
        Box::new(S::open(&mut Opener::new(view, now, request)))
    })
}

impl<S: Schema> Deref for Session<S> {
    type Target = S::Cells;

    fn deref(&self) -> &S::Cells {
        &self.cells
    }
}

impl<S: Schema> DerefMut for Session<S> {
    fn deref_mut(&mut self) -> &mut S::Cells {
        if !self.borrowed {
            self.borrowed = true;
            self.request.opens_changes();
        }
        &mut self.cells
    }
}

impl<S: Schema> Drop for Session<S> {
    fn drop(&mut self) {
        let _panic = Panic(&self.request);
        if !std::thread::panicking() && self.may_have_edits() {
            let now = self.request.config.now();
            self.request
                .fold_dropped(self.generation, self.edits(now), now);
        }
        if self.borrowed {
            self.request.closes_changes();
        }
    }
}

/// Tells the request of a panic: the handler's, or that of a value which is encoded or merged.
struct Panic<'a>(&'a Request);

impl Drop for Panic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked();
        }
    }
}

impl<S: Schema> fmt::Debug for Session<S> {
    /// Writes the fields' names, and whether and how long they have a value. No values, no id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Facts(bool, Option<Timestamp>);

        impl fmt::Debug for Facts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                describe(f, self.0, self.1)
            }
        }

        let mut fields = f.debug_struct("Session");
        let shown = S::visit(&self.cells, &mut |cell| {
            let (present, expires) = cell.facts();
            fields.field(own_name(cell.name()), &Facts(present, expires));
            Ok(())
        });
        shown.map_err(|_| fmt::Error)?;
        fields.finish_non_exhaustive()
    }
}

/// Says what there is of a field; from [`Session::field_facts`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldFacts {
    /// Its stored name.
    pub name: &'static str,
    /// `true` if it has a value.
    pub is_present: bool,
    /// The moment at which that expires, if it does before the session.
    pub expires_at: Option<SystemTime>,
}

/// The session of a request that does not count as use: it does not extend the session's lifetime.
///
/// For polling, and for whatever else a page does by itself while nobody is looking.
///
/// ```
/// use session_runtime::{PassiveSession, Session};
///
/// #[derive(Session)]
/// struct Shop {
///     cart: Vec<String>,
/// }
///
/// async fn badge(session: PassiveSession<Shop>) -> String {
///     session.cart.get().len().to_string()
/// }
/// # let _ = badge;
/// ```
#[must_use = "what is changed through a session is written when it drops"]
pub struct PassiveSession<S: Schema>(pub(crate) Session<S>);

impl<S: Schema> Deref for PassiveSession<S> {
    type Target = Session<S>;

    fn deref(&self) -> &Session<S> {
        &self.0
    }
}

impl<S: Schema> DerefMut for PassiveSession<S> {
    fn deref_mut(&mut self) -> &mut Session<S> {
        &mut self.0
    }
}

impl<S: Schema> fmt::Debug for PassiveSession<S> {
    /// As [`Session`]'s.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
