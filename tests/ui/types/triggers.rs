//! What a trigger gives is held against what the other biz takes.

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Order {
    number: u32,
}

struct Opaque;

#[biz]
fn invoicing(conf: Order) {
    let number = count(conf.number);
}

#[biz]
fn anything() {}

#[biz(schedule = "@daily")]
fn daily(conf: Order) {
    let number = count(conf.number);
}

async fn count(number: u32) -> Result<u32> {
    Ok(number)
}

mod no_biz {
    pub fn function() {}
    pub struct Type;
}

#[biz]
fn triggers() {
    let text: String = tech!(GET "/", url = "http://localhost", no_auth);
    let other = trigger!(invoicing, conf = text);
    let none = trigger!(invoicing);
    let wrong = trigger!(daily, conf = 3);
    let fine = trigger!(daily);
    let opaque = trigger!(anything, conf = Opaque);
    let slip = trigger!(invocing, conf = Order { number: 1 });
    let function = trigger!(no_biz::function);
    let ty = trigger!(no_biz::Type);

    #[task]
    async fn takes(fine: u32) -> Result<()> {
        let _ = fine;
        Ok(())
    }
}

fn main() {}
