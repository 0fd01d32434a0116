//! What a later version will have says so.

use coworks_biz::prelude::*;

#[biz]
fn later() {
    let x: Value = tech!(GET "/customers/{conf.id}", api_id = "x", no_auth);
    let y: Value = tech!(POST "/", api_id = "x", no_auth, json = json!({}));
    let z: Value = tech!(GET "/", cws_name = "neorezo-directory", no_auth);
    let s: Value = sensor!(GET "/", api_id = "x", no_auth);
    let f = work(1);
    work(2);
    match x {
        _ => {}
    }
    if x {}
    for i in y {}
    {}
}

fn main() {}
