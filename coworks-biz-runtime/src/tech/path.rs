//! Values in the path of a call.

use std::fmt::Display;

use percent_encoding::utf8_percent_encode;

use crate::config::RESERVED;
use crate::error::{Error, Result};

/// The path with each value as a part of one segment: what is no letter, digit, `-`, `.`, `_`
/// or `~` is percent-encoded.
///
/// A value that is empty, or with which a whole segment is `.` or `..`, would address something
/// else: that is fatal.
pub(super) fn fill(pieces: &[&str], values: &[&dyn Display]) -> Result<String> {
    let mut path = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        path.push_str(piece);
        let Some(value) = values.get(index) else { continue };
        let value = value.to_string();
        if value.is_empty() {
            return Err(refused(pieces, index, "is empty"));
        }
        let begins = path.rfind('/').map_or(0, |slash| slash + 1);
        path.extend(utf8_percent_encode(&value, RESERVED));
        let next = pieces.get(index + 1).copied().unwrap_or_default();
        let rest = next.split('/').next().unwrap_or_default();
        // Where the segment goes on with another value, that one decides.
        let open = rest.len() == next.len() && index + 1 < values.len();
        if !open && is_dots(&format!("{}{rest}", &path[begins..])) {
            return Err(refused(pieces, index, &format!("is `{value}`")));
        }
    }
    Ok(path)
}

/// One name as one segment, such as that of a service in the directory.
pub(super) fn segment(name: &str) -> Result<String> {
    fill(&["", ""], &[&name])
}

/// What the rules of addresses take for "here" or "one up", also in disguise.
fn is_dots(segment: &str) -> bool {
    matches!(segment.replace("%2e", ".").replace("%2E", ".").as_str(), "." | "..")
}

fn refused(pieces: &[&str], index: usize, how: &str) -> Error {
    let place = match pieces.iter().filter(|piece| !piece.is_empty()).count() {
        0 => String::new(),
        _ => format!(" in the path `{}`", pieces.join("{}")),
    };
    let nth = index + 1;
    Error::fatal(format!("value {nth}{place} {how}: the call would go to another address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Result<String> {
        fill(&["/customers/", "/orders"], &[&value])
    }

    #[test]
    fn a_value_stays_in_its_segment() {
        assert_eq!(one("a b/c?d#é%").unwrap(), "/customers/a%20b%2Fc%3Fd%23%C3%A9%25/orders");
        assert_eq!(one("a-b.c_d~e").unwrap(), "/customers/a-b.c_d~e/orders");
        assert_eq!(fill(&["/", "-", ".json"], &[&1, &"x"]).unwrap(), "/1-x.json");
        assert_eq!(fill(&["/a"], &[]).unwrap(), "/a");
    }

    #[test]
    fn a_value_that_would_address_something_else_is_refused() {
        for (error, how) in [(one(""), "is empty"), (one("."), "is `.`"), (one(".."), "is `..`")] {
            let error = error.unwrap_err();
            assert!(error.is_fatal());
            let text = format!(
                "value 1 in the path `/customers/{{}}/orders` {how}: the call would go to another address"
            );
            assert_eq!(error.to_string(), text);
        }
        assert!(fill(&["/", "", ""], &[&".", &"."]).is_err());
        assert!(fill(&["/%2E", ""], &[&"."]).is_err());
        assert!(fill(&["/.", "/x"], &[&"."]).is_err());
        assert_eq!(fill(&["/", "", "/x"], &[&".", &"a"]).unwrap(), "/.a/x");
        assert_eq!(fill(&["/", ".pdf"], &[&".."]).unwrap(), "/...pdf");
        assert!(segment("..").is_err());
    }
}
