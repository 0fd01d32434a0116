//! Tokens as text: as people write them, and the names that stand in them.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::LitStr;

/// Tokens as people write them.
pub fn tokens(tokens: &impl ToTokens) -> String {
    // `a && b` is no reference to `b`.
    const AND: &str = "\u{1}";
    tidied(
        tokens.to_token_stream().to_string(),
        &[
            (" && ", AND),
            (" :: ", "::"),
            (" . ", "."),
            (" : ", ": "),
            (" ,", ","),
            ("& ", "&"),
            ("( ", "("),
            (" )", ")"),
            (" (", "("),
            ("! ", "!"),
            (AND, " && "),
        ],
    )
}

/// A type as people write it.
pub fn ty(ty: &impl ToTokens) -> String {
    tidied(tokens(ty), &[(" < ", "<"), ("< ", "<"), (" >", ">"), (" <", "<")])
}

fn tidied(text: String, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

/// The names that `secret("..")` and `var("..")` have in some tokens.
#[derive(Default)]
pub struct Names {
    pub secrets: Vec<String>,
    pub variables: Vec<String>,
}

impl Names {
    pub fn find(&mut self, tokens: &impl ToTokens) {
        self.find_in(tokens.to_token_stream());
    }

    fn find_in(&mut self, tokens: TokenStream) {
        let mut word = String::new();
        for token in tokens {
            if let TokenTree::Group(group) = &token {
                let list = match word.as_str() {
                    "secret" => Some(&mut self.secrets),
                    "var" => Some(&mut self.variables),
                    _ => None,
                };
                match (list, syn::parse2::<LitStr>(group.stream())) {
                    (Some(list), Ok(name)) if !list.contains(&name.value()) => list.push(name.value()),
                    _ => self.find_in(group.stream()),
                }
            }
            word = match token {
                TokenTree::Ident(name) => name.to_string(),
                _ => String::new(),
            };
        }
    }
}
