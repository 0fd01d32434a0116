//! The arguments of calls of services, and sensors.

use coworks_biz::prelude::*;

async fn layout(text: String) -> Result<Value> {
    Ok(json!(text))
}

#[biz]
fn arguments(conf: String) {
    let a: Value = tech!(GET "/", api_id = "x", no_auth, json = json!({}));
    let b: Value = tech!(POST "/", api_id = "x", no_auth, json = 1, data = "text");
    let c: Value = tech!(POST "/", api_id = "x", no_auth, body = "text");
    let d: Value = tech!(GET "/{conf", api_id = "x", no_auth);
    let e: Value = tech!(GET "/{}", api_id = "x", no_auth);
    let f: Value = tech!(GET "/}", api_id = "x", no_auth);
    let g: Value = tech!(GET "/{a b}", api_id = "x", no_auth);
    let h: Value = tech!(GET "/", api_id = "x", no_auth, headers = "X: y");
    let i: Value = tech!(GET "/", api_id = "x", cws_name = "y", no_auth);
    let j: Value = tech!(GET "/", cws_name = "y", region = "eu-west-1");
    let k: Value = tech!(GET "/", service = Other, stage = "dev");
    let l: Value = tech!(async GET "/", cws_name = "y", transformer = layout);
    let m: Value = tech!(async GET "/", cws_name = "y", transformer = layout(conf), query = [("a", 1)]);
    let n: Value = tech!(async POST "/", cws_name = "y", transformer = layout(conf), json = 1);
    let o: Value = tech!(POST "/", cws_name = "y", transformer = layout(conf));
    let p: Value = tech!(GET "/", cws_name = "y", poke_interval = "1m");
    let q: Value = tech!(GET "/", cws_name = "y", log_response = true);
    let r: Value = sensor!(async GET "/", cws_name = "y");
    let s: Value = sensor!(GET "/", cws_name = "y", until = |reply| true);
    let t: Value = sensor!(GET "/", cws_name = "y", until = done, transformer = layout(conf));
    let u: Value = sensor!(GET "/", cws_name = "y", poke_interval = "0s");
    let v: Value = tech!(POST "/", cws_name = "y", json = json!({ "own": v }));
}

sensor!(GET "/", cws_name = "y");

fn main() {}
