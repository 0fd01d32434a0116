//! Setups with their teardowns, and sensors.

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct Plan {
    skip: bool,
    fails: Vec<String>,
}

async fn step(name: &'static str, plan: Plan) -> Result<String> {
    match plan.fails.iter().any(|failing| failing == name) {
        true => Err(Error::msg(format!("{name} fails"))),
        false => Ok(name.to_owned()),
    }
}

/// A server that is there as long as two tasks work.
#[biz]
pub fn resources(conf: Plan) {
    if !conf.skip {
        #[task(setup)]
        let server = step("server", conf);
    }
    let work = step("work", conf);
    let more = step("more", conf);
    #[task(teardown = server)]
    let closed: String = tech!(DELETE "/servers/{server}", api_id = "test", no_auth);

    server >> work >> more >> closed;
}

/// The same with asynchronous calls: all members of the one set up, all of the other take down.
#[biz]
pub fn leased(conf: Plan) {
    #[task(setup)]
    let lease: String = tech!(async POST "/leases", api_id = "test", no_auth);
    let work = step("work", conf);
    #[task(teardown = lease)]
    let ended: String =
        tech!(async DELETE "/leases/{lease}", api_id = "test", no_auth, transformer = bill(lease));

    lease >> work >> ended;
}

async fn bill(lease: String) -> Result<Value> {
    Ok(json!({ "bill": lease }))
}

/// One teardown of two setups, behind a gate; and what comes after it all.
#[biz]
pub fn rooms(conf: Plan) {
    #[task(setup)]
    let kitchen = step("kitchen", conf);
    #[task(setup)]
    async fn garden(conf: Plan) -> Result<String> {
        step("garden", conf).await
    }
    #[task(trigger_rule = one_success)]
    let party: Value = tech!(POST "/party", api_id = "test", no_auth);
    #[task(teardown = [kitchen, garden])]
    async fn clean(kitchen: Option<String>, garden: Option<String>) -> Result<Vec<String>> {
        Ok([kitchen, garden].into_iter().flatten().collect())
    }
    let sleep = step("sleep", conf);

    [kitchen, garden] >> party >> clean >> sleep;
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Job {
    id: u32,
    done: bool,
}

fn is_done(job: &Job) -> bool {
    job.done
}

fn is_gone(reply: &Reply<Value>) -> bool {
    matches!(reply, Reply::Failure(failure) if failure.status == 410)
}

/// Waits until something is there, then until it is done, then until it is gone.
#[biz]
pub fn sensing() {
    let ready: Job = sensor!(GET "/ready", api_id = "test", no_auth, poke_interval = "1ms");
    let done: Job = sensor!(GET "/jobs/{ready.id}", api_id = "test", token = secret("API_TOKEN"),
        poke_interval = "1ms", until = is_done, query = [("full", true)]);
    let gone: Reply<Value> =
        sensor!(GET "/jobs/{done.id}", api_id = "test", no_auth, poke_interval = "1ms", until = is_gone);

    #[task]
    async fn report(done: Job, gone: Reply<Value>) -> Result<Value> {
        let Reply::Failure(failure) = gone else { return Err(Error::msg("not gone")) };
        Ok(json!([done.id, failure.body]))
    }
}

/// Sensors that never see what they wait for, and one for each item of a loop.
#[biz(retries = 2, retry_delay = "10ms")]
pub fn vain() {
    let overdue: Value =
        sensor!(GET "/never", api_id = "test", no_auth, poke_interval = "10ms", timeout = "50ms");
    let barred: Value = sensor!(GET "/barred", api_id = "test", no_auth, poke_interval = "10ms");
    let other: Job = sensor!(GET "/text", api_id = "test", no_auth, poke_interval = "10ms", until = is_done);
    for n in 0..3 {
        let each: u32 = sensor!(GET "/each/{n}", api_id = "test", no_auth, poke_interval = "1ms");
    }
    #[task]
    async fn sum(each: Vec<u32>) -> Result<u32> {
        Ok(each.iter().sum())
    }
}

/// Two sensors that wait for what a task does beside them.
#[biz]
pub fn crowded() {
    let first: Value = sensor!(GET "/opened", api_id = "test", no_auth, poke_interval = "1ms");
    let second: Value = sensor!(GET "/opened", api_id = "test", no_auth, poke_interval = "1ms");
    let slow: Value = tech!(GET "/slow", api_id = "test", no_auth);
    let open: Value = tech!(POST "/open", api_id = "test", no_auth);
    slow >> open;
}
