//! Calls as the wire has them.

use coworks_biz::prelude::*;

/// Large answers, one for each conf: how much memory they take can be measured.
#[biz]
pub fn weighs(conf: u32) {
    match conf {
        0 => {
            let json: Value = tech!(GET "/json", api_id = "test", no_auth);
        }
        1 => {
            let bytes: Bytes = tech!(GET "/bytes", api_id = "test", no_auth);
        }
        2 => {
            let stored_json: Value = tech!(async GET "/json", api_id = "test", no_auth);
        }
        3 => {
            let stored_bytes: Bytes = tech!(async GET "/bytes", api_id = "test", no_auth);
        }
        4 => {
            let dropped: () = tech!(GET "/none", api_id = "test", no_auth);
        }
        _ => {}
    }
}
