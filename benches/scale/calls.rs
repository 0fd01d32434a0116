//! What waits for answers.

use coworks_biz::prelude::*;

/// An asynchronous call for each, of which an answer is asked for this moment.
#[biz]
pub fn waiting(conf: Vec<u64>) {
    for at in conf {
        let answered: u64 = tech!(async GET "/at/{at}", api_id = "oracle", no_auth, timeout = "12h");
    }
}
