//! The rules that hold between options.

use crate::error::Errors;
use crate::model::Schema;

/// Checks them all.
pub(crate) fn all(schema: &Schema<'_>, errors: &mut Errors) {
    no_parameters(schema, errors);
}

/// A session is one type: it has no parameters.
fn no_parameters(schema: &Schema<'_>, errors: &mut Errors) {
    if !schema.input.generics.params.is_empty() {
        errors.add(
            &schema.input.generics.params,
            "a session has no type parameters or lifetimes",
        );
    }
}
