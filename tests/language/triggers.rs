//! One biz that triggers another, and what tasks call once they have ended.

use coworks_biz::Biz;
use coworks_biz::dag::{DEFAULT_POOL, Kind, Role};
use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

// Private, while the biz that takes it is not.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Order {
    number: u32,
}

#[biz]
pub fn invoicing(conf: Order) {
    note(conf.number);
    // Each triggers the other.
    trigger!(ordering, conf = json!({ "number": conf.number }));
}

#[biz(schedule = "@daily")]
fn scheduled(conf: Order) {
    note(conf.number);
}

async fn note(number: u32) -> Result<u32> {
    Ok(number)
}

async fn done(run: String) -> Result<()> {
    info!("{run}");
    Ok(())
}

#[biz]
fn ordering() {
    let order: Order = tech!(GET "/order", url = "http://localhost", no_auth);

    let run: String = trigger!(invoicing, conf = order, wait_for_completion, timeout = "1h");
    #[task(retries = 3)]
    trigger!(self::invoicing, conf = Order { number: 7 });
    trigger!(invoicing, conf = "{}".parse::<Value>().and_then(serde_json::from_value)?);
    let daily = trigger!(scheduled);
    trigger!(ordering);
    for number in vec![order.number] {
        let each = trigger!(scheduled, conf = Order { number });
        done(each);
    }
    let either = if order.number > 3 {
        trigger!(scheduled, wait_for_completion)
    } else {
        let other = trigger!(ordering, conf = vec![order.number]);
        other
    };

    #[task]
    async fn last(run: String, daily: String, either: String, each: Vec<String>) -> Result<()> {
        info!("{run} {daily} {either} {each:?}");
        Ok(())
    }

    #[task(setup)]
    let prepared = trigger!(ordering);
    prepared >> run;
}

#[test]
fn a_trigger_is_a_task_whose_output_is_a_run() {
    let dag = ordering::DEFINITION.dag;
    let triggers: Vec<_> =
        ordering::DEFINITION.triggers().map(|(t, of)| (t.task_id, of.dag.dag_id)).collect();
    assert_eq!(
        triggers,
        [
            ("run", "invoicing"),
            ("trigger_invoicing", "invoicing"),
            ("trigger_invoicing_2", "invoicing"),
            ("daily", "scheduled"),
            ("trigger_ordering", "ordering"),
            ("each", "scheduled"),
            ("trigger_scheduled", "scheduled"),
            ("other", "ordering"),
            ("prepared", "ordering"),
        ]
    );
    let task = |id: &str| &dag.tasks[dag.task(id).unwrap() as usize];
    let ids = |list: &[u32]| list.iter().map(|&t| dag.tasks[t as usize].task_id).collect::<Vec<_>>();
    assert_eq!(
        (task("run").kind, task("run").output, task("daily").output),
        (Kind::Trigger, "String", "String")
    );
    assert_eq!(
        (ids(task("run").inputs), ids(task("run").upstream)),
        (vec!["order"], vec!["order", "prepared"])
    );
    assert_eq!(ids(task("last").inputs), ["run", "daily", "either", "each"]);
    assert_eq!(ids(task("trigger_scheduled").inputs), [""; 0]);
    assert_eq!(ids(task("each").inputs), ["map_order"]);
    assert_eq!(task("trigger_invoicing").options.retries, 3);
    assert_eq!(task("prepared").role, Role::Setup);
    assert!(task("each").map.is_some());
    let back: Vec<_> =
        invoicing::DEFINITION.triggers().map(|(task, of)| (task.task_id, of.dag.dag_id)).collect();
    assert_eq!(back, [("trigger_ordering", "ordering")]);
}

mod alerts {
    use super::*;

    pub async fn alert(ctx: Context) -> Result<()> {
        warn!("{}: {}", ctx.task_id, ctx.exception().unwrap_or_default());
        Ok(())
    }

    pub async fn quiet(_: Context) {}

    pub async fn typed(_: Context) -> Result<(), std::fmt::Error> {
        Ok(())
    }
}

/// Airflow's options that limit runs and tasks, and that call functions.
#[biz(
    schedule = "@hourly",
    start_date = "2024-01-01",
    max_active_runs = 3,
    max_active_tasks = 16,
    dagrun_timeout = "2h",
    depends_on_past = true,
    pool = "slow",
    priority_weight = -2,
    max_active_tis_per_dag = 5,
    wait_for_downstream = true,
    on_failure_callback = alerts::alert,
    on_success_callback = alerts::quiet
)]
fn limited() {
    async fn hoisted(_: Context) -> Result<()> {
        Ok(())
    }

    #[task(pool = "default_pool", priority_weight = 2147483647, max_active_tis_per_dag = 1,
        wait_for_downstream = false, on_failure_callback = hoisted, on_retry_callback = alerts::typed)]
    async fn own() {}

    #[task]
    async fn plain() {}

    let answer: String =
        tech!(async POST "/", url = "http://localhost", no_auth, log_response, transformer = made());
    let told: String = tech!(GET "/", url = "http://localhost", no_auth);
}

async fn made() -> Result<u8> {
    Ok(1)
}

#[biz(schedule = "@continuous", max_active_runs = 1)]
fn again() {}

#[biz(schedule = "@continuous")]
fn implied() {}

#[biz]
fn plain() {
    #[task(priority_weight = -2147483648)]
    async fn lowest() {}
}

#[test]
fn what_limits_runs_and_tasks_is_in_the_dag() {
    use std::time::Duration;
    let dag = limited::DEFINITION.dag;
    assert_eq!((dag.max_active_runs, dag.max_active_tasks), (Some(3), Some(16)));
    assert_eq!((dag.dagrun_timeout, dag.depends_on_past), (Some(Duration::from_secs(7200)), true));
    let options = |id: &str| dag.tasks[dag.task(id).unwrap() as usize].options;
    let told = |id| {
        let of = options(id);
        (of.pool, of.priority_weight, of.max_active_tis_per_dag, of.wait_for_downstream)
    };
    assert_eq!(told("own"), ("default_pool", i32::MAX, Some(1), false));
    for inherits in ["plain", "answer.transformer", "answer.call", "answer.wait", "answer.read", "told"] {
        assert_eq!(told(inherits), ("slow", -2, Some(5), true), "{inherits}");
    }
    for continuous in [again::DEFINITION, implied::DEFINITION] {
        assert_eq!(continuous.dag.max_active_runs, Some(1));
    }
    let dag = plain::DEFINITION.dag;
    assert_eq!((dag.max_active_runs, dag.max_active_tasks, dag.dagrun_timeout), (None, None, None));
    assert_eq!((dag.depends_on_past, dag.tasks[0].options.pool), (false, DEFAULT_POOL));
    assert_eq!(dag.tasks[0].options.priority_weight, i32::MIN);
}

#[test]
fn callbacks_are_those_of_the_task_else_those_of_the_biz() {
    let limited = limited::DEFINITION;
    let named = |id: &str| {
        let callbacks = &limited.callbacks[limited.dag.task(id).unwrap() as usize];
        [callbacks.on_failure, callbacks.on_retry, callbacks.on_success]
            .map(|runner| runner.map(|r| r as usize))
    };
    let [alert, none, quiet] = named("plain");
    assert!(alert.is_some() && none.is_none() && quiet.is_some() && alert != quiet);
    let [hoisted, typed, inherited] = named("own");
    assert!(hoisted.is_some() && hoisted != alert && typed.is_some());
    assert_eq!(inherited, quiet);
    // An asynchronous call is one call: it has succeeded once it is read.
    for before in ["answer.transformer", "answer.call", "answer.wait"] {
        assert_eq!(named(before), [alert, None, None], "{before}");
    }
    assert_eq!(named("answer.read"), [alert, None, quiet]);
    assert!(plain::DEFINITION.callbacks.is_empty());
}

#[test]
fn log_response_is_a_flag_of_the_call() {
    let told: Vec<_> = limited::DEFINITION.calls().map(|(t, call)| (t.task_id, call.log_response)).collect();
    assert_eq!(told, [("answer.call", true), ("told", false)]);
}
