//! Values that a field can be set to.

/// Types of fields that can be set to a `V`: to a value of the type itself, to what an `Option` holds, and to text that is
/// borrowed where a `String` is kept.
///
/// For [`Field::set`](crate::Field::set), [`Flash::set`](crate::Flash::set) and [`Flash::now`](crate::Flash::now). The value's type
/// is the parameter, and not what implements the trait, so that the compiler finds it by the field's: `set(text.parse()?)`.
///
/// ```
/// use session_runtime::{Error, Session};
///
/// #[derive(Session)]
/// struct Shop {
///     theme: String,
///     name: Option<String>,
///     page_size: Option<u32>,
///     #[flash]
///     notice: Option<String>,
/// }
///
/// async fn choose(mut session: Session<Shop>, theme: String) -> Result<(), std::num::ParseIntError> {
///     session.theme.set(&theme);
///     session.name.set("Ada"); // or `Some("Ada".to_owned())`, or `None`
///     session.page_size.set(Some("20".parse()?));
///     session.notice.set(format!("From now on it is {theme}."));
///     Ok(())
/// }
/// # let _ = choose;
/// ```
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be set to a `{V}`",
    label = "not a `{Self}`"
)]
pub trait SetFrom<V> {
    /// Converts it.
    fn set_from(value: V) -> Self;
}

impl<T> SetFrom<T> for T {
    fn set_from(value: T) -> T {
        value
    }
}

impl<T> SetFrom<T> for Option<T> {
    fn set_from(value: T) -> Self {
        Some(value)
    }
}

impl SetFrom<&str> for String {
    fn set_from(text: &str) -> Self {
        text.to_owned()
    }
}

impl SetFrom<&Self> for String {
    fn set_from(text: &Self) -> Self {
        text.clone()
    }
}

impl SetFrom<&str> for Option<String> {
    fn set_from(text: &str) -> Self {
        Some(text.to_owned())
    }
}

impl SetFrom<&String> for Option<String> {
    fn set_from(text: &String) -> Self {
        Some(text.clone())
    }
}
