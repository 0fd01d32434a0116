//! Secrets: where they come from, and how they stay out of everything written; and variables, which are no secrets.

use std::borrow::Cow;
use std::fmt;
use std::sync::RwLock;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Environment;
use crate::value::Json;

/// Shorter values are ordinary words as likely as secrets, and are not searched for.
const SHORTEST: usize = 8;

/// What stands for itself nowhere in an address (RFC 3986).
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A value that is not to be seen: it prints as `***` and cannot be serialized.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret that no place has.
#[derive(Debug, thiserror::Error)]
#[error("the secret `{0}` is not set: put it into COWORKS_SECRET_{0} (or AIRFLOW_VAR_{0})")]
pub struct MissingSecret(pub String);

/// A variable that no place has.
#[derive(Debug, thiserror::Error)]
#[error("the variable `{0}` is not set: put it into COWORKS_VAR_{0} (or AIRFLOW_VAR_{0})")]
pub struct MissingVariable(pub String);

/// Finds secrets and variables by name, and remembers the secrets it gave out so that they
/// can be kept out of logs, errors and outputs.
pub struct Secrets {
    env: Environment,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    values: Vec<String>,
    /// The values and the ways in which JSON and Rust write them within quotes, and addresses in them.
    /// The longest first, so that none is cut by a shorter one within it.
    forms: Vec<String>,
}

impl Known {
    fn add(&mut self, value: &str) {
        if self.values.iter().any(|known| known == value) {
            return;
        }
        self.values.push(value.to_owned());
        let quoted = [serde_json::to_string(value).unwrap_or_default(), format!("{value:?}")];
        let inner = quoted.iter().filter_map(|text| text.get(1..text.len().saturating_sub(1)));
        self.forms.extend(inner.chain([value]).map(str::to_owned));
        self.forms.push(utf8_percent_encode(value, RESERVED).to_string());
        self.forms.push(form_urlencoded::byte_serialize(value.as_bytes()).collect());
        self.forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.forms.dedup();
    }

    fn is_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.as_str()))
    }
}

impl Secrets {
    /// Secrets from `COWORKS_SECRET_<NAME>`, else `AIRFLOW_VAR_<NAME>`, of this environment.
    pub fn new(env: Environment) -> Self {
        Self { env, known: RwLock::default() }
    }

    /// The secret of this name, without the line end that files and pipes leave behind it.
    pub fn get(&self, name: &str) -> Result<Secret, MissingSecret> {
        let value = self.look_up("COWORKS_SECRET", name).ok_or_else(|| MissingSecret(name.to_owned()))?;
        let value = value.trim_end_matches(['\r', '\n']);
        self.hide(value);
        Ok(Secret::new(value))
    }

    /// The variable of this name, from `COWORKS_VAR_<NAME>`, else `AIRFLOW_VAR_<NAME>`. It may be seen.
    pub fn variable(&self, name: &str) -> Result<String, MissingVariable> {
        self.look_up("COWORKS_VAR", name).ok_or_else(|| MissingVariable(name.to_owned()))
    }

    fn look_up(&self, prefix: &str, name: &str) -> Option<String> {
        let upper = name.to_uppercase();
        [format!("{prefix}_{name}"), format!("{prefix}_{upper}"), format!("AIRFLOW_VAR_{upper}")]
            .iter()
            .find_map(|variable| self.env.get(variable))
    }

    /// Takes a value that came from elsewhere among those kept out of what is written.
    pub fn hide(&self, value: &str) {
        if value.len() >= SHORTEST {
            self.known.write().unwrap_or_else(|e| e.into_inner()).add(value);
        }
    }

    /// The text with `***` in place of each known secret, also where it is quoted.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for form in &self.known.read().unwrap_or_else(|e| e.into_inner()).forms {
            if text.contains(form.as_str()) {
                text = Cow::Owned(text.replace(form.as_str(), "***"));
            }
        }
        text
    }

    /// The path of the first string in `json` that holds a known secret, such as `$.order.key`.
    pub fn find_in(&self, json: &Json) -> Option<String> {
        let known = self.known.read().unwrap_or_else(|e| e.into_inner());
        // A text without any of them, quoted or not, needs no parsing.
        let suspect = json.as_str().contains('\\') || known.is_in(json.as_str());
        if known.values.is_empty() || !suspect {
            return None;
        }
        let mut search = Search { known: &known, path: "$".to_owned(), found: None };
        let looked = Here(&mut search).deserialize(&mut serde_json::Deserializer::from_str(json.as_str()));
        match (looked, search.found) {
            (_, Some(found)) => Some(found),
            (Ok(()), None) => None,
            // Nested too deeply to look into: as a text, then.
            (Err(_), None) => known.is_in(json.as_str()).then(|| "some depth".to_owned()),
        }
    }
}

/// Looks through JSON and keeps nothing of it, for it may be large.
struct Search<'a> {
    known: &'a Known,
    /// Where it is.
    path: String,
    /// The first place with a secret.
    found: Option<String>,
}

impl Search<'_> {
    fn look(&mut self, text: &str) {
        if self.found.is_none() && self.known.is_in(text) {
            self.found = Some(self.path.clone());
        }
    }
}

/// The value at the place where the search is.
struct Here<'a, 's>(&'a mut Search<'s>);

impl<'de> DeserializeSeed<'de> for Here<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Here<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    // A secret may be a number, such as a PIN.
    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.0.look(&number.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.0.look(&number.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.0.look(&Value::from(number).to_string());
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.look(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        for index in 0_u64.. {
            self.0.path.push_str(&format!("[{index}]"));
            let item = list.next_element_seed(Here(&mut *self.0))?;
            self.0.path.truncate(length);
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        while let Some(key) = map.next_key::<String>()? {
            if self.0.found.is_none() && self.0.known.is_in(&key) {
                self.0.found = Some(format!("a key of {}", self.0.path));
            }
            self.0.path.push('.');
            self.0.path.push_str(&key);
            map.next_value_seed(Here(&mut *self.0))?;
            self.0.path.truncate(length);
        }
        Ok(())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secrets() -> Secrets {
        Secrets::new(Environment::from(|name| match name {
            "COWORKS_SECRET_API" => Some("s3cret\"value".into()),
            "AIRFLOW_VAR_OLD" => Some("from-airflow".into()),
            "COWORKS_SECRET_SHORT" => Some("abc".into()),
            _ => None,
        }))
    }

    #[test]
    fn a_secret_is_found_and_prints_as_stars() {
        let secret = secrets().get("API").unwrap();
        assert_eq!(secret.expose(), "s3cret\"value");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secrets().get("old").unwrap().expose(), "from-airflow");
    }

    #[test]
    fn a_variable_is_found_and_a_missing_one_says_where_to_put_it() {
        let env = Environment::from(|name| match name {
            "COWORKS_VAR_PAGE" | "AIRFLOW_VAR_PAGE" => Some(name.to_lowercase()),
            "AIRFLOW_VAR_OLD" => Some("from-airflow".into()),
            _ => None,
        });
        let secrets = Secrets::new(env);
        assert_eq!(secrets.variable("page").unwrap(), "coworks_var_page");
        assert_eq!(secrets.variable("old").unwrap(), "from-airflow");
        assert_eq!(secrets.scrub("from-airflow"), "from-airflow");
        assert_eq!(
            secrets.variable("NONE").unwrap_err().to_string(),
            "the variable `NONE` is not set: put it into COWORKS_VAR_NONE (or AIRFLOW_VAR_NONE)"
        );
    }

    #[test]
    fn a_missing_secret_says_where_to_put_it() {
        assert_eq!(
            secrets().get("NONE").unwrap_err().to_string(),
            "the secret `NONE` is not set: put it into COWORKS_SECRET_NONE (or AIRFLOW_VAR_NONE)"
        );
    }

    #[test]
    fn what_was_given_out_is_scrubbed_but_short_words_are_not() {
        let secrets = secrets();
        assert_eq!(secrets.scrub("s3cret\"value"), "s3cret\"value");
        secrets.get("API").unwrap();
        secrets.get("SHORT").unwrap();
        assert_eq!(secrets.scrub("the s3cret\"value, abc"), "the ***, abc");
    }

    #[test]
    fn a_secret_is_scrubbed_as_json_and_rust_write_it_and_the_longest_first() {
        let secrets = secrets();
        let key = "a \"b\"\nc\\d-\u{7f}secret";
        secrets.hide("accounting");
        secrets.hide("accounting-2026!");
        secrets.hide(key);
        assert_eq!(secrets.scrub("accounting-2026! accounting"), "*** ***");
        let json = serde_json::to_string(&json!({"event": format!("it is {key}")})).unwrap();
        assert!(!secrets.scrub(&json).contains("secret"), "{}", secrets.scrub(&json));
        assert_eq!(secrets.scrub(&format!("{key:?}")), "\"***\"");
        secrets.hide("a secret/value");
        assert_eq!(secrets.scrub("no page /a%20secret%2Fvalue?k=a+secret%2Fvalue"), "no page /***?k=***");
    }

    #[test]
    fn a_secret_is_found_however_deep_it_is() {
        let secrets = secrets();
        secrets.hide("very-secret");
        let deep = Json::from_stored(format!("{}\"very-secret\"{}", "[".repeat(500), "]".repeat(500)));
        assert_eq!(secrets.find_in(&deep).as_deref(), Some("some depth"));
    }

    #[test]
    fn a_secret_in_an_output_is_found_by_its_path_also_where_json_escapes_it() {
        let secrets = secrets();
        secrets.get("API").unwrap();
        let json = Json::encode(&json!({"a": [1, {"key": "x s3cret\"value y"}]})).unwrap();
        assert_eq!(secrets.find_in(&json).as_deref(), Some("$.a[1].key"));
        secrets.hide("1234567890");
        let json = Json::encode(&json!({"a": [true, null, 0.5, -7], "pin": [[], 1234567890]})).unwrap();
        assert_eq!(secrets.find_in(&json).as_deref(), Some("$.pin[1]"));
        let json = Json::encode(&json!({"a": {"x1234567890": "1234567890"}})).unwrap();
        assert_eq!(secrets.find_in(&json).as_deref(), Some("a key of $.a"));
        assert_eq!(secrets.find_in(&Json::encode("a \"quoted\" word").unwrap()), None);
    }
}
