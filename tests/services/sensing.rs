//! Sensors over hours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use coworks_biz::local::State::Failed;
use coworks_biz::local::axum::Json;
use coworks_biz::local::{Fault, Sandbox, Service, Services};
use coworks_biz::prelude::*;

fn is_done(state: &String) -> bool {
    state == "done"
}

#[biz]
fn watching() {
    let job: String = sensor!(GET "/job", api_id = "jobs", no_auth,
        until = is_done, poke_interval = "10m", timeout = "3h");
}

/// A job that is done at its call of this number.
fn jobs(done_at: u32) -> Services {
    let calls = Arc::new(AtomicU32::new(0));
    let job = move || {
        let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Json(if call >= done_at { "done" } else { "working" }) }
    };
    Services::new().with(Service::new("jobs").get("/job", job))
}

fn minutes(sandbox: &Sandbox) -> Vec<i64> {
    let calls = sandbox.calls("jobs");
    calls.iter().map(|call| ((call.at - calls[0].at).num_seconds() + 30) / 60).collect()
}

#[tokio::test]
async fn it_pokes_at_its_interval_until_the_answer_will_do() -> Result<()> {
    let sandbox = Sandbox::new(jobs(5)).await?;
    let run = sandbox.run::<watching>(()).await?;
    assert_eq!(run.output::<String>("job")?, "done", "{run}");
    assert_eq!(minutes(&sandbox), [0, 10, 20, 30, 40]);
    assert_eq!(run.tries_of("job"), 1);
    Ok(())
}

#[tokio::test]
async fn its_last_call_is_at_the_end_of_its_time() -> Result<()> {
    let sandbox = Sandbox::new(jobs(99)).await?;
    let run = sandbox.run::<watching>(()).await?;
    assert_eq!(run.state_of("job"), Some(Failed), "{run}");
    assert_eq!(minutes(&sandbox).last(), Some(&180));
    assert!(run.error_of("job").unwrap().contains("not there within its timeout of 3h"), "{run}");
    Ok(())
}

#[tokio::test]
async fn a_service_that_wants_to_be_left_alone_is() -> Result<()> {
    let sandbox = Sandbox::new(jobs(1)).await?;
    let busy = Fault::status(503).retry_after(Duration::from_secs(45 * 60));
    sandbox.faults("jobs", [Fault::status(404), busy, Fault::reset(), Fault::none()]);
    let run = sandbox.run::<watching>(()).await?;
    assert_eq!(run.output::<String>("job")?, "done", "{run}");
    assert_eq!(minutes(&sandbox), [0, 10, 55, 65]);
    Ok(())
}
