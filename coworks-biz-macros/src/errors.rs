//! Everything that is wrong with a biz, gathered over all stages.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// Gathers errors. Must be turned into tokens: an error cannot be forgotten.
#[must_use]
#[derive(Default)]
pub struct Errors(Vec<syn::Error>);

impl Errors {
    /// Adds an error under these tokens.
    pub fn at(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.0.push(syn::Error::new_spanned(tokens, message));
    }

    /// Adds an error under this span.
    pub fn under(&mut self, span: Span, message: impl std::fmt::Display) {
        self.0.push(syn::Error::new(span, message));
    }

    /// Adds an error that a parser made.
    pub fn add(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    /// The value, or its error added.
    pub fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A `compile_error!` for each.
    pub fn into_tokens(self) -> TokenStream {
        self.0.iter().map(syn::Error::to_compile_error).collect()
    }
}

/// The candidate that `word` was probably meant to be: one that is nearly the same, or else begins so.
pub fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let begins_so = |candidate: &str| {
        let same = word.chars().zip(candidate.chars()).take_while(|(a, b)| a == b).count();
        same >= 3 && same + 1 >= word.chars().count()
    };
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .map(|(distance, candidate)| (distance > candidate.len().max(3) / 3, distance, candidate))
        .filter(|(is_far, _, candidate)| !is_far || begins_so(candidate))
        // The first letter is seldom the slip. The order of the candidates decides nothing.
        .min_by_key(|(is_far, distance, candidate)| {
            (*is_far, *distance, word.get(..1) != candidate.get(..1), *candidate)
        })
        .map(|(_, _, candidate)| candidate)
}

/// `; did you mean ..?`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    meant(word, candidates).map(|candidate| format!("; did you mean `{candidate}`?")).unwrap_or_default()
}

/// `did you mean ..?`, or all there are.
pub fn did_you_mean_or_all(word: &str, all: &[&str]) -> String {
    match meant(word, all.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("there are {}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognized_and_another_word_is_not() {
        let words = ["schedule", "retries", "retry_delay"];
        assert_eq!(meant("shedule", words), Some("schedule"));
        assert_eq!(meant("retry", words), Some("retries"));
        assert_eq!(meant("sch", words), Some("schedule"));
        assert_eq!(meant("delay", words), None);
        assert_eq!(did_you_mean("retires", words), "; did you mean `retries`?");
    }
}
