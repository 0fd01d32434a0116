//! Options that limit runs and tasks, and that name what is called.

use coworks_biz::prelude::*;

#[biz(
    max_active_runs = 0,
    max_active_tasks = -1,
    dagrun_timeout = "0s",
    depends_on_past = "yes",
    pool = "",
    priority_weight = 1.5,
    max_active_tis_per_dag = 0,
    wait_for_downstream,
    on_failure_callback = "alert",
    on_retry_callback = alert(),
    on_success_callback
)]
fn values() {
    #[task(
        pool = a,
        priority_weight = 2147483648,
        max_active_tis_per_dag = "3",
        wait_for_downstream = 1,
        on_failure_callback = |ctx| alert(ctx)
    )]
    async fn a() {}

    #[task(pool = "a b", priority_weight = -2147483649, on_success_callback = [alert, alert])]
    async fn b() {}

    #[task(max_active_runs = 1, depends_on_past = true)]
    async fn c() {}
}

#[biz(schedule = "@continuous", max_active_runs = 2)]
fn continuous() {}

#[biz(schedule = "@continuous", max_active_runs = "one")]
fn unread() {}

fn main() {}
