//! What a process that serves has to do.

use coworks_biz::prelude::*;

/// Every second.
#[biz(schedule = "1s", retries = 3, retry_delay = "50ms")]
pub fn ticking(ctx: Context) {
    let counted: Value = tech!(GET "/tick", api_id = "test", no_auth, query = moments(ctx));
}

fn moments(ctx: Context) -> [(&'static str, String); 3] {
    let at = |at: &dyn std::fmt::Display| at.to_string();
    let interval = ctx.data_interval;
    [("at", at(&ctx.logical_date)), ("start", at(&interval.start)), ("end", at(&interval.end))]
}

/// Fails once, and is tried again after a while.
#[biz(retries = 1, retry_delay = "3s")]
pub fn delayed() {
    #[task]
    async fn second(ctx: Context) -> Result<u32> {
        match ctx.try_number {
            1 => Err(Error::msg("not yet")),
            number => Ok(number),
        }
    }
}

/// Three steps around a call that the test holds; the last one cleans up.
#[biz]
pub fn steps() {
    #[task]
    async fn prepare(ctx: Context) -> Result<u32> {
        Ok(ctx.try_number)
    }

    let call: u32 = tech!(POST "/steps", api_id = "test", no_auth, json = json!({ "prepared": prepare }));

    #[task]
    async fn report(call: u32) -> Result<u32> {
        Ok(call * 2)
    }

    #[task(trigger_rule = all_done)]
    async fn tidy() -> Result<()> {
        Ok(())
    }

    report >> tidy;
}
