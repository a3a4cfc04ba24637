//! The fields that follow a user, as the app itself sees them: outside of the user's requests.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::error::Error;
use crate::request::Saved;
use crate::schema::Schema;
use crate::session::Session;

/// The fields of `S` that follow a user, outside of any session: from
/// [`Sessions::with_user`](crate::Sessions::with_user).
///
/// It derefs to the same cells as a [`Session`]. What is changed is written by [`save`](Self::save) and by nothing else, and
/// merged by the fields' rules with what others write meanwhile. Fields that stay with a browser are absent here; changing one
/// is an error of `save`.
///
/// ```
/// use session_runtime::{Error, Saved, Session, SessionLayer, UserId, store::MemoryStore};
///
/// #[derive(Session)]
/// struct Shop {
///     #[merge(user)]
///     newsletter: bool,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let sessions = SessionLayer::new(MemoryStore::new()).sessions();
/// let mut ada = sessions.with_user::<Shop>("ada").await?;
/// ada.newsletter.set(true);
/// assert_eq!(ada.save().await?, Saved::Written);
/// assert!(*sessions.with_user::<Shop>("ada").await?.newsletter.get());
/// # Ok(())
/// # }
/// ```
#[must_use = "what is changed through it is written by `save`"]
pub struct UserFields<S: Schema>(pub(crate) Session<S>);

impl<S: Schema> UserFields<S> {
    /// Returns the cells, for borrowing several of them at once.
    ///
    /// ```
    /// # use session_runtime::{Session, UserFields};
    /// # #[derive(Session)]
    /// # struct Shop { #[merge(append)] cart: Vec<String>, #[merge(append)] saved: Vec<String> }
    /// fn save_for_later(ada: &mut UserFields<Shop>) {
    ///     let shop = ada.fields();
    ///     shop.saved.get_mut().append(shop.cart.get_mut());
    /// }
    /// # let _ = save_for_later;
    /// ```
    pub fn fields(&mut self) -> &mut S::Cells {
        self
    }

    /// Writes what was changed, on top of what is there by now, and says what came of it. A user who has no record yet
    /// gets one.
    ///
    /// [`Saved::Ended`] means that the user was [deleted](crate::Sessions::delete), before this was looked up or since:
    /// nothing is written, be there a new record under the same name by now.
    ///
    /// ```
    /// # use session_runtime::{Error, Saved, Session, Sessions};
    /// # #[derive(Session)]
    /// # struct Shop { #[merge(sum)] points: u32 }
    /// async fn expire_points(sessions: Sessions) -> Result<bool, Error> {
    ///     let mut ada = sessions.with_user::<Shop>("ada").await?;
    ///     ada.points.clear();
    ///     Ok(ada.save().await? != Saved::Ended)
    /// }
    /// # let _ = expire_points;
    /// ```
    ///
    /// # Errors
    ///
    /// If a field was changed that stays with the browser, if a value is too large or cannot be stored (the changes are
    /// kept, so that they can be mended), or if the store does not answer before the deadline. What is not known to be written is asked for again by the next `save`.
    pub async fn save(&mut self) -> Result<Saved, Error> {
        if let Some(field) = self.0.changed_of_browser()? {
            return Err(Error::of_browser(field));
        }
        self.0.save().await
    }
}

impl<S: Schema> Deref for UserFields<S> {
    type Target = S::Cells;

    fn deref(&self) -> &S::Cells {
        &self.0
    }
}

impl<S: Schema> DerefMut for UserFields<S> {
    fn deref_mut(&mut self) -> &mut S::Cells {
        &mut self.0
    }
}

impl<S: Schema> fmt::Debug for UserFields<S> {
    /// As [`Session`]'s.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
