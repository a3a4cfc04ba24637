//! The schema, as understood from the struct and its attributes.

use std::iter;

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::{Attribute, Data, DeriveInput, Fields, FieldsNamed, LitStr, Type, Visibility};

use crate::attr::{FieldOptions, StructOptions};
use crate::error::Errors;
use crate::value::Rule;

/// A struct that is to be a session.
pub(crate) struct Schema<'a> {
    pub(crate) input: &'a DeriveInput,
    pub(crate) options: StructOptions,
    pub(crate) fields: Vec<Field<'a>>,
}

/// One of its fields.
pub(crate) struct Field<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) vis: &'a Visibility,
    pub(crate) attrs: &'a [Attribute],
    pub(crate) ty: &'a Type,
    pub(crate) options: FieldOptions,
    pub(crate) name: StoredName,
    pub(crate) aliases: Vec<StoredName>,
}

/// The name of a slot, and where it was written.
pub(crate) struct StoredName {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl<'a> Schema<'a> {
    /// Whatever can be understood; what cannot is added to `errors`.
    pub(crate) fn read(input: &'a DeriveInput, errors: &mut Errors) -> Self {
        let options = StructOptions::read(&input.attrs, errors);
        let named = errors.keep(named_fields(input));
        let fields = named.into_iter().flat_map(|fields| &fields.named);
        let prefix = options.prefix.as_ref().map(|prefix| prefix.value.value());
        let read = |field| Field::read(field, prefix.as_deref(), errors);
        let fields = fields.filter_map(read).collect();
        Self {
            input,
            options,
            fields,
        }
    }

    /// The rule that a field names, or the struct's.
    pub(crate) fn rule_of<'b>(&'b self, field: &'b Field<'_>) -> Option<&'b Rule> {
        let of_struct = self.options.merge.as_ref();
        let of_struct = of_struct.filter(|_| !field.is_flash() && !field.is_guests());
        field
            .options
            .merge
            .as_ref()
            .or(of_struct)
            .map(|given| &given.value)
    }
}

impl<'a> Field<'a> {
    fn read(field: &'a syn::Field, prefix: Option<&str>, errors: &mut Errors) -> Option<Self> {
        let ident = field.ident.as_ref()?;
        let mut faults = Errors::default();
        let options = FieldOptions::read(&field.attrs, &mut faults);
        errors.of_field(ident, faults);
        let written = |name: &LitStr| StoredName::new(prefix, &name.value(), name.span());
        let own = || StoredName::new(prefix, &ident.unraw().to_string(), ident.span());
        let name = options
            .rename
            .as_ref()
            .map_or_else(own, |rename| written(&rename.value));
        let set_off = |name: StoredName| name.set_off(options.guest.is_some());
        let name = set_off(name);
        let aliases = options.aliases.iter().map(written).map(set_off).collect();
        let (vis, attrs, ty) = (&field.vis, &field.attrs, &field.ty);
        Some(Self {
            ident,
            vis,
            attrs,
            ty,
            options,
            name,
            aliases,
        })
    }

    pub(crate) fn is_flash(&self) -> bool {
        self.options.flash.is_some()
    }

    /// Returns `true` if it is a guest's alone.
    pub(crate) fn is_guests(&self) -> bool {
        self.options.guest.is_some()
    }

    /// Returns `true` if it stays with the browser though it has a rule.
    pub(crate) fn stays_with_browser(&self) -> bool {
        self.options.browser.is_some()
    }

    /// The flag, if using the field extends its life.
    pub(crate) fn sliding(&self) -> Option<&Ident> {
        self.options.expire.as_ref()?.value.sliding.as_ref()
    }

    /// The stored name, then the older ones.
    pub(crate) fn names(&self) -> impl Iterator<Item = &StoredName> {
        iter::once(&self.name).chain(&self.aliases)
    }
}

/// What the stored names of fields begin with that are a guest's alone: a login drops them by that, whichever struct
/// it knows.
const GUEST: &str = "@guest/";

impl StoredName {
    /// The name, set off from others if its field is a guest's alone.
    fn set_off(self, guests: bool) -> Self {
        let text = if guests {
            format!("{GUEST}{}", self.text)
        } else {
            self.text
        };
        Self { text, ..self }
    }

    fn new(prefix: Option<&str>, name: &str, span: Span) -> Self {
        let text = prefix.map_or_else(|| name.to_owned(), |prefix| format!("{prefix}.{name}"));
        Self { text, span }
    }
}

/// The fields, if it is a struct that has named ones.
fn named_fields(input: &DeriveInput) -> syn::Result<&FieldsNamed> {
    let name = &input.ident;
    let instead = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(named) => return Ok(named),
            Fields::Unnamed(_) => {
                format!("a session stores each field under its name: name the fields of `{name}`")
            }
            Fields::Unit => format!("a session without fields is written `struct {name} {{}}`"),
        },
        Data::Enum(_) => format!(
            "a session is a struct with named fields: let `{name}` be the type of such a field"
        ),
        Data::Union(_) => format!("a session is a struct with named fields: write `struct {name}`"),
    };
    Err(syn::Error::new_spanned(name, instead))
}
