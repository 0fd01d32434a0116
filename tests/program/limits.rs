//! What limits runs and tasks, who is told, and what one biz does to another.

use coworks_biz::prelude::*;

/// Calls that the test holds, one at a time by a pool of one slot.
#[biz]
pub fn pooled(conf: Vec<u32>) {
    for number in conf {
        #[task(pool = "narrow")]
        let held: u32 = tech!(POST "/held", api_id = "test", no_auth, json = number);
    }
}

/// One run at a time.
#[biz(max_active_runs = 1)]
pub fn lonely() {
    let held: u32 = tech!(POST "/held", api_id = "test", no_auth, json = 0);
}

/// May not take long.
#[biz(dagrun_timeout = "300ms")]
pub fn hasty() {
    #[task]
    async fn sleeps() -> Result<()> {
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
        Ok(())
    }

    #[task]
    async fn after() -> Result<()> {
        Ok(())
    }

    sleeps >> after;
}

/// Waits for its own past.
#[biz(depends_on_past = true)]
pub fn faithful() {
    let held: u32 = tech!(POST "/held", api_id = "test", no_auth, json = 1);
}

/// Tells of each end.
#[biz(
    retries = 1,
    retry_delay = "10ms",
    email = "ops@example.com",
    on_failure_callback = told,
    on_retry_callback = told,
    on_success_callback = told
)]
pub fn telling() {
    let held: u32 = tech!(POST "/held", api_id = "test", no_auth, json = 2);

    #[task]
    async fn after(held: u32) -> Result<u32> {
        Ok(held)
    }
}

async fn told(ctx: Context) -> Result<()> {
    info!("told of {} try {}: {}", ctx.task_id, ctx.try_number, ctx.exception().unwrap_or("well"));
    Ok(())
}

/// Triggers another, and waits for it.
#[biz]
pub fn parent(conf: u32) {
    let run: String = trigger!(child, conf = conf, wait_for_completion);
    after(run);
}

async fn after(run: String) -> Result<String> {
    Ok(run)
}

/// What another triggers.
#[biz]
pub fn child(conf: u32) {
    let held: u32 = tech!(POST "/held", api_id = "test", no_auth, json = conf);
}
