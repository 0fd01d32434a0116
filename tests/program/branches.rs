//! Branches, what is in their arms, and what comes behind them.

use std::io::Write;

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub enum Parcel {
    New,
    Paid { amount: f64, by: String },
    Sent(Option<u32>),
    Lost,
}

async fn say(text: String) -> Result<String> {
    Ok(text)
}

async fn thank(by: String, amount: f64, receipt: String) -> Result<String> {
    Ok(format!("{by} paid {amount}, see {receipt}"))
}

async fn square(number: u32) -> Result<u32> {
    Ok(number * number)
}

/// A branch over the conf: guards, variables that several tasks take, and each form inside an arm.
#[biz]
pub fn parcels(conf: Parcel) {
    match conf {
        Parcel::Paid { amount, by } if amount >= 10.0 => {
            let receipt = say(format!("receipt for {by}"));
            thank(by, amount, receipt);
        }
        Parcel::Paid { amount: small, .. } => {
            #[task]
            async fn remind(small: f64) -> Result<f64> {
                Ok(10.0 - small)
            }
        }
        Parcel::Sent(Some(number)) => match number {
            0 => {}
            1..10 => {
                let near: Value = tech!(GET "/near/{number}", api_id = "test", no_auth);
            }
            far if far % 2 == 0 => {
                let even = say(format!("{far} of {number}"));
            }
            far => {
                let odd: String =
                    tech!(async POST "/far", api_id = "test", no_auth, json = json!([far, number]));
            }
        },
        Parcel::Sent(None) => {
            for n in 1..4 {
                let squared = square(n);
            }
            #[task]
            async fn squares(squared: Vec<u32>) -> Result<u32> {
                Ok(squared.iter().sum())
            }
        }
        Parcel::New | Parcel::Lost => {}
    }
}

fn half(number: u32) -> Option<u32> {
    number.is_multiple_of(2).then_some(number / 2)
}

/// `if`, `else if`, `if let`, `else`; and a cleanup inside an arm, which only that arm wants.
#[biz]
pub fn conditions(conf: u32) {
    let number = square(conf);

    if number > 1_000 {
        let big = say("big".into());
    } else if let Some(half) = half(number)
        && half > 10
    {
        let halved = square(half);
        let twice = say(format!("{half} {halved}"));
    } else if number == 1 {
        say("one".into());
        #[task(trigger_rule = all_done)]
        async fn cleanup(ctx: Context) -> Result<()> {
            info!("after {}", ctx.task_id);
            Ok(())
        }
        say >> cleanup;
    } else {
        let other = say(number.to_string());
        let again = say(other);
    }
}

/// The outputs of arms as one; an arm may be a name from elsewhere, or a join itself.
#[biz]
pub fn joins(conf: u32) {
    let number = square(conf);
    let none = say("nothing".into());
    let many = {
        let text = say("many".into());
        text
    };

    let text = match number {
        0 => none,
        1 => say("one".into()),
        n if n < 50 => {
            let inner = if n < 10 {
                let few = say(format!("few: {n}"));
                few
            } else {
                let answer: String = tech!(GET "/some/{n}", api_id = "test", no_auth);
                answer
            };
            inner
        }
        _ => many,
    };
    let said = say(format!("{text}!"));

    #[task(trigger_rule = none_failed)]
    async fn all(text: Option<String>, number: Option<u32>) -> Result<String> {
        Ok(format!("{text:?} of {number:?}"))
    }

    said >> all;
}

/// Another number each time, and a line in a file for each time it was asked.
fn random(limit: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let drawn = RandomState::new().hash_one("a number") % limit;
    let file = std::fs::OpenOptions::new().append(true).create(true).open("drawn");
    file.and_then(|mut file| writeln!(file, "{drawn}")).unwrap();
    drawn
}

async fn number(number: u64) -> Result<u64> {
    Ok(number)
}

/// What is matched is another value each time it is evaluated: that is to be once.
#[biz]
pub fn chance() {
    let limit = number(1_000_000);

    match random(limit) {
        even if even.is_multiple_of(2) => {
            let one = number(even);
            let held: Value = tech!(GET "/gate/{even}", api_id = "test", no_auth);
            let two = number(even);
            one >> held >> two;
        }
        odd => {
            let first = number(odd);
            let waits: Value = tech!(GET "/gate/{odd}", api_id = "test", no_auth);
            let second = number(odd);
            first >> waits >> second;
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Side {
    left: bool,
    fails: bool,
}

async fn work(fails: bool) -> Result<u32> {
    if fails { Err(Error::msg("as told")) } else { Ok(7) }
}

async fn after() -> Result<()> {
    Ok(())
}

/// Behind the two arms of a branch, of which one runs, a task of each trigger rule that makes sense there.
#[biz]
pub fn rules(conf: Side) {
    if conf.left {
        let left = work(conf.fails);
    } else {
        let right = work(conf.fails);
        let further = say(right.to_string());
        #[task(trigger_rule = all_done)]
        let tidied = after();
        further >> tidied;
    }

    #[task(trigger_rule = all_failed)]
    let all_failed = after();
    #[task(trigger_rule = all_done)]
    let all_done = after();
    #[task(trigger_rule = all_skipped)]
    let all_skipped = after();
    #[task(trigger_rule = one_success)]
    let one_success = after();
    #[task(trigger_rule = one_failed)]
    let one_failed = after();
    #[task(trigger_rule = one_done)]
    let one_done = after();
    #[task(trigger_rule = none_failed)]
    let none_failed = after();
    #[task(trigger_rule = none_failed_min_one_success)]
    let none_failed_min_one_success = after();
    #[task(trigger_rule = always)]
    let always = after();
    // One arm alone, and what is behind it.
    let all_success = after();
    #[task(trigger_rule = none_skipped)]
    let none_skipped = after();
    let behind = after();

    [left, right] >> [all_failed, all_done, all_skipped, one_success, one_failed];
    [left, right] >> [one_done, none_failed, none_failed_min_one_success, always];
    left >> [all_success, none_skipped];
    none_failed_min_one_success >> behind;
}

/// The choice itself fails: what is in its arms cannot run, and a join neither.
#[biz]
pub fn undecided(conf: u32) {
    let text = #[task(id = "choose", retries = 1, retry_delay = "10ms")]
    match 100 / conf {
        100 => say("all".into()),
        _ => {
            let part = say("a part".into());
            #[task(trigger_rule = all_done)]
            let swept = after();
            part >> swept;
            part
        }
    };

    #[task(trigger_rule = all_done)]
    async fn report(text: Option<String>) -> Result<Option<String>> {
        Ok(text)
    }
}

/// A refusal as a value, for a match.
#[biz(retries = 2, retry_delay = "10ms")]
pub fn replies() {
    let bill: Reply<u32> = tech!(POST "/bill", api_id = "test", no_auth, json = json!({ "lines": [] }));
    let render: Reply<String> = tech!(async POST "/render", api_id = "test", no_auth);

    let billed = match bill {
        Reply::Success(number) => say(format!("number {number}")),
        Reply::NoContent => say_nothing(),
        Reply::Failure(failure) => refused(failure),
    };
    let rendered = match render {
        Reply::Success(text) => {
            let shown = say(text);
            shown
        }
        other => tell(other),
    };

    #[task]
    async fn both(billed: String, rendered: String) -> Result<String> {
        Ok(format!("{billed}; {rendered}"))
    }
}

async fn say_nothing() -> Result<String> {
    Ok("nothing".into())
}

async fn refused(failure: Failure) -> Result<String> {
    Ok(complain(&failure))
}

fn complain(failure: &Failure) -> String {
    format!("{failure} ({})", failure.headers["x-why"])
}

async fn tell(reply: Reply<String>) -> Result<String> {
    Ok(match reply {
        Reply::Success(text) => text,
        Reply::NoContent => "nothing".into(),
        Reply::Failure(failure) => complain(&failure),
    })
}
