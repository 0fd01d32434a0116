//! What rustc says of values in the arguments of calls of services.

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Order {
    lines: Vec<u32>,
}

pub struct Opaque;

const OPAQUE: Opaque = Opaque;

fn done(reply: &u32) -> bool {
    *reply > 3
}

#[biz]
fn values(conf: Order) {
    let path: Value = tech!(GET "/{conf.lines}", api_id = "x", no_auth);
    let json: Value = tech!(POST "/", api_id = "x", no_auth, json = OPAQUE);
    let header: Value = tech!(GET "/", api_id = "x", no_auth, headers = [("X-Order", OPAQUE)]);
    let data: Value = tech!(POST "/", api_id = "x", no_auth, data = 3);
    let service: Value = tech!(GET "/", service = Opaque);
    let until: String = sensor!(GET "/", api_id = "x", no_auth, until = done);
    let reply: Reply<Opaque> = tech!(GET "/", api_id = "x", no_auth);
}

fn main() {}
