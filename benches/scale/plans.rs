//! What is run here beside the shapes of the engine's bench.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use coworks_biz::__runtime::dag::{Dag, Gate, Kind, Options, Schedule, Task};
use coworks_biz::__runtime::task::{Body, Context, Definition, Items, Work, finish, items};
use coworks_biz::{Error, Result};

/// When the first task of a run has begun, by the number of the run.
static BEGUN: LazyLock<Mutex<HashMap<i64, Instant>>> = LazyLock::new(Mutex::default);

/// When the first task of a run has begun.
pub fn begun(run: i64) -> Instant {
    BEGUN.lock().expect("nobody panics there").remove(&run).expect("a run that has ended")
}

/// One task, which tells when it begins.
pub fn first(dag_id: &'static str, priority: i32) -> &'static Definition {
    fn note(context: &Context) -> Result<Work> {
        let number = context.dag_run.number;
        Ok(finish(async move {
            BEGUN.lock().expect("nobody panics there").insert(number, Instant::now());
            tracing::info!("it begins");
            Ok::<_, Error>(number)
        }))
    }
    let options = Box::leak(Box::new(Options { priority_weight: priority, ..Options::DEFAULT }));
    let task = Task { task_id: "first", options, output: "i64", ..Task::FUNCTION };
    let dag = Dag { dag_id, tasks: Vec::leak(vec![task]), order: &[0], ..Dag::EMPTY };
    definition(dag, vec![Body::Function(note)])
}

/// Ten thousand tasks that take five milliseconds each.
pub fn slow() -> &'static Definition {
    fn list(_: &Context) -> Result<Items> {
        items(0..10_000)
    }
    fn wait(_: &Context) -> Result<Work> {
        Ok(finish(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok::<_, Error>(())
        }))
    }
    let tasks = vec![
        Task { task_id: "list", kind: Kind::Map { members: &[1] }, ..Task::FUNCTION },
        Task { task_id: "each", gate: Some(Gate { task: 0, arm: 0 }), map: Some(0), ..Task::FUNCTION },
    ];
    let dag = Dag { dag_id: "slow", tasks: Vec::leak(tasks), order: &[0, 1], ..Dag::EMPTY };
    definition(dag, vec![Body::Map(list), Body::Function(wait)])
}

fn nothing(_: &Context) -> Result<Work> {
    Ok(finish(async { Ok::<_, Error>(()) }))
}

/// So many DAGs with schedules of their own: of ten, six are daily, three hourly, and one is due every five minutes.
pub fn scheduled(count: usize) -> Vec<&'static Definition> {
    let one = |number: usize| {
        let schedule = match number % 10 {
            0..6 => "0 0 * * *",
            6..9 => "0 * * * *",
            _ => "*/5 * * * *",
        };
        let tasks = vec![
            Task { task_id: "ask", downstream: &[1], ..Task::FUNCTION },
            Task { task_id: "tell", upstream: &[0], ..Task::FUNCTION },
        ];
        let dag = Dag {
            dag_id: format!("scheduled_{number}").leak(),
            schedule: Some(Schedule::Cron(schedule)),
            tasks: Vec::leak(tasks),
            order: &[0, 1],
            ..Dag::EMPTY
        };
        definition(dag, vec![Body::Function(nothing), Body::Function(nothing)])
    };
    (0..count).map(one).collect()
}

/// Two tasks, and four behind them.
pub fn open(dag_id: &'static str) -> &'static Definition {
    let behind = |task_id| Task { task_id, upstream: &[1], ..Task::FUNCTION };
    let tasks = vec![
        Task { task_id: "done", downstream: &[1], ..Task::FUNCTION },
        Task { task_id: "also_done", upstream: &[0], downstream: &[2, 3, 4, 5], ..Task::FUNCTION },
        behind("retried"),
        behind("asked"),
        behind("poked"),
        behind("ready"),
    ];
    let bodies = tasks.iter().map(|_| Body::Function(nothing)).collect();
    let dag = Dag { dag_id, tasks: Vec::leak(tasks), order: &[0, 1, 2, 3, 4, 5], ..Dag::EMPTY };
    definition(dag, bodies)
}

fn definition(dag: Dag, bodies: Vec<Body>) -> &'static Definition {
    let (dag, bodies) = (Box::leak(Box::new(dag)), Vec::leak(bodies));
    Box::leak(Box::new(Definition { dag, bodies, ..Definition::EMPTY }))
}
