//! Calls as the wire has them.

use coworks_biz::prelude::*;

/// Each part of a request.
#[biz]
pub fn requested() {
    let plain: Value = tech!(GET "/plain", api_id = "test", token = "a-bare-token");
    let open: () = tech!(POST "/open", api_id = "test", stage = "prod", no_auth,
        json = json!({ "name": "été", "list": [1, null] }));
    let query: () = tech!(GET "/query", api_id = "test", no_auth, accept = "application/vnd.api+json",
        query = json!({ "tag": ["a b", "c&d"], "none": null, "page": 2 }));
    let headers: () = tech!(PUT "/headers", api_id = "test", token = "a-bare-token", data = "text", headers = [
        ("X-Own", "own"),
        ("Accept", "text/csv"),
        ("Content-Type", "text/csv"),
        ("X-Amzn-Trace-Id", "Root=own"),
        ("Idempotency-Key", "own-key"),
        ("Authorization", "never this one"),
    ]);
    let left: () = tech!(async POST "/left", api_id = "test", token = "a-bare-token", bucket = "coworks-airflow",
        headers = [("X-CWS-S3Key", "elsewhere"), ("InvocationType", "RequestResponse")]);
    plain >> open >> query >> headers >> left;
}

/// An answer as each kind of output takes it.
#[biz]
pub fn answered(conf: Vec<String>) {
    for case in conf {
        let value: Value = tech!(GET "/{case}", api_id = "test", token = secret("API_TOKEN"));
        let text: String = tech!(GET "/{case}", api_id = "test", token = secret("API_TOKEN"));
        let bytes: Bytes = tech!(GET "/{case}", api_id = "test", token = secret("API_TOKEN"));
        let unit: () = tech!(GET "/{case}", api_id = "test", token = secret("API_TOKEN"));
        let reply: Reply<Value> = tech!(GET "/{case}", api_id = "test", token = secret("API_TOKEN"));
        let number: u32 = tech!(GET "/{case}", api_id = "test", token = secret("API_TOKEN"));
    }
}

/// The same, left in S3.
#[biz]
pub fn left(conf: Vec<String>) {
    for case in conf {
        let value: Value = tech!(async GET "/{case}", api_id = "test", no_auth, timeout = "1m");
        let text: String = tech!(async GET "/{case}", api_id = "test", no_auth, timeout = "1m");
        let bytes: Bytes = tech!(async GET "/{case}", api_id = "test", no_auth, timeout = "1m");
        let unit: () = tech!(async GET "/{case}", api_id = "test", no_auth, timeout = "1m");
        let reply: Reply<Value> = tech!(async GET "/{case}", api_id = "test", no_auth, timeout = "1m");
    }
}

/// Refused, with each origin of a token.
#[biz]
pub fn turned_away(conf: String) {
    let of_source: Value = tech!(GET "/{conf}", api_id = "test", token = "a-bare-token");
    let of_secret: Value = tech!(GET "/{conf}", api_id = "test", token = secret("API_TOKEN"));
    let computed: Value = tech!(GET "/{conf}", api_id = "test", token = format!("computed-{conf}"));
    let of_nobody: Value = tech!(GET "/{conf}", api_id = "test", no_auth);
    let sent: Value = tech!(POST "/{conf}", api_id = "test", no_auth, data = "text");
    let left: Value = tech!(async GET "/{conf}", api_id = "test", no_auth);
}

/// By names, with and without a stage.
#[biz]
pub fn looked_up() {
    let named: Value = tech!(GET "/entry", cws_name = "shop");
    let again: Value = tech!(GET "//entry", cws_name = "shop");
    let staged: Value = tech!(GET "/entry", cws_name = "shop", stage = "prod");
    named >> again >> staged;
}

/// Nobody is there, or not in time.
#[biz]
pub fn unreached() {
    let refused: Value = tech!(GET "/", url = "http://127.0.0.1:1", no_auth);
    let unknown: Value = tech!(GET "/", url = "http://nobody.invalid/dev", no_auth);
    let slow: Value = tech!(GET "/slow", api_id = "test", no_auth, request_timeout = "300ms");
    let broken: Value = tech!(GET "/broken", api_id = "test", no_auth, request_timeout = "300ms");
}

/// Tried three times.
#[biz(retries = 2, retry_delay = "30ms")]
pub fn retried() {
    let answer: Value = tech!(GET "/retried", api_id = "test", token = secret("API_TOKEN"));
}

/// Many calls, the first one before the others.
#[biz]
pub fn many(conf: u32) {
    let first: u32 = tech!(GET "/first", api_id = "test", token = secret("API_TOKEN"));
    for n in first..first + conf {
        let each: Value = tech!(GET "/each/{n}", api_id = "test", no_auth);
    }
}

/// What nobody wants.
#[biz]
pub fn unwanted() {
    tech!(GET "/unwanted", api_id = "test", no_auth);
    let unit: () = tech!(GET "/unit", api_id = "test", no_auth, log_response);
    let head: Value = tech!(HEAD "/head", api_id = "test", no_auth);
}
