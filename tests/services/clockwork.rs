//! Schedules and retries in a time that passes when it is told to.

use std::time::Duration;

use coworks_biz::local::axum::Json;
use coworks_biz::local::{Fault, Sandbox, Service, Services};
use coworks_biz::prelude::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[biz(schedule = "@daily", retries = 3, retry_delay = "2h")]
fn daily(ctx: Context) {
    let stock: u32 = tech!(GET "/stock", api_id = "stock", no_auth);
    let told = tell(stock, ctx);
}

async fn tell(stock: u32, ctx: Context) -> Result<String> {
    Ok(format!("{stock} on {}", ctx.logical_date.format("%F")))
}

#[biz(schedule = "30 2 * * *", timezone = "Europe/Paris")]
fn nightly() {
    let n: u32 = tech!(GET "/stock", api_id = "stock", no_auth);
}

fn stock() -> Services {
    Services::new().with(Service::new("stock").get("/stock", || async { Json(7) }))
}

#[tokio::test]
async fn three_days_make_three_runs() -> Result<()> {
    let sandbox = Sandbox::new(stock()).await?.with::<daily>();
    // The second day begins badly.
    sandbox.faults("stock", [Fault::none(), Fault::status(500), Fault::reset()]);
    let runs = sandbox.pass(3 * DAY).await?;
    let told = runs.iter().map(|run| run.output::<String>("told")).collect::<Result<Vec<_>>>()?;
    assert_eq!(told, ["7 on 2026-01-02", "7 on 2026-01-03", "7 on 2026-01-04"]);
    assert_eq!(runs.iter().map(|run| run.tries_of("stock")).collect::<Vec<_>>(), [1, 3, 1]);
    assert_eq!(sandbox.pass(DAY / 2).await?.len(), 0);
    assert_eq!(sandbox.pass(DAY / 2).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_run_goes_on_when_time_does() -> Result<()> {
    let sandbox = Sandbox::new(stock()).await?.with::<daily>();
    sandbox.fault("stock", Fault::status(500));
    let runs = sandbox.pass(DAY + Duration::from_secs(3600)).await?;
    assert_eq!((runs.len(), runs[0].is_success()), (1, false), "{}", runs[0]);
    let runs = sandbox.pass(Duration::from_secs(2 * 3600)).await?;
    assert_eq!((runs.len(), runs[0].is_success()), (1, true), "{}", runs[0]);
    Ok(())
}

#[tokio::test]
async fn a_night_in_which_the_clocks_are_set_has_its_run() -> Result<()> {
    let sandbox = Sandbox::at(stock(), "2026-03-27T12:00:00Z").await?.with::<nightly>();
    let runs = sandbox.pass(3 * DAY).await?;
    let dates: Vec<_> = runs.iter().map(|run| run.logical_date().to_rfc3339()).collect();
    // On the 29th it is 03:30 in place of 02:30.
    assert_eq!(
        dates,
        ["2026-03-28T01:30:00+00:00", "2026-03-29T01:30:00+00:00", "2026-03-30T00:30:00+00:00"]
    );
    assert!(Sandbox::at(stock(), "tomorrow").await.is_err());
    Ok(())
}
