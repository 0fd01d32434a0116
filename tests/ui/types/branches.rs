//! What rustc says of branches and loops, under the user's own tokens.

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub enum State {
    New(Hidden),
    Paid { amount: f64 },
    Sent,
}

#[derive(Serialize, Deserialize)]
pub struct Hidden {
    #[serde(skip)]
    inside: Inside,
}

#[derive(Default)]
pub struct Inside(u8);

async fn look(inside: Inside) -> Result<u8> {
    Ok(inside.0)
}

async fn thank(amount: f64) -> Result<String> {
    Ok(amount.to_string())
}

async fn text(text: String) -> Result<String> {
    Ok(text)
}

#[biz]
fn exhaustive(conf: State) {
    match conf {
        State::New(_) => {}
        State::Sent => {}
    }
}

#[biz]
fn bindings(conf: State) {
    match conf {
        State::New(Hidden { inside }) => look(inside),
        State::Paid { amount } => text(amount),
        State::Sent => {}
    }
}

#[biz]
fn joins(conf: State) {
    let joined = match conf {
        State::New(hidden) => look(hidden.inside),
        State::Paid { amount } => thank(amount),
        State::Sent => text("sent".into()),
    };
    let said: u64 = if joined > 3 {
        let big = thank(1.0);
        big
    } else {
        let small = text("small".into());
        small
    };
}

#[biz]
fn lists(conf: State) {
    let amount = thank(3.0);
    for part in amount {
        text(part);
    }
    for inside in [Inside(3)] {
        look(inside);
    }
}

#[biz]
fn groups() {
    let group: u64 = {
        let inside = text("a".into());
        inside
    };
}

fn main() {}
