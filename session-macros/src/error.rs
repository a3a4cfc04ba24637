//! Faults: gathered while the struct is read, reported all at once.

use proc_macro2::{Ident, TokenStream};

/// The faults found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// The value, if there is one; else its fault is kept.
    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Adds the faults of a field, under its name.
    pub(crate) fn of_field(&mut self, field: &Ident, faults: Self) {
        for fault in faults.0.into_iter().flatten() {
            let named = format!("field `{field}`: {fault}");
            self.push(syn::Error::new(fault.span(), named));
        }
    }

    /// The faults as one.
    pub(crate) fn into_result(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }

    /// The faults as compile errors, if there are any.
    pub(crate) fn report(&self) -> Option<TokenStream> {
        self.0.as_ref().map(syn::Error::to_compile_error)
    }

    /// Adds a fault.
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }
}

/// A question to add to a message, if some known word is like `word`.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let question = |known| format!("; did you mean `{known}`?");
    nearest(word, known).map_or_else(String::new, question)
}

/// The known word that is most like `word`, if one is like it at all: a third of the letters may differ.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, nearest) = known
        .iter()
        .map(|&known| (distance(word, known), known))
        .min()?;
    let length = word.chars().count().max(nearest.chars().count());
    (distance <= length.max(3) / 3).then_some(nearest)
}

/// Counts the letters to insert, remove, replace or swap with their neighbour to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let edited = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            let swaps = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            row.push(if swaps {
                edited.min(rows[i - 2][j - 2] + 1)
            } else {
                edited
            });
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn a_slip_of_the_finger_is_one_edit() {
        for slip in ["tl", "ttll", "txl", "tlt"] {
            assert_eq!(distance(slip, "ttl"), 1, "{slip}");
        }
        assert_eq!(distance("", "ttl"), 3);
        assert_eq!(distance("ttl", "ttl"), 0);
    }

    #[test]
    fn only_a_word_that_is_like_it_is_named() {
        let known = ["ttl", "absolute", "prefix"];
        assert_eq!(nearest("tll", &known), Some("ttl"));
        assert_eq!(nearest("apsolut", &known), Some("absolute"));
        assert_eq!(nearest("cookie", &known), None);
        assert_eq!(nearest("ttl", &[]), None);
    }
}
