//! A service that remembers every effect, and looks at each request whether its attempt is recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use coworks_biz::local::axum::extract::{self, Request, State};
use coworks_biz::local::axum::http::{HeaderMap, StatusCode};
use coworks_biz::local::axum::middleware::{self, Next};
use coworks_biz::local::axum::response::{IntoResponse, Response};
use coworks_biz::local::axum::routing::{get, post};
use coworks_biz::local::axum::{Extension, Json, Router};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::Chance;
use crate::harness::TOKEN;

/// A call, by its `Idempotency-Key`: the run, the task, the map index and the generation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub run: String,
    pub task_id: String,
    pub map_index: i64,
    pub generation: i64,
}

impl Call {
    pub fn of(key: &str, asks: bool) -> Self {
        // What only asks has a key of its own each time.
        let key = if asks { key.rsplit_once('.').unwrap().0 } else { key };
        let (run, rest) = key.split_once('/').unwrap();
        let [generation, map_index, task_id] = rest.rsplitn(3, '.').collect::<Vec<_>>()[..] else {
            panic!("{key}")
        };
        let (map_index, generation) = (map_index.parse().unwrap(), generation.parse().unwrap());
        Self { run: run.to_owned(), task_id: task_id.to_owned(), map_index, generation }
    }

    /// Whether both are of one task instance, in whichever generation.
    pub fn is_of_instance(&self, other: &Self) -> bool {
        (&self.run, &self.task_id, self.map_index) == (&other.run, &other.task_id, other.map_index)
    }
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct Effect {
    /// What it was asked for; each time the same.
    pub body: String,
    pub requests: u64,
}

#[derive(Debug, Clone)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: OnceLock<PathBuf>,
    chance: Mutex<Chance>,
    effects: Mutex<BTreeMap<Call, Effect>>,
    /// What must not be.
    wrong: Mutex<Vec<String>>,
}

/// How often the call has been received, this time included.
#[derive(Debug, Clone, Copy)]
struct Nth(u64);

impl Server {
    pub fn new(chance: Chance) -> Self {
        Self(Arc::new(Inner {
            database: OnceLock::new(),
            chance: Mutex::new(chance),
            effects: Mutex::default(),
            wrong: Mutex::default(),
        }))
    }

    /// Where it is to be recorded what calls.
    pub fn open(&self, database: &Path) {
        self.0.database.set(database.to_owned()).unwrap();
    }

    pub fn entries(&self) -> Router {
        Router::new()
            .route("/effect", post(effect))
            .route("/reply", post(reply))
            .route("/flaky", post(flaky))
            .route("/size", post(size))
            .route("/there/{id}", get(there))
            .route("/tick", get(|| async { Json(1) }))
            .layer(middleware::from_fn_with_state(self.clone(), record))
    }

    pub fn effects(&self) -> BTreeMap<Call, Effect> {
        self.0.effects.lock().unwrap().clone()
    }

    pub fn wrong(&self) -> Vec<String> {
        self.0.wrong.lock().unwrap().clone()
    }

    pub fn look(&self) -> Look {
        Look::at(self.0.database.get().unwrap())
    }

    /// Takes a request in. Each of them is an attempt of its own, whose start is on record before it calls.
    fn receive(&self, call: Call, body: String) -> Nth {
        let (nth, requests) = {
            let mut effects = self.0.effects.lock().unwrap();
            let effect = effects.entry(call.clone()).or_insert(Effect { body: body.clone(), requests: 0 });
            effect.requests += 1;
            if effect.body != body {
                let text = format!("{call:?} was asked for {} and for {body}", effect.body);
                self.0.wrong.lock().unwrap().push(text);
            }
            let nth = effect.requests;
            // Starts are not told apart by the generation.
            let all = effects.iter().filter(|(other, _)| other.is_of_instance(&call));
            (nth, all.map(|(_, effect)| effect.requests).sum::<u64>())
        };
        let begun = self.look().starts(&call);
        if begun < requests {
            let text = format!("{call:?} has called {requests} times, and {begun} starts are recorded");
            self.0.wrong.lock().unwrap().push(text);
        }
        Nth(nth)
    }

    /// As long as a service takes.
    async fn work(&self) {
        let time = self.0.chance.lock().unwrap().below(30);
        tokio::time::sleep(Duration::from_millis(time)).await;
    }
}

async fn record(State(server): State<Server>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = coworks_biz::local::axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let asks = parts.uri.path().starts_with("/there/");
    if !parts.uri.path().ends_with("/tick") && header(&parts.headers, "authorization") != TOKEN {
        server.0.wrong.lock().unwrap().push(format!("{} came without the secret", parts.uri));
    }
    let call = Call::of(header(&parts.headers, "idempotency-key"), asks);
    let (keeper, text) = (server.clone(), String::from_utf8(body.to_vec()).unwrap());
    let nth = tokio::task::spawn_blocking(move || keeper.receive(call, text)).await.unwrap();
    let mut request = Request::from_parts(parts, body.into());
    request.extensions_mut().insert(nth);
    request.extensions_mut().insert(server.clone());
    server.work().await;
    next.run(request).await
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).unwrap_or_else(|| panic!("no {name}: {headers:?}")).to_str().unwrap()
}

async fn effect(Json(value): Json<u64>) -> Json<u64> {
    Json(value + 1)
}

async fn reply(Json(id): Json<u64>) -> Response {
    match id % 3 {
        0 => StatusCode::NO_CONTENT.into_response(),
        1 => Json(id + 1).into_response(),
        _ => StatusCode::CONFLICT.into_response(),
    }
}

async fn flaky(Extension(Nth(nth)): Extension<Nth>, Json(id): Json<u64>) -> Response {
    match nth {
        // What it says is told in an error.
        ..=2 => (StatusCode::SERVICE_UNAVAILABLE, format!("not for {TOKEN}")).into_response(),
        _ => Json(id + 1).into_response(),
    }
}

async fn size(Json(text): Json<String>) -> Json<usize> {
    Json(text.len())
}

async fn there(Extension(Nth(nth)): Extension<Nth>, extract::Path(id): extract::Path<u64>) -> Response {
    match nth {
        ..=3 => StatusCode::NOT_FOUND.into_response(),
        _ => Json::<Value>((id + 1).into()).into_response(),
    }
}

/// The database as it is at a moment, whoever has it.
pub struct Look(pub Connection);

impl Look {
    pub fn at(database: &Path) -> Self {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        Self(connection)
    }

    pub fn number(&self, sql: &str, params: impl rusqlite::Params) -> u64 {
        self.0.query_row(sql, params, |row| row.get::<_, Option<u64>>(0)).unwrap().unwrap_or_default()
    }

    /// How often attempts of it have begun.
    pub fn starts(&self, call: &Call) -> u64 {
        self.number(
            "SELECT count(*) FROM dag_run r CROSS JOIN event e ON e.id BETWEEN r.id << 32 AND r.id << 32 | 4294967295
             WHERE r.uuid = ? AND e.task_id = ? AND e.map_index = ? AND e.state = 'running'",
            rusqlite::params![call.run, call.task_id, call.map_index],
        )
    }

    /// How often a task that is not over has been cut off, of those that mean no harm.
    pub fn most_interrupted(&self) -> u64 {
        self.number(
            "SELECT max(interruptions) FROM task_instance t JOIN dag_run r ON r.id = t.run
             WHERE r.end_date IS NULL AND t.end_date IS NULL AND t.task_id != 'deadly'",
            [],
        )
    }

    /// How often attempts have begun, of all.
    pub fn begun(&self) -> u64 {
        self.number("SELECT count(*) FROM event WHERE state = 'running'", [])
    }

    /// How often the tasks of a run were cut off since they were last cleared.
    pub fn interruptions(&self, run: i64) -> BTreeMap<(String, i64), u64> {
        let sql = "SELECT task_id, map_index, interruptions FROM task_instance WHERE run = ?";
        let mut statement = self.0.prepare(sql).unwrap();
        let rows = statement.query_map([run], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// How many attempts are under way, and how many of them of what was cleared, in a process that has begun
    /// more than those: what an earlier one has left is taken back before the first.
    pub fn at_work(&self, begun: u64) -> (u64, u64) {
        let sql = "SELECT count(*) FROM task_instance WHERE state = 'running' AND generation >= ?";
        match self.begun() > begun {
            true => (self.number(sql, [0]), self.number(sql, [1])),
            false => (0, 0),
        }
    }

    /// How many runs are not over, but for the ticks: there is always another one.
    pub fn open_runs(&self) -> u64 {
        self.number("SELECT count(*) FROM dag_run WHERE end_date IS NULL AND dag_id != 'ticking'", [])
    }
}
