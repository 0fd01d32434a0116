//! Calls of technical microservices as CoWorks itself makes them: what `tests/coworks/run` runs and compares.

use coworks_biz::prelude::*;
use coworks_biz::{Address, Form, Given, TechService};
use serde::{Deserialize, Serialize};

/// Every answer that an entry can give, of one service.
macro_rules! answers {
    ($(#[$doc:meta])* $name:ident, ($($how:tt)*), ($($service:tt)*)) => {
        $(#[$doc])*
        #[biz]
        fn $name() {
            let text: String = tech!($($how)* GET "/text", $($service)*);
            let unicode: Value = tech!($($how)* GET "/unicode", $($service)*);
            let unicode_text: String = tech!($($how)* GET "/unicode/text", $($service)*);
            let dict: Value = tech!($($how)* GET "/dict", $($service)*);
            let typed: Dict = tech!($($how)* GET "/dict", $($service)*);
            let list: Vec<Value> = tech!($($how)* GET "/list", $($service)*);
            let number: f64 = tech!($($how)* GET "/number", $($service)*);
            let numeral: Value = tech!($($how)* GET "/numeral", $($service)*);
            let numeral_text: String = tech!($($how)* GET "/numeral", $($service)*);
            let zeros: Value = tech!($($how)* GET "/zeros", $($service)*);
            let null: Value = tech!($($how)* GET "/null", $($service)*);
            let absent: Option<u32> = tech!($($how)* GET "/null", $($service)*);
            let empty: Value = tech!($($how)* GET "/empty", $($service)*);
            let empty_text: String = tech!($($how)* GET "/empty", $($service)*);
            let nothing: Value = tech!($($how)* GET "/nothing", $($service)*);
            let no_content: Reply<u32> = tech!($($how)* GET "/nothing", $($service)*);
            let dropped: () = tech!($($how)* GET "/dict", $($service)*);
            let created: Reply<Value> = tech!($($how)* GET "/created", $($service)*);
            let binary: Bytes = tech!($($how)* GET "/binary", accept = "application/octet-stream", $($service)*);
            let disguised: Bytes =
                tech!($($how)* GET "/disguised", accept = "application/octet-stream", $($service)*);
            let open: Value = tech!($($how)* GET "/open", $($service)*);

            let bad: Reply<Value> = tech!($($how)* GET "/bad", $($service)*);
            let missing: Reply<Value> = tech!($($how)* GET "/missing", $($service)*);
            let teapot: Reply<Value> = tech!($($how)* GET "/refuse/418", $($service)*);
            let broken: Reply<Value> = tech!($($how)* GET "/refuse/500", $($service)*);
            let raised: Reply<Value> = tech!($($how)* GET "/raise", $($service)*);
            let surplus: Reply<Value> = tech!($($how)* GET "/query", query = [("unknown", 1)], $($service)*);

            // What was said, as the code of a biz sees it.
            #[task]
            async fn bytes(binary: Bytes, disguised: Bytes) -> Result<(usize, u32, String)> {
                let sum = binary.iter().map(|&byte| u32::from(byte)).sum();
                Ok((binary.len(), sum, String::from_utf8_lossy(&disguised).into_owned()))
            }
            #[task]
            async fn kinds(
                created: Reply<Value>,
                no_content: Reply<u32>,
                missing: Reply<Value>,
                teapot: Reply<Value>,
            ) -> Result<Vec<String>> {
                let of = |reply: Reply<Value>| match reply {
                    Reply::Success(value) => format!("success {value}"),
                    Reply::NoContent => "no content".to_owned(),
                    Reply::Failure(failure) => format!("failure {} {}", failure.status, failure.body),
                };
                let no_content = match no_content {
                    Reply::NoContent => "no content".to_owned(),
                    other => format!("{other:?}"),
                };
                Ok(vec![of(created), no_content, of(missing), of(teapot)])
            }
        }
    };
}

#[derive(Serialize, Deserialize)]
struct Dict {
    id: u32,
    rate: f64,
    tags: Vec<String>,
    none: Option<String>,
    big: u64,
}

answers!(
    /// Of Flask, by its name in the directory.
    by_flask, (), (cws_name = "suite-flask")
);
answers!(
    /// Of Lambda, by the id of its API.
    by_lambda, (), (api_id = "suite", stage = "prod", token = secret("SUITE_TOKEN"))
);
answers!(
    /// Of Lambda, left in S3.
    by_s3, (async), (api_id = "suite", stage = "prod", token = secret("SUITE_TOKEN"))
);

/// Everything that a call can send, of one service.
macro_rules! questions {
    ($(#[$doc:meta])* $name:ident, ($($how:tt)*), ($($service:tt)*)) => {
        $(#[$doc])*
        #[biz]
        fn $name(conf: Order) {
            let pairs: Value = tech!($($how)* GET "/query", $($service)*, query = [
                ("page", conf.page),
                ("tag", conf.tags),
                ("note", conf.note),
                ("text", conf.text),
            ]);
            let object: Value = tech!($($how)* GET "/query", $($service)*,
                query = json!({ "page": conf.page, "tag": conf.tags, "note": conf.note, "text": conf.text }));
            let path: Value = tech!($($how)* GET "/orders/{conf.text}/{conf.page}", $($service)*);
            let json: Value = tech!($($how)* POST "/json", $($service)*,
                json = json!({ "name": conf.text, "lines": [conf.page, { "tags": conf.tags }], "none": conf.note }));
            let put: Value = tech!($($how)* PUT "/json", $($service)*, json = json!({ "name": conf.page }));
            let patch: Value = tech!($($how)* PATCH "/json", $($service)*, json = json!({ "name": conf.tags }));
            let delete: Value = tech!($($how)* DELETE "/json", $($service)*, json = json!({ "name": conf.text }));
            let delete_nothing: Value = tech!($($how)* DELETE "/json", $($service)*);
            let post_nothing: Value = tech!($($how)* POST "/json", $($service)*);
            let form: Value = tech!($($how)* POST "/form", $($service)*,
                data = Form(json!({ "name": conf.text, "tag": conf.tags })));
            let headers: Value = tech!($($how)* GET "/open", $($service)*, headers = [
                ("X-Page", conf.page),
                ("X-Note", conf.note),
                ("Accept", "application/vnd.api+json"),
                ("Authorization", "not this one"),
            ]);
        }
    };
}

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    page: u32,
    tags: Vec<String>,
    note: Option<String>,
    text: String,
}

questions!(asks_flask, (), (cws_name = "suite-flask"));
questions!(asks_lambda, (), (cws_name = "suite-lambda", stage = "prod"));
questions!(asks_s3, (async), (cws_name = "suite-lambda"));

/// A body that is no object, which CoWorks takes under Flask.
#[biz]
fn any_body() {
    let list: Value = tech!(POST "/any", cws_name = "suite-flask", json = json!([1, "é"]));
    let text: Value = tech!(POST "/any", cws_name = "suite-flask", json = "text");
    let number: Value = tech!(POST "/any", cws_name = "suite-flask", json = 7);
}

/// The query of one call and the JSON of another, made by a task.
#[biz]
fn transformed(conf: Order) {
    async fn for_query(conf: Order) -> Result<Value> {
        Ok(json!({ "page": conf.page, "tag": conf.tags, "note": conf.note, "text": conf.text }))
    }
    async fn for_json(conf: Order) -> Result<Value> {
        Ok(json!({ "name": conf.text, "lines": conf.tags, "none": conf.note }))
    }
    let got: Value = tech!(async GET "/query", cws_name = "suite-lambda", transformer = for_query(conf));
    let made: Value = tech!(async POST "/json", cws_name = "suite-lambda", transformer = for_json(conf));
}

/// A call for each item, and what they are together.
#[biz]
fn mapped(conf: Vec<u32>) {
    for n in conf {
        let now: Value = tech!(GET "/item/{n}", cws_name = "suite-flask");
        let later: Value = tech!(async GET "/item/{n}", cws_name = "suite-lambda");
    }
    #[task]
    async fn together(now: Vec<Value>, later: Vec<Value>) -> Result<Value> {
        Ok(json!([now, later]))
    }
}

/// Services that are at an address: one that is fixed, and one that a type says.
#[biz]
fn addressed() {
    let fixed: Value = tech!(GET "/dict", url = "http://services.invalid", token = secret("SUITE_TOKEN"));
    let own: Value = tech!(GET "/dict", service = Company);
    let own_later: Value = tech!(async GET "/dict", service = Company);
    let open: Value = tech!(GET "/open", url = "http://services.invalid/", no_auth);
}

/// A company's own way to its services.
struct Company;

impl TechService for Company {
    fn address(&self) -> Address {
        Address::Named { cws_name: "suite-lambda".into(), stage: Some("prod".into()) }
    }

    fn headers(&self) -> Vec<(String, Given)> {
        vec![("X-Company".into(), "neorezo".to_owned().into())]
    }

    fn token(&self) -> Option<Given> {
        Some(secret("SUITE_TOKEN").into())
    }
}

/// What a gateway and Flask say to who is not let in, or asks for what is not there.
#[biz]
fn turned_away() {
    let no_token: Reply<Value> = tech!(GET "/dict", api_id = "suite", stage = "prod", no_auth);
    let wrong_token: Reply<Value> =
        tech!(GET "/dict", api_id = "suite", stage = "prod", token = "a-wrong-token");
    let unknown_path: Reply<Value> =
        tech!(GET "/nowhere", api_id = "suite", stage = "prod", token = secret("SUITE_TOKEN"));
    let unknown_method: Reply<Value> =
        tech!(PUT "/dict", api_id = "suite", stage = "prod", token = secret("SUITE_TOKEN"));
    let unknown_stage: Reply<Value> =
        tech!(GET "/dict", api_id = "suite", stage = "v9", token = secret("SUITE_TOKEN"));
    let another_type: Reply<Value> =
        tech!(POST "/json", api_id = "suite", stage = "prod", token = secret("SUITE_TOKEN"), data = "a;b");
    let too_slow: Reply<Value> = tech!(GET "/slow", api_id = "suite", stage = "prod",
        token = secret("SUITE_TOKEN"), query = [("seconds", 3)]);
    let flask_no_token: Reply<Value> = tech!(GET "/dict", cws_name = "suite-without-token", no_auth);
    let flask_without_token: Reply<Value> = tech!(GET "/dict", cws_name = "suite-without-token");
    let flask_wrong_token: Reply<Value> =
        tech!(GET "/dict", cws_name = "suite-flask", token = "a-wrong-token");
    let flask_unknown_path: Reply<Value> = tech!(GET "/nowhere", cws_name = "suite-flask");
    let flask_unknown_method: Reply<Value> = tech!(PUT "/dict", cws_name = "suite-flask");
}

/// Names that the directory does not know.
#[biz(retries = 2, retry_delay = "50ms")]
fn unknown_names() {
    let nobody: Value = tech!(GET "/dict", cws_name = "suite-nobody");
    let no_stage: Value = tech!(GET "/dict", cws_name = "suite-lambda", stage = "v9");
    let broken: Value = tech!(async GET "/dict", cws_name = "suite-broken");
}

/// Calls that are not even taken: the call fails, and nothing waits.
#[biz(retries = 2, retry_delay = "50ms")]
fn not_taken() {
    let no_token: Value = tech!(async GET "/dict", api_id = "suite", stage = "prod", no_auth);
    let wrong_token: Reply<Value> =
        tech!(async GET "/dict", api_id = "suite", stage = "prod", token = "a-wrong-token");
    let unknown_path: Value =
        tech!(async GET "/nowhere", api_id = "suite", stage = "prod", token = secret("SUITE_TOKEN"));
    let another_type: Value = tech!(async POST "/json", api_id = "suite", stage = "prod", token = secret("SUITE_TOKEN"), data = "a;b");
}

/// Refusals fail the task that reads them.
#[biz(retries = 1, retry_delay = "50ms")]
fn refused() {
    let missing: Value = tech!(GET "/missing", cws_name = "suite-flask");
    let bad: Value = tech!(GET "/bad", cws_name = "suite-lambda");
    let broken: Value = tech!(GET "/refuse/500", cws_name = "suite-lambda");
    let missing_later: Value = tech!(async GET "/missing", cws_name = "suite-lambda");
    let bad_later: Value = tech!(async GET "/bad", cws_name = "suite-lambda");
    let broken_later: Value = tech!(async GET "/refuse/500", cws_name = "suite-lambda");
    let raised_later: Value = tech!(async GET "/raise", cws_name = "suite-lambda");
}

/// Refusals that pass by themselves: 503, and then 200; some say when.
#[biz(retries = 2, retry_delay = "50ms")]
fn transient() {
    let flask: Value = tech!(GET "/transient/flask", cws_name = "suite-flask");
    let lambda: Value = tech!(GET "/transient/lambda", cws_name = "suite-lambda");
    let later: Value = tech!(async GET "/transient/later", cws_name = "suite-lambda");
    let busy_flask: Value = tech!(GET "/busy/flask", cws_name = "suite-flask");
    let busy_lambda: Value = tech!(GET "/busy/lambda", cws_name = "suite-lambda");
    let busy_later: Value = tech!(async GET "/busy/later", cws_name = "suite-lambda");
}

/// What takes its time: longer than the gateway waits, which does not wait for an event.
#[biz]
fn slow() {
    let flask: Value = tech!(GET "/slow", cws_name = "suite-flask", query = [("seconds", 3)]);
    let later: Value = tech!(async GET "/slow", cws_name = "suite-lambda", query = [("seconds", 3)]);
}

/// An answer that comes after the first wait for it is over.
#[biz(retries = 1, retry_delay = "50ms")]
fn late() {
    let answer: Value =
        tech!(async GET "/slow", cws_name = "suite-lambda", query = [("seconds", 3)], timeout = "2s");
}

/// Services that leave no answer: one dies, one raises in debug mode, which the stage `dev` is in.
#[biz]
fn vanished() {
    let dead: Value = tech!(async GET "/vanish", cws_name = "suite-lambda", timeout = "3s");
    let debugged: Value = tech!(async GET "/raise", cws_name = "suite-lambda", stage = "dev", timeout = "3s");
}

/// 20 MB of text, now and later, and of JSON.
#[biz]
fn large() {
    let text: String = tech!(GET "/large/text", cws_name = "suite-flask");
    let text_later: String = tech!(async GET "/large/text", cws_name = "suite-lambda");
    let json_later: Vec<Value> = tech!(async GET "/large/json", cws_name = "suite-lambda");

    #[task]
    async fn sizes(text: String, text_later: String, json_later: Vec<Value>) -> Result<Value> {
        Ok(json!([text.chars().count(), text == text_later, json_later.len(), json_later.last()]))
    }
}

/// The directory has an old token, until it is asked again.
#[biz]
fn renewed() {
    let now: Value = tech!(GET "/dict", cws_name = "suite-renewed", stage = "flask");
    let later: Value = tech!(async GET "/dict", cws_name = "suite-renewed", stage = "lambda");
}

/// Answers that stay in S3. Each run has another.
#[biz]
fn kept(conf: String) {
    let answer: Value = tech!(async GET "/count/{conf}", cws_name = "suite-lambda", keep);
    let refused: Reply<Value> = tech!(async GET "/missing", cws_name = "suite-lambda", keep);
    let elsewhere: Value =
        tech!(async GET "/dict", cws_name = "suite-lambda", bucket = "suite-elsewhere", keep);
}

/// A binary entry whose caller does not say so.
#[biz]
fn mistyped() {
    let binary: Value = tech!(async GET "/binary", cws_name = "suite-lambda");
    let base64: Value = tech!(GET "/binary", cws_name = "suite-lambda");
}

/// What a binary entry stores that has no bytes of its own kind to say.
#[biz]
fn plain_bytes() {
    let csv: Bytes = tech!(async GET "/csv", cws_name = "suite-lambda");
    let nothing: Bytes = tech!(async GET "/document/1", cws_name = "suite-lambda");
    let missing: Reply<Bytes> = tech!(async GET "/document/0", cws_name = "suite-lambda");
}

/// An answer that comes while its run is dead.
#[biz]
fn interrupted() {
    let answer: Value = tech!(async GET "/slow", cws_name = "suite-lambda", query = [("seconds", 1)]);
}

/// A bucket that is not there.
#[biz]
fn nowhere() {
    let answer: Value = tech!(async GET "/dict", cws_name = "suite-lambda", bucket = "suite-nowhere");
}

/// Asks until a job is done.
#[biz]
fn sensing() {
    let flask: Value =
        sensor!(GET "/job/flask", cws_name = "suite-flask", until = done, poke_interval = "100ms");
    let lambda: Value = sensor!(GET "/transient/sensed", cws_name = "suite-lambda", poke_interval = "100ms");
}

fn done(job: &Value) -> bool {
    job["state"] == "done"
}

coworks_biz::main![
    by_flask,
    by_lambda,
    by_s3,
    asks_flask,
    asks_lambda,
    asks_s3,
    any_body,
    transformed,
    mapped,
    addressed,
    turned_away,
    unknown_names,
    not_taken,
    refused,
    transient,
    slow,
    late,
    vanished,
    large,
    renewed,
    kept,
    mistyped,
    plain_bytes,
    interrupted,
    nowhere,
    sensing,
];
