//! What becomes of a body while it arrives: no more of it is held than is wanted, and that in one form.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::error::Result;
use crate::value::{Bytes, Content, Json, LARGEST, Type};

/// How much of a body there is for messages and the log, whatever becomes of the rest.
const BEGINNING: usize = 64 << 10;

/// The JSON around bytes that are base64.
const AROUND: [&str; 2] = [r#"{"__bytes__":""#, r#""}"#];

/// What is wanted of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// All of it.
    Whole,
    /// All of it, as bytes.
    Bytes,
    /// Bytes, unless it may be an envelope.
    Stored,
    /// The beginning.
    Nothing,
}

impl Want {
    /// What is wanted of an answer with this status, for an output of this type.
    pub(super) fn of(status: u16, output: Option<&Type>) -> Self {
        let Some(shape) = output.map(Type::shape) else {
            // Nobody knows who looks at it by name.
            return if status < 400 { Self::Whole } else { Self::Nothing };
        };
        match (status, shape.body) {
            // The body of a failure is a value of a reply only.
            (400.., _) => {
                if shape.reply {
                    Self::Whole
                } else {
                    Self::Nothing
                }
            }
            (_, Content::Nothing) => Self::Nothing,
            (_, Content::Bytes) => Self::Bytes,
            (_, Content::Any | Content::Text) => Self::Whole,
        }
    }

    /// What is wanted of an object that a service has left. The status is in it, so that it is held.
    #[cfg(feature = "s3")]
    pub(super) fn of_object(output: Option<&Type>) -> Self {
        match output.map(|output| output.shape().body) {
            Some(Content::Bytes) => Self::Stored,
            _ => Self::Whole,
        }
    }

    /// How much of such a body is taken, in bytes; `None` where it does not matter.
    fn most(self) -> Option<u64> {
        match self {
            Self::Whole | Self::Stored => Some(LARGEST as u64),
            Self::Bytes => Some((LARGEST as u64 - AROUND.concat().len() as u64) / 4 * 3),
            Self::Nothing => None,
        }
    }
}

/// A body is larger than what is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge {
    /// As far as it is known.
    size: Option<u64>,
    want: Want,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let most = self.want.most().unwrap_or_default() >> 20;
        match self.size {
            Some(size) => write!(f, "{} MiB, and {most} MiB at most are taken", mib(size))?,
            None => write!(f, "more than the {most} MiB that are taken at most")?,
        }
        if self.want == Want::Bytes {
            write!(f, " of bytes, which are base64 between tasks")?;
        }
        f.write_str("; let the service store it elsewhere, and answer where")
    }
}

/// A body that arrives.
#[derive(Debug)]
pub(super) struct Intake {
    want: Want,
    size: u64,
    /// The expected size, where it is known.
    expected: Option<u64>,
    /// As it came: all of it, or the beginning.
    held: Vec<u8>,
    encoder: Option<Encoder>,
}

impl Intake {
    /// A body of this size, where that is known before. It may be too large already.
    pub(super) fn new(want: Want, expected: Option<u64>) -> Result<Self, TooLarge> {
        if want.most().zip(expected).is_some_and(|(most, size)| size > most) {
            return Err(TooLarge { size: expected, want });
        }
        let mut intake = Self { want, size: 0, expected, held: Vec::new(), encoder: None };
        match want {
            Want::Whole => intake.held.reserve_exact(intake.room()),
            Want::Bytes => intake.encode(),
            Want::Stored | Want::Nothing => {}
        }
        Ok(intake)
    }

    /// The room to make for it at once. What is only promised is never touched, and takes no memory.
    fn room(&self) -> usize {
        self.expected.map_or(0, |size| usize::try_from(size).unwrap_or(LARGEST).min(LARGEST))
    }

    fn encode(&mut self) {
        self.want = Want::Bytes;
        self.encoder = Some(Encoder::new(self.room()));
    }

    /// Takes in the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        if self.want == Want::Stored
            && let Some(first) = piece.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            match first {
                b'{' => {
                    self.want = Want::Whole;
                    self.held.reserve_exact(self.room());
                }
                _ => {
                    self.encode();
                    // White space that came before.
                    if let Some(encoder) = &mut self.encoder {
                        encoder.push(&self.held);
                    }
                    self.held.truncate(BEGINNING);
                }
            }
        }
        self.size += piece.len() as u64;
        if self.want.most().is_some_and(|most| self.size > most) {
            return Err(TooLarge { size: self.expected.filter(|&size| size >= self.size), want: self.want });
        }
        match self.want {
            Want::Whole | Want::Stored => self.held.extend_from_slice(piece),
            Want::Bytes | Want::Nothing => {
                let room = BEGINNING.saturating_sub(self.held.len());
                self.held.extend_from_slice(&piece[..piece.len().min(room)]);
            }
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.push(piece);
        }
        Ok(())
    }

    /// Whether as much has come as messages and the log may tell.
    pub(super) fn has_begun(&self) -> bool {
        self.held.len() >= BEGINNING
    }

    /// All has arrived.
    pub(super) fn finish(self) -> Body {
        let Self { want, size, held, encoder, .. } = self;
        let form = match (want, encoder) {
            (_, Some(encoder)) => Form::Encoded { json: encoder.finish(), beginning: held },
            (Want::Nothing, None) => Form::Dropped { beginning: held },
            (_, None) => Form::Whole(held),
        };
        Body { size, form }
    }
}

/// Base64 of bytes that come in pieces.
#[derive(Debug)]
struct Encoder {
    json: String,
    /// What is not yet three bytes.
    rest: Vec<u8>,
}

impl Encoder {
    fn new(size: usize) -> Self {
        let mut json = String::with_capacity(size.div_ceil(3) * 4 + AROUND.concat().len());
        json.push_str(AROUND[0]);
        Self { json, rest: Vec::with_capacity(3) }
    }

    fn push(&mut self, mut piece: &[u8]) {
        if !self.rest.is_empty() {
            let taken = piece.len().min(3 - self.rest.len());
            self.rest.extend_from_slice(&piece[..taken]);
            piece = &piece[taken..];
            if self.rest.len() < 3 {
                return;
            }
            STANDARD.encode_string(&self.rest, &mut self.json);
            self.rest.clear();
        }
        let (whole, rest) = piece.split_at(piece.len() / 3 * 3);
        STANDARD.encode_string(whole, &mut self.json);
        self.rest.extend_from_slice(rest);
    }

    fn finish(mut self) -> String {
        STANDARD.encode_string(&self.rest, &mut self.json);
        self.json.push_str(AROUND[1]);
        self.json
    }
}

/// A body that has arrived.
#[derive(Debug)]
pub struct Body {
    size: u64,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// As it came.
    Whole(Vec<u8>),
    /// As the JSON of [`Bytes`].
    Encoded {
        json: String,
        beginning: Vec<u8>,
    },
    Dropped {
        beginning: Vec<u8>,
    },
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self { size: bytes.len() as u64, form: Form::Whole(bytes) }
    }
}

impl Body {
    /// How many bytes it had.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// As much of it as messages and the log may tell.
    pub(super) fn beginning(&self) -> &[u8] {
        let (Form::Whole(beginning) | Form::Encoded { beginning, .. } | Form::Dropped { beginning }) =
            &self.form;
        &beginning[..beginning.len().min(BEGINNING)]
    }

    /// The bytes, where they are held as they came; else itself.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, Self> {
        match self.form {
            Form::Whole(bytes) => Ok(bytes),
            Form::Encoded { .. } | Form::Dropped { .. } => Err(self),
        }
    }

    /// The value as an output with this content wants it; nothing is `null`.
    pub(super) fn into_json(self, content: Content) -> Result<Json> {
        let bytes = match self.form {
            Form::Encoded { json, .. } => return Ok(Json::from_stored(json)),
            Form::Dropped { .. } => return Ok(Json::from_stored("null")),
            Form::Whole(bytes) => bytes,
        };
        if content == Content::Bytes {
            return Json::encode(&Bytes::from(bytes));
        }
        match String::from_utf8(bytes) {
            Ok(text) if text.is_empty() && content == Content::Text => Ok(Json::from_stored(r#""""#)),
            Ok(text) if text.is_empty() => Ok(Json::from_stored("{}")),
            Ok(text) => from_text(text, content),
            Err(e) => Json::encode(&Bytes::from(e.into_bytes())),
        }
    }
}

/// The JSON of a text: itself when it is JSON, else a string of it.
fn from_text(text: String, content: Content) -> Result<Json> {
    let json = serde_json::from_str::<&RawValue>(&text).ok().map(RawValue::get);
    match json {
        // Who asks for a `String` takes `123` as the text it is.
        Some(json) if json.starts_with('"') || content != Content::Text => {
            let start = text.len() - text.trim_ascii_start().len();
            let end = start + json.len();
            Ok(Json::from_stored(cut(text, start, end)))
        }
        _ => Json::encode(&text),
    }
}

/// A piece of a text, in its place.
pub(super) fn cut(mut text: String, start: usize, end: usize) -> String {
    text.truncate(end);
    text.drain(..start);
    text.shrink_to_fit();
    text
}

/// The beginning of a text without half a character at its end; `None` where it is no text.
pub(super) fn text_of(beginning: &[u8]) -> Option<&str> {
    match std::str::from_utf8(beginning) {
        Ok(text) => Some(text),
        Err(e) if e.error_len().is_none() && beginning.len() == BEGINNING => {
            std::str::from_utf8(&beginning[..e.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// The beginning of what a JSON string says.
pub(super) fn beginning_of_string(json: &str) -> Option<String> {
    if json.len() <= BEGINNING {
        return serde_json::from_str(json).ok();
    }
    // An escape is two characters, that of a character beyond the sixteenth bit twelve: not one is cut.
    let mut end = 1;
    let mut rest = json[1..].char_indices();
    while let Some((at, character)) = rest.next() {
        end = 1 + at;
        if end >= BEGINNING || character == '"' {
            break;
        }
        if character == '\\' {
            let unicode = rest.next().is_some_and(|(_, kind)| kind == 'u');
            let code = if unicode { json.get(end + 2..end + 6) } else { None };
            let pair = code
                .and_then(|code| u16::from_str_radix(code, 16).ok())
                .is_some_and(|c| (0xd800..0xdc00).contains(&c));
            for _ in 0..(4 * usize::from(unicode) + 6 * usize::from(pair)) {
                rest.next();
            }
        }
    }
    serde_json::from_str(&format!("{}\"", &json[..end])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Reply;

    fn taken(want: Want, expected: Option<u64>, pieces: &[&[u8]]) -> Result<Body, TooLarge> {
        let mut intake = Intake::new(want, expected)?;
        for piece in pieces {
            intake.push(piece)?;
        }
        Ok(intake.finish())
    }

    #[test]
    fn what_is_wanted_follows_from_the_status_and_the_type() {
        for (status, output, want) in [
            (200, Some(Type::of::<String>()), Want::Whole),
            (200, Some(Type::of::<Bytes>()), Want::Bytes),
            (200, Some(Type::of::<()>()), Want::Nothing),
            (200, None, Want::Whole),
            (500, None, Want::Nothing),
            (404, Some(Type::of::<Bytes>()), Want::Nothing),
            (404, Some(Type::of::<Reply<Bytes>>()), Want::Whole),
            (200, Some(Type::of::<Reply<Bytes>>()), Want::Bytes),
        ] {
            assert_eq!(Want::of(status, output.as_ref()), want, "{status} {output:?}");
        }
    }

    #[test]
    fn bytes_are_the_same_in_whatever_pieces_they_come() {
        let bytes: Vec<u8> = (0..=255).collect();
        for size in [1, 2, 3, 4, 5, 255] {
            let pieces: Vec<_> = bytes.chunks(size).collect();
            for want in [Want::Bytes, Want::Stored] {
                let body = taken(want, None, &pieces).unwrap();
                assert_eq!((body.size(), body.beginning()), (256, &*bytes));
                let json = body.into_json(Content::Bytes).unwrap();
                assert_eq!(json, Json::encode(&Bytes::from(bytes.clone())).unwrap(), "{size}");
            }
        }
        // What may be an envelope is held as it came.
        let body = taken(Want::Stored, None, &[b" \n", b"{", b"\xff"]).unwrap();
        assert_eq!(body.into_bytes().unwrap(), b" \n{\xff");
        let body = taken(Want::Stored, None, &[b" \n", b"x"]).unwrap();
        assert_eq!(body.into_json(Content::Bytes).unwrap().decode::<Bytes>().unwrap().to_vec(), b" \nx");
        let none = taken(Want::Stored, Some(0), &[]).unwrap();
        assert_eq!(none.into_json(Content::Bytes).unwrap().as_str(), r#"{"__bytes__":""}"#);
    }

    #[test]
    fn what_is_too_large_is_refused_as_soon_as_it_is_known() {
        let large = LARGEST as u64;
        let refusal =
            |want, expected, pieces: &[&[u8]]| taken(want, expected, pieces).unwrap_err().to_string();
        let advice = "let the service store it elsewhere, and answer where";
        assert_eq!(
            refusal(Want::Whole, Some(large + 1), &[]),
            format!("65 MiB, and 64 MiB at most are taken; {advice}")
        );
        assert_eq!(
            refusal(Want::Bytes, Some(large - 1), &[]),
            format!(
                "64 MiB, and 47 MiB at most are taken of bytes, which are base64 between tasks; {advice}"
            )
        );
        let half = vec![b'x'; LARGEST / 2 + 1];
        assert_eq!(
            refusal(Want::Whole, None, &[&half, &half]),
            format!("more than the 64 MiB that are taken at most; {advice}")
        );
        assert!(taken(Want::Stored, Some(large), &[&half, &half]).is_err());
        let body = taken(Want::Nothing, Some(9 * large), &[&half, &half, &half]).unwrap();
        assert_eq!((body.size(), body.beginning().len()), (3 * half.len() as u64, BEGINNING));
    }

    #[test]
    fn a_text_that_is_json_is_cut_out_of_the_space_around_it() {
        assert_eq!(
            Body::from(b" {\"a\": 1} \n".to_vec()).into_json(Content::Any).unwrap().as_str(),
            r#"{"a": 1}"#
        );
        assert_eq!(Body::from(b"x\"".to_vec()).into_json(Content::Any).unwrap().as_str(), r#""x\"""#);
    }

    #[test]
    fn the_beginning_of_a_text_is_cut_between_characters() {
        let long = "é".repeat(BEGINNING);
        let body = Body::from(format!("x{long}").into_bytes());
        assert_eq!(text_of(body.beginning()).unwrap().chars().count(), BEGINNING / 2);
        assert_eq!(text_of(b"x\xc3"), None);
        assert_eq!(text_of(b"\xff"), None);

        for unit in [r"\u00e9", r"\ud83d\ude00", r"\\", r#"\""#, "é"] {
            for shift in 0..13 {
                let json = format!("\"{}{}\"", "x".repeat(shift), unit.repeat(BEGINNING));
                let text = beginning_of_string(&json).unwrap_or_else(|| panic!("{unit} after {shift}"));
                let whole: String = serde_json::from_str(&json).unwrap();
                assert!(whole.starts_with(&text) && text.len() > BEGINNING / 8, "{unit} after {shift}");
            }
        }
        assert_eq!(beginning_of_string(r#""a""#).as_deref(), Some("a"));
    }
}
