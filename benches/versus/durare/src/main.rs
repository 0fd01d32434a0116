//! The shapes of work and the kill test, on durare with its SQLite backend.
//!
//! `measure normal|full SHAPE DIR` prints the steps and the seconds they took;
//! `work DIR SERVER ID..` goes on with what was left and starts runs with these ids;
//! `finish DIR SERVER ID..` goes on with what was left and tells how the runs ended;
//! `tries DIR SERVER` runs one step that may be tried twice.

#[path = "../../effect.rs"]
mod effect;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use durare::{DurableContext, DurableEngine, Error, Result, SqliteProvider, StepOptions, WorkflowOptions};
use futures_util::future::{join_all, try_join_all};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

static STEPS: AtomicU64 = AtomicU64::new(0);

async fn step(value: u64) -> Result<u64> {
    STEPS.fetch_add(1, Ordering::Relaxed);
    Ok(value)
}

async fn fan(ctx: DurableContext, _: u64) -> Result<u64> {
    let first = ctx.step("first", || step(1)).await?;
    let middle = try_join_all((0..998).map(|_| ctx.step("middle", || step(first)))).await?;
    ctx.step("last", || step(middle.into_iter().sum())).await
}

async fn chain(ctx: DurableContext, length: u64) -> Result<u64> {
    let mut value = 0;
    for _ in 0..length {
        value = ctx.step("step", || step(value + 1)).await?;
    }
    Ok(value)
}

async fn effects(ctx: DurableContext, (server, id): (String, String)) -> Result<u64> {
    for number in 1..=5 {
        let (server, key) = (server.clone(), format!("{id}/{number}"));
        ctx.step("effect", || async move {
            effect::effect(&server, &key).await.map_err(Error::app)?;
            Ok(number)
        })
        .await?;
    }
    Ok(5)
}

async fn tries(ctx: DurableContext, server: String) -> Result<u64> {
    ctx.step_with(StepOptions::new("effect").max_retries(1), || {
        let server = server.clone();
        async move { effect::effect(&server, "tries").await.map_err(Error::app).map(|()| 1) }
    })
    .await
}

/// What `SqliteProvider::connect` makes, and the same with every commit synced.
async fn provider(dir: &Path, full: bool) -> Result<SqliteProvider> {
    let url = format!("sqlite://{}", dir.join("durare.db").display());
    if !full {
        return SqliteProvider::connect(&url).await;
    }
    let options = SqliteConnectOptions::from_str(&url)?
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new().max_connections(5).connect_with(options).await?;
    Ok(SqliteProvider::from_pool(pool))
}

async fn engine(dir: &Path, full: bool) -> Result<DurableEngine> {
    let mut engine = DurableEngine::new(Arc::new(provider(dir, full).await?)).await?;
    engine.register("fan", fan);
    engine.register("chain", chain);
    engine.register("effects", effects);
    engine.register("tries", tries);
    Ok(engine)
}

/// Does the shape once; the number of steps.
async fn work(engine: &DurableEngine, shape: &str) -> Result<u64> {
    let (name, input, runs, steps) = match shape {
        "fan" => ("fan", 0, 1, 1_000),
        "chain" => ("chain", 1_000, 1, 1_000),
        _ => ("chain", 5, 1_000, 5_000),
    };
    let before = STEPS.load(Ordering::Relaxed);
    let runs = (0..runs).map(|_| async {
        let handle = engine.start::<_, u64>(name, input, WorkflowOptions::default()).await?;
        handle.await
    });
    for result in join_all(runs).await {
        assert_eq!(result?, if shape == "fan" { 998 } else { input }, "the result of a run");
    }
    assert_eq!(STEPS.load(Ordering::Relaxed) - before, steps, "steps that were done");
    Ok(steps)
}

async fn measure(dir: &Path, variant: &str, shape: &str) -> Result<()> {
    let engine = engine(dir, variant == "full").await?;
    let mut stored = work(&engine, shape).await?;
    let begin = Instant::now();
    let mut steps = 0;
    while steps == 0 || begin.elapsed() < Duration::from_millis(500) {
        steps += work(&engine, shape).await?;
    }
    println!("{steps} {}", begin.elapsed().as_secs_f64());
    stored += steps;
    let pool =
        SqlitePoolOptions::new().connect(&format!("sqlite://{}", dir.join("durare.db").display())).await?;
    let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM operation_outputs WHERE output IS NOT NULL")
        .fetch_one(&pool)
        .await?;
    assert_eq!(rows as u64, stored, "results that were stored");
    Ok(())
}

async fn killed(words: &[&str]) -> Result<()> {
    let (dir, server, ids) = (Path::new(words[1]), words[2].to_owned(), &words[3..]);
    // Each commit is synced, as with the others.
    if words[0] == "finish" {
        // Which runs the file still has, before anybody asks for one of them again.
        let file = format!("sqlite://{}", dir.join("durare.db").display());
        let pool = SqlitePoolOptions::new().connect(&file).await?;
        let kept: Vec<(String,)> =
            sqlx::query_as("SELECT workflow_uuid FROM workflow_status").fetch_all(&pool).await?;
        kept.iter().for_each(|(id,)| println!("kept {id}"));
        pool.close().await;
    }
    let engine = engine(dir, true).await?;
    engine.recover().await?;
    if words[0] == "tries" {
        let handle = engine.start::<_, u64>("tries", server, WorkflowOptions::with_id("tries")).await?;
        println!("ended tries {}", handle.await.is_ok());
        return Ok(());
    }
    let handles = join_all(ids.iter().map(|id| {
        let (engine, input) = (&engine, (server.clone(), id.to_string()));
        async move {
            // A second start with an id is the first one.
            let handle = engine.start::<_, u64>("effects", input, WorkflowOptions::with_id(*id)).await;
            if handle.is_ok() {
                println!("acked {id}");
            }
            (id, handle)
        }
    }));
    for (id, handle) in handles.await {
        let ended = match handle {
            Ok(handle) => handle.await.map(|_| ()),
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => println!("ended {id} true"),
            Err(error) => println!("ended {id} false {error}"),
        }
    }
    println!("done");
    std::future::pending().await
}

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["measure", variant, shape, dir] => measure(Path::new(dir), variant, shape).await,
        words @ (["work" | "finish", _, _, ..] | ["tries", _, _]) => killed(words).await,
        _ => panic!("measure normal|full SHAPE DIR, work|finish DIR SERVER ID.., or tries DIR SERVER"),
    }
}
