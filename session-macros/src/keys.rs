//! The one list of what can be written in the attributes.

use proc_macro2::Ident;

use crate::error::did_you_mean;

// Attributes.
pub(crate) const SESSION: &str = "session";
pub(crate) const EXPIRE: &str = "expire";
pub(crate) const FLASH: &str = "flash";
pub(crate) const MERGE: &str = "merge";
pub(crate) const SERDE: &str = "serde"; // refused

// Keys of `#[session(…)]` on a struct; `merge` is one, too.
pub(crate) const TTL: &str = "ttl";
pub(crate) const ABSOLUTE: &str = "absolute";
pub(crate) const PREFIX: &str = "prefix";
pub(crate) const CELLS: &str = "cells";
pub(crate) const CRATE: &str = "crate"; // of `#[merge(…)]` on a part, too

// Keys of `#[session(…)]` on a field.
pub(crate) const RENAME: &str = "rename";
pub(crate) const ALIAS: &str = "alias";
pub(crate) const DEFAULT: &str = "default";
pub(crate) const UPGRADE: &str = "upgrade";
pub(crate) const GUEST: &str = "guest";
pub(crate) const ORDERED: &str = "ordered";

// Keys of `upgrade(…)`; `with` is a rule and a key of a field, too.
pub(crate) const FROM: &str = "from";
pub(crate) const WITH: &str = "with";

// The flag of `#[merge(…)]`.
pub(crate) const BROWSER: &str = "browser";

// The flag of `#[expire(…)]`.
pub(crate) const SLIDING: &str = "sliding";

// The rules that are more than the name of a function; so is `with`.
pub(crate) const BY_KEY: &str = "by_key";
pub(crate) const REJECT: &str = "reject";

/// A place where words are known.
pub(crate) struct Place {
    /// What the words are there.
    kind: &'static str,
    /// The one that shows how they are written.
    example: &'static str,
    known: &'static [&'static str],
    /// Words that belong elsewhere, and what to write instead.
    elsewhere: &'static [(&'static str, &'static str)],
}

pub(crate) const ON_STRUCT: Place = Place {
    kind: "key of a struct",
    example: TTL,
    known: &[TTL, ABSOLUTE, PREFIX, MERGE, CELLS, CRATE],
    elsewhere: &[
        (
            RENAME,
            "`rename` is for a field: write `#[session(rename = \"…\")]` above it; a struct has `prefix = \"…\"`",
        ),
        (
            ALIAS,
            "`alias` is for a field: write `#[session(alias = \"…\")]` above it",
        ),
        (
            DEFAULT,
            "`default` is for a field: write `#[session(default = …)]` above it",
        ),
        (
            UPGRADE,
            "`upgrade` is for a field: write `#[session(upgrade(from = …, with = …))]` above it",
        ),
        (
            WITH,
            "`with` is for a field: write `#[session(with = module)]` above it",
        ),
        (
            GUEST,
            "`guest` is for a field: write `#[session(guest)]` above it",
        ),
        (
            ORDERED,
            "`ordered` is for a field: write `#[session(ordered)]` above it",
        ),
        (
            EXPIRE,
            "the lifetime of the whole session is `ttl = \"2h\"`; that of a field is `#[expire(\"1h\")]` above it",
        ),
        (FLASH, "`flash` is for a field: write `#[flash]` above it"),
    ],
};

pub(crate) const ON_FIELD: Place = Place {
    kind: "key of a field",
    example: RENAME,
    known: &[RENAME, ALIAS, DEFAULT, UPGRADE, GUEST, WITH, ORDERED],
    elsewhere: &[
        (
            TTL,
            "`ttl` is for the whole struct; a field's own lifetime is an attribute: `#[expire(\"1h\")]`",
        ),
        (
            ABSOLUTE,
            "`absolute` is for the whole struct: write `#[session(absolute = \"30d\")]` above it",
        ),
        (
            PREFIX,
            "`prefix` is for the whole struct; a field's stored name is `rename = \"…\"`",
        ),
        (
            CELLS,
            "`cells` is for the whole struct: write `#[session(cells = Name)]` above it",
        ),
        (
            CRATE,
            "`crate` is for the whole struct: write `#[session(crate = path)]` above it",
        ),
        (
            MERGE,
            "a field's rule is an attribute of its own: write `#[merge(…)]`",
        ),
        (
            EXPIRE,
            "a field's lifetime is an attribute of its own: write `#[expire(\"1h\")]`",
        ),
        (
            FLASH,
            "`flash` is an attribute of its own: write `#[flash]`",
        ),
    ],
};

pub(crate) const IN_UPGRADE: Place = Place {
    kind: "key of `upgrade`",
    example: FROM,
    known: &[FROM, WITH],
    elsewhere: &[],
};

/// What becomes of a part that names no rule; it has no name in attributes.
pub(crate) const LATER: &str = "later";

/// The rules that any place knows.
macro_rules! rules {
    ($($more:expr),*) => {
        &[
            "user", "guest", "append", "union", "sum", "max", "min", "deep", "left_precedent",
            "right_precedent", "storage_precedent", "retainment_precedent", $($more),*
        ]
    };
}

/// Above a field of a session.
pub(crate) const RULES: Place = Place {
    kind: "merge rule",
    example: WITH,
    known: rules![REJECT, BY_KEY, WITH],
    elsewhere: &[],
};

/// For every field of a session.
pub(crate) const RULES_OF_STRUCT: Place = Place {
    kind: "merge rule",
    example: MERGE,
    known: rules![REJECT],
    elsewhere: &[
        (
            BY_KEY,
            "`by_key` is for a field, since it names a field of the list's items: write `#[merge(by_key = …)]` above it",
        ),
        (
            WITH,
            "`with` is for a field, since it names a function of the field's type: write `#[merge(with = …)]` above it",
        ),
    ],
};

/// Above a field of a struct that derives `Merge`.
pub(crate) const RULES_OF_PART: Place = Place {
    kind: "merge rule",
    example: WITH,
    known: rules![BY_KEY, WITH],
    elsewhere: &[(
        REJECT,
        "`reject` refuses a request, which only a field of the session can: write `#[merge(reject)]` above that field",
    )],
};

/// What is no part of `#[derive(Merge)]`.
pub(crate) const ON_PART: Place = Place {
    kind: "attribute of a part",
    example: MERGE,
    known: &[MERGE],
    elsewhere: &[
        (
            SESSION,
            "`session` is for a struct that derives `Session`: here `#[serde(…)]` says how a field is stored, and `#[merge(…)]` how it merges",
        ),
        (
            EXPIRE,
            "only a field of the session expires, whole: write `#[expire(…)]` above that field",
        ),
        (
            FLASH,
            "only a field of the session is a flash, whole: write `#[flash]` above that field",
        ),
    ],
};

/// What to write instead of one of serde's keys, above a field of a session.
const SERDE_ON_FIELD: &[(&str, &str)] = &[
    ("rename", "write `#[session(rename = \"…\")]`"),
    ("alias", "write `#[session(alias = \"…\")]`"),
    (
        "default",
        "a field that is absent has its type's `Default`: remove this, or write `#[session(default = …)]`",
    ),
    ("with", "write `#[session(with = module)]`"),
    ("serialize_with", TWO_FUNCTIONS),
    ("deserialize_with", TWO_FUNCTIONS),
    ("skip", STORED),
    ("skip_serializing", STORED),
    ("skip_deserializing", STORED),
    (
        "skip_serializing_if",
        "a field that was never set, or was cleared, takes no room: remove this",
    ),
    (
        "flatten",
        "each field is stored on its own: write the fields of the type here instead of it, or remove this",
    ),
    (
        "borrow",
        "a session owns its values: write `String` instead of `Cow<str>`",
    ),
];

const STORED: &str = "every field is stored; take this one out of the struct: what is for one request belongs into its extensions";

const TWO_FUNCTIONS: &str = "write `#[session(with = module)]`, of a module with the functions `serialize` and `deserialize`";

/// The same above the struct.
const SERDE_ON_STRUCT: &[(&str, &str)] = &[
    ("rename_all", RENAME_EACH),
    ("rename_all_fields", RENAME_EACH),
    ("crate", CRATE_OF_SESSIONS),
    (
        "default",
        "write `#[session(default = …)]` above each field that is to have a value of its own while it is absent",
    ),
    (
        "deny_unknown_fields",
        "several structs can share a session, and each leaves the others' fields alone: remove this",
    ),
];

const CRATE_OF_SESSIONS: &str =
    "to say where this crate is found, write `#[session(crate = path)]`; else remove this";

const RENAME_EACH: &str =
    "write `#[session(rename = \"…\")]` above each field that is to have another stored name";

const FIELD_BY_FIELD: &str = "each field is stored on its own: remove this, or keep the value that needs it in a type of its own";

/// The fault that one of serde's keys is not heeded.
pub(crate) fn serde_key(key: &Ident, on_struct: bool) -> syn::Error {
    let table = if on_struct {
        SERDE_ON_STRUCT
    } else {
        SERDE_ON_FIELD
    };
    let advice = table.iter().find(|(known, _)| key == known);
    let advice = advice.map_or(FIELD_BY_FIELD, |(_, advice)| advice);
    syn::Error::new_spanned(
        key,
        format!("`#[serde({key})]` has no effect on a session: {advice}"),
    )
}

pub(crate) const MERGE_ON_STRUCT: &str = "the rule for every field of a struct is a key: `#[session(merge = sum)]`; for one field write `#[merge(sum)]` above it";

pub(crate) const MERGE_ON_PARTS: &str = "a rule stands above the field that it is for: move `#[merge(…)]` there; above the struct only `#[merge(crate = path)]` has a meaning";

impl Place {
    pub(crate) fn knows(&self, word: &Ident) -> bool {
        self.known.iter().any(|known| word == known)
    }

    /// The fault that `word` is not known here.
    pub(crate) fn unknown(&self, word: &Ident) -> syn::Error {
        let elsewhere = self.elsewhere.iter().find(|(other, _)| word == other);
        let advice = elsewhere.map(|(_, advice)| (*advice).to_owned());
        syn::Error::new_spanned(word, advice.unwrap_or_else(|| self.not_known(word)))
    }

    fn not_known(&self, word: &Ident) -> String {
        let guess = did_you_mean(&word.to_string(), self.known);
        format!("`{word}` is not a {}{guess}\n{}", self.kind, self.list())
    }

    /// Says what was expected where there is no word at all.
    pub(crate) fn expected(&self) -> String {
        format!("expected a {}\n{}", self.kind, self.list())
    }

    /// The known words, as a line of a message.
    pub(crate) fn list(&self) -> String {
        let known = self.known.join("`, `");
        format!("known: `{known}`, as in `{}`", usage(self.example))
    }
}

/// Shows a key or an attribute as it is written.
pub(crate) fn usage(word: &str) -> &'static str {
    match word {
        EXPIRE => "#[expire(\"1h\")]",
        TTL => "ttl = \"2h\"",
        ABSOLUTE => "absolute = \"30d\"",
        MERGE => "merge = sum",
        PREFIX => "prefix = \"auth\"",
        CELLS => "cells = ShopCells",
        CRATE => "crate = house::sessions",
        RENAME => "rename = \"stored_name\"",
        ALIAS => "alias = \"older_name\"",
        DEFAULT => "default = expression",
        UPGRADE => "upgrade(from = OldType, with = function)",
        GUEST => "#[session(guest)]",
        ORDERED => "#[session(ordered)]",
        FROM => "from = OldType",
        BY_KEY => "by_key = field",
        WITH => "with = function",
        BROWSER => "#[merge(sum, browser)]",
        SLIDING => "#[expire(\"1h\", sliding)]",
        _ => "…",
    }
}
