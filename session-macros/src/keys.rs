//! The one list of what can be written in the attributes.

use proc_macro2::Ident;

use crate::error::nearest;

// Attributes.
pub(crate) const SESSION: &str = "session";
pub(crate) const EXPIRE: &str = "expire";
pub(crate) const FLASH: &str = "flash";
pub(crate) const MERGE: &str = "merge";

// Keys of `#[session(…)]` on a struct; `merge` is one, too.
pub(crate) const TTL: &str = "ttl";
pub(crate) const ABSOLUTE: &str = "absolute";
pub(crate) const PREFIX: &str = "prefix";

// Keys of `#[session(…)]` on a field.
pub(crate) const RENAME: &str = "rename";
pub(crate) const ALIAS: &str = "alias";
pub(crate) const DEFAULT: &str = "default";
pub(crate) const UPGRADE: &str = "upgrade";

// Keys of `upgrade(…)`; `with` is a rule, too.
pub(crate) const FROM: &str = "from";
pub(crate) const WITH: &str = "with";

// The flag of `#[expire(…)]`.
pub(crate) const SLIDING: &str = "sliding";

// The rule that is no function.
pub(crate) const REJECT: &str = "reject";

/// A place where words are known.
pub(crate) struct Place {
    /// What the words are there.
    kind: &'static str,
    known: &'static [&'static str],
    /// Words that belong elsewhere, and what to write instead.
    elsewhere: &'static [(&'static str, &'static str)],
}

pub(crate) const ON_STRUCT: Place = Place {
    kind: "key of a struct",
    known: &[TTL, ABSOLUTE, PREFIX, MERGE],
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
            EXPIRE,
            "the lifetime of the whole session is `ttl = \"2h\"`; that of a field is `#[expire(\"1h\")]` above it",
        ),
        (FLASH, "`flash` is for a field: write `#[flash]` above it"),
    ],
};

pub(crate) const ON_FIELD: Place = Place {
    kind: "key of a field",
    known: &[RENAME, ALIAS, DEFAULT, UPGRADE],
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
    known: &[FROM, WITH],
    elsewhere: &[],
};

pub(crate) const RULES: Place = Place {
    kind: "merge rule",
    known: &[
        "user", "guest", "append", "union", "sum", "max", "min", "deep", REJECT, WITH,
    ],
    elsewhere: &[],
};

pub(crate) const MERGE_ON_STRUCT: &str = "the rule for every field of a struct is a key: `#[session(merge = sum)]`; for one field write `#[merge(sum)]` above it";

pub(crate) const WITH_ON_STRUCT: &str = "`with` is for a field, since it names a function of the field's type: write `#[merge(with = …)]` above it";

impl Place {
    pub(crate) fn knows(&self, word: &Ident) -> bool {
        self.known.iter().any(|known| word == known)
    }

    /// The fault that `word` is not known here.
    pub(crate) fn unknown(&self, word: &Ident) -> syn::Error {
        let elsewhere = self.elsewhere.iter().find(|(other, _)| word == other);
        syn::Error::new_spanned(
            word,
            elsewhere.map_or_else(|| self.not_known(word), |(_, advice)| (*advice).to_owned()),
        )
    }

    fn not_known(&self, word: &Ident) -> String {
        let guess = nearest(&word.to_string(), self.known);
        let guess = guess
            .map(|known| format!("; did you mean `{known}`?"))
            .unwrap_or_default();
        format!(
            "`{word}` is not a {}{guess}\nknown: {}",
            self.kind,
            self.list()
        )
    }

    /// The known words, for a message.
    pub(crate) fn list(&self) -> String {
        self.known
            .iter()
            .map(|known| format!("`{known}`"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// What a key or an attribute looks like when it is written.
pub(crate) fn usage(word: &str) -> &'static str {
    match word {
        SESSION => "#[session(key = value)]",
        EXPIRE => "#[expire(\"1h\")]",
        FLASH => "#[flash]",
        TTL => "ttl = \"2h\"",
        ABSOLUTE => "absolute = \"30d\"",
        MERGE => "#[merge(sum)]",
        PREFIX => "prefix = \"auth\"",
        RENAME => "rename = \"stored_name\"",
        ALIAS => "alias = \"older_name\"",
        DEFAULT => "default = expression",
        UPGRADE => "upgrade(from = OldType, with = function)",
        FROM => "from = OldType",
        WITH => "with = function",
        SLIDING => "#[expire(\"1h\", sliding)]",
        _ => "…",
    }
}
