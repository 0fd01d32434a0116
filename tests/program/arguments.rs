//! What calls take from values, and services with names or rules of their own.

use coworks_biz::prelude::*;
use coworks_biz::{Address, Form, Given, TechService};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    name: String,
    page: u32,
    tags: Vec<String>,
    note: Option<String>,
}

async fn order(order: Order) -> Result<Order> {
    Ok(order)
}

/// A value in each place of a call that takes one.
#[biz(retries = 3)]
pub fn arguments(conf: Order) {
    const KEY: coworks_biz::config::SecretName = secret("API_TOKEN");

    let order = order(conf);

    let path: Value =
        tech!(GET "/orders/{order.name}/{{literal}}/{order.page + 1}-{conf.page}", api_id = "test", no_auth);
    let pairs: Value = tech!(GET "/pairs", api_id = "test", no_auth, query = [
        ("page", order.page),
        ("tag", order.tags),
        ("note", order.note),
        (&format!("with {}", order.page), true),
        ("region", var("REGION")),
        ("key", secret("API_TOKEN")),
    ]);
    let object: Value = tech!(DELETE "/object", api_id = "test", no_auth,
        query = json!({ "name": order.name, "tag": order.tags, "none": null }));
    let body: Value = tech!(POST "/json", api_id = "test", token = format!("Bearer {}-{}", order.name.len(), conf.page),
    json = json!({ "name": order.name, "lines": [order.page, { "tags": order.tags }] }),
    headers = [
        ("X-Page", order.page),
        ("X-Note", order.note),
        ("X-Region", var("REGION")),
        ("X-Key", KEY),
        ("Accept", "application/vnd.api+json"),
        ("Authorization", "not this one"),
    ]);
    let whole: Value = tech!(PATCH "/json", api_id = "test", token = secret("API_TOKEN"), json = order);
    let text: Value = tech!(PUT "/text", api_id = "test", no_auth, data = format!("{}é", order.page));
    let bytes: Value = tech!(PUT "/bytes", api_id = "test", no_auth, data = Bytes::from(vec![0, 159, 146, order.page as u8]));
    let form: Value = tech!(POST "/form", api_id = "test", no_auth, data = Form(json!({ "name": order.name, "tag": order.tags })));
    let csv: Value =
        tech!(POST "/csv", api_id = "test", no_auth, data = "a;b", headers = [("Content-Type", "text/csv")]);
    let own: Value = tech!(GET "/own/{order.page}", service = Company { api: "test" }, headers = [("X-Two", "of the call")]);
}

/// A company's own way to its services.
struct Company {
    api: &'static str,
}

impl TechService for Company {
    fn address(&self) -> Address {
        Address::Api { api_id: self.api.into(), stage: "dev".into(), region: "eu-west-1".into() }
    }

    fn headers(&self) -> Vec<(String, Given)> {
        vec![
            ("X-Company".into(), "neorezo".into()),
            ("X-Two".into(), "of the company".into()),
            ("X-Company-Key".into(), secret("API_TOKEN").into()),
        ]
    }

    fn token(&self) -> Option<Given> {
        Some(var("REGION").into())
    }
}

/// Sends a secret to a service that says it again.
#[biz]
pub fn echoes() {
    let refused: Value = tech!(GET "/refuse", api_id = "test", token = secret("API_TOKEN"),
        query = [("key", secret("API_TOKEN"))]);
    let returned: Value =
        tech!(GET "/return", api_id = "test", no_auth, headers = [("X-Key", secret("API_TOKEN"))]);
    let listed: Value = tech!(GET "/return", api_id = "test", token = format!("computed-{}", 1 + 1));
    let replied: Reply<Value> = tech!(GET "/refuse", api_id = "test", token = secret("API_TOKEN"));
    #[task(trigger_rule = all_done)]
    async fn said(replied: Option<Reply<Value>>) -> Result<bool> {
        Ok(replied.is_some())
    }
}

/// The query of one call and the JSON of another, made by a task.
#[biz]
pub fn transformed(conf: Order) {
    async fn layout(conf: Order, n: u32) -> Result<Value> {
        Ok(json!({ "name": conf.name, "tags": conf.tags, "note": conf.note, "n": n }))
    }

    let found: Value = tech!(async GET "/found", api_id = "test", no_auth, transformer = layout(conf, 1));
    let made: Value = tech!(async POST "/made/{conf.page}", api_id = "test", no_auth, transformer = layout(conf, 2),
        query = [("page", conf.page)]);
    #[task]
    async fn both(found: Value, made: Value, ctx: Context) -> Result<Value> {
        let given: Value = ctx.xcom_pull("made.transformer").await?;
        Ok(json!([found, made, given["n"]]))
    }
}

/// Services that the directory knows, or not.
#[biz]
pub fn named(conf: bool) {
    let one: Value = tech!(GET "/one", cws_name = "shop");
    let two: Value = tech!(POST "/two", cws_name = "shop", stage = "dev", json = json!({ "one": one }));
    let three: Value = tech!(async GET "/three", cws_name = "shop");
    one >> three;
    if conf {
        let unknown: Value = tech!(GET "/", cws_name = "nobody");
    }
}

/// Wants what nobody has set.
#[biz]
pub fn wanting(conf: u32) {
    let a: Value = tech!(GET "/{conf}", cws_name = "shop", query = [("region", var("NO_VAR")), ("again", var("NO_VAR"))]);
    for n in 0..3 {
        let b: Value = tech!(GET "/{n}", api_id = "test", token = secret("NO_TOKEN"));
    }
    match conf {
        0 => {
            let c: Value = tech!(GET "/", api_id = "test", no_auth, headers = [("X-Key", secret("NO_KEY"))]);
        }
        _ => {}
    }
}
