//! What an earlier process has left, with nonsense in any row: the engine refuses it and says why, or goes on.

use super::shapes::{EACH, conf, list, with};
use super::*;
use crate::abuse::Abuse;
use crate::store::abuse::Whole;

/// A loop of two, one behind the other, what comes after it, and two beside it.
fn office(work: Runner) -> &'static Definition {
    define(
        "office",
        [
            (list(&[1, 2]), Body::Map(conf)),
            (Task { task_id: "work", ..EACH }, Body::Function(work)),
            (Task { task_id: "then", upstream: &[1], ..EACH }, Body::Function(one)),
            (Task { task_id: "after", upstream: &[2], ..Task::FUNCTION }, Body::Function(one)),
            (Task { task_id: "beside", ..Task::FUNCTION }, Body::Function(work)),
            (Task { task_id: "last", upstream: &[4], ..Task::FUNCTION }, Body::Function(one)),
        ],
    )
}

fn never(_: &Context) -> Result<Work> {
    Ok(finish(std::future::pending::<Result<()>>()))
}

/// Leaves two runs that have ended, two that are under way, and one that waits to begin.
async fn leave(path: &Path) {
    let config = config(path.parent().unwrap(), 8);
    let quick = office(one);
    let engine = Engine::start(&config, &[quick], Mode::Serve).unwrap();
    for _ in 0..2 {
        engine.trigger(quick, with(&[1, 2])).await.unwrap().ended().await.unwrap();
    }
    drop(engine);
    let slow = office(never);
    let engine = Engine::start(&config, &[slow], Mode::Serve).unwrap();
    for number in 3..=4 {
        engine.trigger(slow, with(&[1, 2, 3])).await.unwrap();
        let reader = Reader::open(path).unwrap();
        let running = || {
            let tasks = reader.tasks(number).unwrap();
            tasks.iter().filter(|task| task.state == Some(crate::run::State::Running)).count()
        };
        until(async || (running() == 4).then_some(())).await;
    }
    engine.order(Order::Pause { dag_id: "office".into(), paused: true }).await.unwrap();
    engine.trigger(slow, with(&[1])).await.unwrap();
    drop(engine);
}

async fn taken_over(path: &Path, definition: &'static Definition) -> String {
    // A run may be said to have ended long ago.
    let config = Config { retention: None, ..config(path.parent().unwrap(), 8) };
    let engine = match Engine::start(&config, &[definition], Mode::Serve) {
        Ok(engine) => engine,
        Err(EngineError::Store(error)) => {
            let text = error.to_string();
            assert!(text.contains("biz.db"), "{text}");
            return text.split(':').next_back().unwrap_or_default().to_owned();
        }
        Err(other) => panic!("{other}"),
    };
    let mut failure = None;
    for _ in 0..5 {
        failure = failure.or(engine.order(Order::Status).await.err());
    }
    let failure = failure.or(engine.drain().await.err()).map(|error| error.to_string());
    if let Some(failure) = &failure {
        assert!(!failure.contains("panicked"), "{failure}");
    }
    failure.unwrap_or_else(|| "goes on".to_owned())
}

#[test]
fn nonsense_in_any_row_is_refused_or_gone_on_with() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let whole = Whole::of(|path| tokio.block_on(leave(path)));
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("copy");
    std::fs::create_dir(&dir).unwrap();
    let definition = office(one);
    let words = [
        "set 0 ",
        "set 1 ",
        "set 2 ",
        "set 6 ",
        "set 1 3 ",
        "set 1 2 ",
        "set 1 13 ",
        "set 1 9 ",
        "set 0 5 ",
        " trunning",
        " tqueued",
        " tsuccess",
        " tfailed",
        " tskipped",
        " tup_for_retry",
        " tup_for_reschedule",
        " tremoved",
        " twork",
        " tlist",
        " n",
        " i-1",
        " i0",
        " i1",
        " i3",
        " i999",
        " i4294967295",
        " i1000000000",
        " i9223372036854775807",
        " i6000000000000000000",
        " t{}",
        " t",
        " t{\"run\":3}",
        " t[1,2,3]",
        " t2",
        "delete 0 ",
        "\n",
    ];
    Abuse { target: "rows", words: &words, cases: 60 }.of(|case| {
        let (path, only_rows) = whole.damaged(&dir, &String::from_utf8_lossy(case));
        if !only_rows {
            return "not of rows".to_owned();
        }
        let runs = || Reader::open(&path).and_then(|reader| reader.runs(None, 99)).map(|runs| runs.len());
        let before = runs();
        let told = tokio.block_on(taken_over(&path, definition));
        if let (Ok(before), Ok(after)) = (before, runs()) {
            assert_eq!(before, after, "{told}");
        }
        told
    });
}
