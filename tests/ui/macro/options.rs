use coworks_biz::prelude::*;

#[biz(shedule = "@daily", retries = 1, retries = 2, max_active_run = 1, something)]
fn unknown() {
    #[task(retry_dely = "5m", on_failure = a)]
    async fn a() {}
}

#[biz(
    schedule = "@dayly",
    timezone = "Europe/Pari",
    start_date = "the first",
    end_date = "2023-02-30",
    retries = "three",
    retry_delay = "5 apples",
    execution_timeout = 5,
    trigger_rule = all_dne,
    email_on_retry = "no",
    dag_id = "a b",
    catchup = true
)]
fn values() {}

#[biz(schedule = "61 * * * *", catchup = true)]
fn cron() {}

#[biz(email = ["a@b.c", "x"], start_date = "2023-01-01", end_date = "2022-01-01", execution_timeout = "0s")]
fn impossible() {}

#[biz(schedule = "* * * *")]
fn fields() {}

#[biz(schedule = "15x", tags)]
fn interval() {}

#[biz(schedule = "0 0 30 2 *", timezone = "Europe/Paris", start_date = "2024-03-31T02:30:00")]
fn never() {}

fn main() {}
