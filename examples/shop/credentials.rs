//! Names and passwords, as people type them.

use std::fmt;

use argon2::Argon2;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};
use unicode_normalization::UnicodeNormalization;

/// The longest name, in characters.
pub(crate) const LONGEST_NAME: usize = 40;

/// The shortest password, in characters. Length is all that is asked of it: other rules make people write it down.
pub(crate) const SHORTEST_PASSWORD: usize = 10;

/// The name of an account. `Ada`, `ada` and `ADA ` are one, and so are `Strauß` and `STRAUSS`.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    shown: String,
    folded: String,
}

impl Name {
    /// # Errors
    ///
    /// In the shop's words, for whoever typed it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let plain: String = text.nfkc().collect();
        let shown = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        let seen: String = shown.chars().filter(|c| !is_unseen(*c)).collect();
        // There and back: `ß` is `SS` in capitals.
        let folded = seen.to_uppercase().to_lowercase().nfkc().collect();
        match shown.chars().count() {
            _ if seen.trim().is_empty() => Err("What shall we call you?"),
            length if length > LONGEST_NAME => Err("Is there a shorter form of it?"),
            _ if shown.chars().any(char::is_control) => Err("We cannot read that one."),
            _ => Ok(Self { shown, folded }),
        }
    }

    /// As it was typed, but for spaces.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// As names are compared.
    pub(crate) fn folded(&self) -> &str {
        &self.folded
    }
}

/// Returns `true` for what takes no room on a screen: some scripts need it within words, and nobody can tell whether it is there.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A password, for as long as it takes to look at it.
pub(crate) struct Password(String);

impl Password {
    /// As it was typed. Keyboards differ in the bytes of one letter.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.nfkc().collect())
    }

    /// Says what is wrong with it for a new account of that name.
    pub(crate) fn problem(&self, name: &Name) -> Option<&'static str> {
        if self.0.chars().count() < SHORTEST_PASSWORD {
            Some("Ten characters or more, please. A few words will do.")
        } else if self.0.to_lowercase().contains(name.folded())
            && 2 * name.folded().len() > self.0.len()
        {
            Some("That is hardly more than your name. Can you think of another?")
        } else {
            None
        }
    }

    /// Returns what is kept of it: salt, parameters and hash. Takes time and memory, so that guessing does too.
    pub(crate) fn hash(&self) -> Result<String, Error> {
        Ok(Argon2::default()
            .hash_password(self.0.as_bytes())?
            .to_string())
    }

    /// Returns `true` if this is what `hash` was made of.
    pub(crate) fn fits(&self, hash: &str) -> Result<bool, Error> {
        match Argon2::default().verify_password(self.0.as_bytes(), hash) {
            Ok(()) => Ok(true),
            Err(Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(REDACTED)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        Name::parse(text).unwrap().folded().to_owned()
    }

    #[test]
    fn names_that_read_alike_are_one() {
        assert_eq!(folded("Ada"), folded(" ADA\t"));
        assert_eq!(folded("Zoë  M."), folded("zoe\u{308} m."));
        assert_eq!(folded("\u{ff21}da"), "ada");
        assert_ne!(folded("Ada"), folded("Eda"));
        assert_eq!(folded("Strauß"), folded("STRAUSS"));
        assert_eq!(
            folded("A\u{200b}da\u{2060}"),
            folded("Ada"),
            "nobody sees the difference"
        );
        assert_eq!(
            folded("\u{a8}x"),
            folded(Name::parse("\u{a8}x").unwrap().shown())
        );
        assert_eq!(Name::parse("  Zoë  M. ").unwrap().shown(), "Zoë M.");
    }

    #[test]
    fn what_is_no_name_is_asked_again() {
        for text in [
            "",
            " \t ",
            "\u{200b}",
            "\u{202e} \u{3164}",
            "a\u{0}b",
            &"x".repeat(LONGEST_NAME + 1),
        ] {
            assert!(Name::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_long_and_more_than_the_name() {
        let ada = Name::parse("Ada Lovelace").unwrap();
        let problem = |text| Password::new(text).problem(&ada);
        assert!(problem("ninechars").is_some());
        assert!(problem("ADA lovelace1").is_some());
        assert_eq!(problem("tenletters"), None);
    }

    #[test]
    fn a_hash_fits_its_password_from_any_keyboard() {
        let hash = Password::new("Zoë's heron").hash().unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(Password::new("Zoe\u{308}'s heron").fits(&hash).unwrap());
        assert!(!Password::new("zoë's heron").fits(&hash).unwrap());
        assert_ne!(Password::new("Zoë's heron").hash().unwrap(), hash, "salted");
        assert!(!format!("{:?}", Password::new("heron")).contains("heron"));
    }
}
