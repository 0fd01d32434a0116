//! Services with limits.

use coworks_biz::prelude::*;

/// An asynchronous call for each number.
#[biz]
pub fn crowd(conf: Vec<u32>) {
    for number in conf {
        let worked: u32 = tech!(async POST "/work/{number}", api_id = "test", no_auth, timeout = "5m");
    }
}

/// A synchronous call for each number.
#[biz]
pub fn queue(conf: Vec<u32>) {
    for number in conf {
        let asked: u32 = tech!(POST "/asked/{number}", api_id = "test", no_auth);
    }
}

/// One that is refused at first.
#[biz(retries = 1)]
pub fn refused() {
    let busy: u32 = tech!(POST "/busy", api_id = "test", no_auth);
}
