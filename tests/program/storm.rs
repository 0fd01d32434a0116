//! What a process is in the middle of when it is killed: each kind of work, and a note of each beginning.

use std::io::Write;

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Load {
    /// Another one for each run.
    id: u64,
    /// How many items, or how much.
    size: u64,
}

/// Says in a file that this attempt has begun, in one write.
fn begun(ctx: &Context) -> Result<()> {
    let line = format!("{} {} {} {}\n", ctx.dag_run.number, ctx.task_id, ctx.map_index, ctx.try_number);
    std::fs::OpenOptions::new().append(true).create(true).open("begun")?.write_all(line.as_bytes())?;
    Ok(())
}

/// Says the secret in its log, which must not have it.
async fn add(value: u64, ctx: Context) -> Result<u64> {
    begun(&ctx)?;
    info!("adds to {value} with {}", ctx.secret("API_TOKEN").await?.expose());
    Ok(value + 1)
}

/// A value that is known by its size and its run.
async fn text(size: u64, of: u64, ctx: Context) -> Result<String> {
    begun(&ctx)?;
    Ok((0..size).map(|n| (b'a' + ((n * n + of + n / 7) % 26) as u8) as char).collect())
}

/// Functions and calls, one behind the other.
#[biz]
pub fn storm_chain(conf: Load, ctx: Context) {
    let first = add(conf.id, ctx);
    let second: u64 = tech!(POST "/effect", api_id = "test", token = secret("API_TOKEN"), json = first);
    let third = add(second, ctx);
    let fourth: u64 = tech!(POST "/effect", api_id = "test", token = secret("API_TOKEN"), json = third);
    let last = add(fourth, ctx);
}

/// A call and a function for each item.
#[biz]
pub fn storm_fan(conf: Load, ctx: Context) {
    for n in 0..conf.size {
        let sent: u64 = tech!(POST "/effect", api_id = "test", token = secret("API_TOKEN"), json = n);
        let each = add(sent, ctx);
    }

    #[task]
    async fn total(each: Vec<u64>) -> Result<u64> {
        Ok(each.iter().sum())
    }
}

/// One of three arms, by what the service says.
#[biz]
pub fn storm_branch(conf: Load, ctx: Context) {
    let reply: Reply<u64> =
        tech!(POST "/reply", api_id = "test", token = secret("API_TOKEN"), json = conf.id);
    let last = match reply {
        Reply::Success(value) => add(value, ctx),
        Reply::NoContent => add(0, ctx),
        Reply::Failure(failure) => {
            let refused: u64 =
                tech!(POST "/effect", api_id = "test", token = secret("API_TOKEN"), json = failure.status);
            refused
        }
    };
    let after = add(last, ctx);
}

/// Asynchronous calls, alone and for each item.
#[biz]
pub fn storm_later(conf: Load, ctx: Context) {
    let answer: u64 = tech!(async POST "/effect", api_id = "test", token = secret("API_TOKEN"), json = conf.id,
        timeout = "10m");
    for n in 0..conf.size {
        let each: u64 = tech!(async POST "/effect", api_id = "test", token = secret("API_TOKEN"), json = answer + n,
            timeout = "10m");
    }

    #[task]
    async fn total(each: Vec<u64>) -> Result<u64> {
        Ok(each.iter().sum())
    }
}

/// Refused twice, and then taken.
#[biz(retries = 2, retry_delay = "30ms")]
pub fn storm_retry(conf: Load, ctx: Context) {
    let flaky: u64 = tech!(POST "/flaky", api_id = "test", token = secret("API_TOKEN"), json = conf.id);
    let last = add(flaky, ctx);
}

/// Not there yet, for a while.
#[biz]
pub fn storm_sense(conf: Load, ctx: Context) {
    let there: u64 =
        sensor!(GET "/there/{conf.id}", api_id = "test", token = secret("API_TOKEN"), poke_interval = "40ms");
    let last = add(there, ctx);
}

/// Values that are files of their own, and one that is not.
#[biz]
pub fn storm_bulk(conf: Load, ctx: Context) {
    let small = text(1_000, conf.id, ctx);
    let large = text(conf.size, conf.id, ctx);
    let sent: u64 = tech!(POST "/size", api_id = "test", token = secret("API_TOKEN"), json = large);

    #[task]
    async fn many(ctx: Context, conf: Load) -> Result<u64> {
        begun(&ctx)?;
        for n in 0..100 {
            ctx.xcom_push(&format!("key {n}"), &(conf.id + n)).await?;
        }
        Ok(100)
    }

    #[task]
    async fn lengths(small: String, large: String, sent: u64, many: u64) -> Result<[u64; 4]> {
        Ok([small.len() as u64, large.len() as u64, sent, many])
    }
}

/// Kills the process so many times, beside others that have nothing to do with it.
#[biz]
pub fn storm_poison(conf: Load, ctx: Context) {
    #[task]
    async fn deadly(conf: Load, ctx: Context) -> Result<u64> {
        begun(&ctx)?;
        let path = format!("deaths-{}", conf.id);
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
        if file.metadata()?.len() < conf.size {
            file.write_all(b"x")?;
            std::process::abort();
        }
        Ok(conf.size)
    }

    let beside: u64 = tech!(POST "/effect", api_id = "test", token = secret("API_TOKEN"), json = conf.id);
    let last = add(beside, ctx);
}

/// Triggers another, and waits for it.
#[biz]
pub fn storm_parent(conf: Load, ctx: Context) {
    let run: String = trigger!(storm_chain, conf = conf, wait_for_completion);
    // Says that it has ended.
    let sent: u64 = tech!(POST "/effect", api_id = "test", token = secret("API_TOKEN"), json = conf.id);
    run >> sent;

    #[task]
    async fn last(run: String) -> Result<String> {
        Ok(run)
    }
}
