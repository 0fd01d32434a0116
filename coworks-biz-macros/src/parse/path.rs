//! The path of a call: `"/orders/{order.id}"`.

use proc_macro2::Span;
use syn::parse::ParseStream;
use syn::{Expr, LitStr};

/// A path, with the expressions in it.
pub struct PathTemplate {
    pub literal: LitStr,
    /// What is between the expressions: one more than there are.
    pub pieces: Vec<String>,
    pub values: Vec<Expr>,
}

impl PathTemplate {
    /// Reads the next token.
    pub fn parse(input: ParseStream, span: Span) -> syn::Result<Self> {
        let path: LitStr = input
            .parse()
            .map_err(|_| syn::Error::new(span, "after the method comes the path: `GET \"/path\"`"))?;
        let text = path.value();
        if !text.starts_with('/') {
            return Err(syn::Error::new(path.span(), format!("a path begins with `/`: \"/{text}\"")));
        }
        let (pieces, values) = template(&path)?;
        if pieces.iter().any(|piece| piece.contains(['?', '#'])) {
            let how = "a path has no `?` and no `#`: give what is behind it as `query = ..`";
            return Err(syn::Error::new(path.span(), how));
        }
        let literal = LitStr::new(&pieces.concat(), path.span());
        Ok(Self { literal, pieces, values })
    }
}

/// Takes `"/orders/{order.id}"` apart; `{{` and `}}` stand for themselves.
fn template(path: &LitStr) -> syn::Result<(Vec<String>, Vec<Expr>)> {
    let wrong = |message: &str| syn::Error::new(path.span(), message);
    let (mut pieces, mut values, mut piece) = (Vec::new(), Vec::new(), String::new());
    let text = path.value();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        piece.push_str(&rest[..at]);
        let (brace, behind) = rest[at..].split_at(1);
        if let Some(behind) = behind.strip_prefix(brace) {
            piece.push_str(brace);
            rest = behind;
            continue;
        }
        if brace == "}" {
            return Err(wrong("this `}` closes nothing; `}}` stands for itself"));
        }
        let end = closing(behind).ok_or_else(|| wrong("this `{` is not closed; `{{` stands for itself"))?;
        if behind[..end].trim().is_empty() {
            return Err(wrong("`{}` is empty: say whose value it is, `{order.id}`"));
        }
        let expression: Expr = LitStr::new(&behind[..end], path.span())
            .parse()
            .map_err(|e| wrong(&format!("`{{{}}}` is no expression: {e}", &behind[..end])))?;
        values.push(expression);
        pieces.push(std::mem::take(&mut piece));
        rest = &behind[end + 1..];
    }
    piece.push_str(rest);
    pieces.push(piece);
    Ok((pieces, values))
}

/// Where the brace before this text is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}
