//! The program that the end-to-end tests run: a biz for each thing that can happen.

mod arguments;
mod branches;
mod guarded;
mod limits;
mod loops;
mod mixed;
mod names;
mod served;
mod setups;
mod sizes;
mod storm;
mod wire;

use std::time::Duration;

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

/// A task that the test holds as long as it likes, between two others.
#[biz]
fn held() {
    #[task]
    async fn before(ctx: Context) -> Result<u32> {
        ctx.xcom_push("note", "pushed").await?;
        Ok(41)
    }

    let gate: u32 = tech!(GET "/gate", api_id = "test", token = "literal-token");

    #[task]
    async fn after(before: u32, gate: u32, ctx: Context) -> Result<u32> {
        let note: String = ctx.xcom_pull_key("before", "note").await?;
        info!("{note}, try {}", ctx.try_number);
        Ok(before + gate)
    }

    before >> gate;
}

/// An asynchronous call whose answer the test gives when it likes.
#[biz(retries = 1, retry_delay = "50ms")]
fn asynchronous() {
    let answer: String =
        tech!(async POST "/work", api_id = "test", token = secret("API_TOKEN"), timeout = "5m");

    #[task]
    async fn print(answer: String) -> Result<String> {
        Ok(answer.to_uppercase())
    }
}

/// The same with a wait that is soon over, and a second chance.
#[biz(retries = 1, retry_delay = "50ms")]
fn impatient() {
    let answer: String =
        tech!(async GET "/work", api_id = "test", token = secret("API_TOKEN"), timeout = "1s", keep);
}

/// Tried three times.
#[biz(retries = 2, retry_delay = "20ms")]
fn flaky() {
    let answer: Value = tech!(GET "/flaky", api_id = "test", no_auth);
}

/// Fails in each way a function can.
#[biz]
fn faults() {
    #[task]
    async fn panics() -> Result<()> {
        panic!("something is very wrong");
    }

    #[task(execution_timeout = "50ms")]
    async fn late() -> Result<()> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(())
    }

    #[task]
    fn blocking() -> Result<String> {
        Ok(std::thread::current().name().unwrap_or_default().to_owned())
    }

    #[task(retries = 5)]
    async fn fatal() -> Result<()> {
        Err(Error::fatal("no retry can mend this"))
    }

    #[task]
    async fn never() -> Result<()> {
        Ok(())
    }

    #[task(trigger_rule = all_done)]
    async fn cleanup() -> Result<()> {
        info!("cleaned up");
        Ok(())
    }

    [panics, late, fatal] >> never >> cleanup;
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Order {
    customer: u32,
}

/// Takes a conf.
#[biz]
fn ordered(conf: Order) {
    #[task]
    async fn twice(conf: Order) -> Result<u32> {
        Ok(conf.customer * 2)
    }

    #[task]
    async fn thrice(Conf(order): Conf<Order>, twice: u32) -> Result<u32> {
        Ok(order.customer + twice)
    }
}

/// Says a secret in its log, in its error and in its output.
#[biz]
fn indiscreet() {
    #[task]
    async fn log(ctx: Context) -> Result<()> {
        let secret = ctx.secret("API_TOKEN").await?;
        info!("the token is {}", secret.expose());
        Err(Error::msg(format!("{} is wrong", secret.expose())))
    }

    #[task]
    async fn output(ctx: Context) -> Result<Value> {
        let secret = ctx.secret("API_TOKEN").await?;
        Ok(json!({ "request": { "headers": [secret.expose()] } }))
    }
}

/// A large output, which goes to a file of its own.
#[biz]
fn large() {
    #[task]
    async fn make() -> Result<String> {
        Ok("x".repeat(1_000_000))
    }

    #[task]
    async fn measure(make: String) -> Result<usize> {
        Ok(make.len())
    }
}

/// Kills its own process at each of the first tries, and says so in a file.
#[biz]
fn poison() {
    #[task]
    async fn deadly(conf: String) -> Result<()> {
        use std::io::Write;
        writeln!(std::fs::OpenOptions::new().append(true).create(true).open(conf)?, "started")?;
        std::process::abort();
    }
}

coworks_biz::main![
    held,
    asynchronous,
    impatient,
    flaky,
    faults,
    ordered,
    indiscreet,
    large,
    poison,
    served::ticking,
    served::delayed,
    served::steps,
    limits::pooled,
    limits::lonely,
    limits::hasty,
    limits::faithful,
    limits::telling,
    limits::parent,
    limits::child,
    guarded::crowd,
    guarded::queue,
    guarded::refused,
    branches::parcels,
    branches::conditions,
    branches::joins,
    branches::chance,
    branches::rules,
    branches::undecided,
    branches::replies,
    loops::counted,
    loops::baskets,
    loops::effects,
    loops::listless,
    loops::renders,
    loops::stubborn,
    arguments::arguments,
    arguments::echoes,
    arguments::transformed,
    arguments::named,
    arguments::wanting,
    setups::resources,
    setups::leased,
    setups::rooms,
    setups::sensing,
    setups::vain,
    setups::crowded,
    names::by_name,
    mixed::stock,
    mixed::maybe,
    mixed::heavy,
    mixed::careless,
    mixed::careful,
    mixed::parcel,
    mixed::again,
    wire::requested,
    wire::answered,
    wire::left,
    wire::turned_away,
    wire::looked_up,
    wire::unreached,
    wire::retried,
    wire::many,
    wire::unwanted,
    sizes::weighty,
    sizes::noisy,
    sizes::chatty,
    sizes::weighed,
    storm::storm_chain,
    storm::storm_fan,
    storm::storm_branch,
    storm::storm_later,
    storm::storm_retry,
    storm::storm_sense,
    storm::storm_bulk,
    storm::storm_poison,
    storm::storm_parent,
];
