//! What the simulation has found once, written out: a seed is another world as soon as anything more is drawn.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::attempts::{Working, failed, value};
use super::hands::Wish;
use super::machine::{Machine, Process};
use super::plan::{GROUPS, Program};
use super::random::Random;
use crate::dag::{Dag, Kind, Task};
use crate::engine::core::TURN;
use crate::engine::message::Message;
use crate::engine::{EngineError, Mode, Order, RunHandle, RunName, Trigger};
use crate::error::Retry;
use crate::run::RunState;
use crate::store::{IN_FLIGHT, Stored, Which};
use crate::task::{Body, Definition, End, Member};
use crate::value::Json;

/// The real engine, and whoever has its attempts end.
struct ByHand {
    machine: Machine,
    process: Option<Process>,
    /// By run and task.
    working: BTreeMap<(i64, &'static str), (u64, Working)>,
}

impl ByHand {
    /// An asynchronous call, `x`.
    fn call(depends_on_past: bool) -> Self {
        let group = |member| Body::Group { member, call: &GROUPS[0], arguments: None, submit: 0 };
        let task = |task_id, kind, upstream, downstream| Task {
            task_id,
            kind,
            upstream,
            downstream,
            ..Task::FUNCTION
        };
        let tasks = vec![
            task("x.call", Kind::Submit, &[], &[1]),
            Task { shares: &[0], ..task("x.wait", Kind::Wait, &[0], &[2]) },
            Task { shares: &[0, 1], ..task("x.read", Kind::Read, &[1], &[]) },
        ];
        let bodies = vec![group(Member::Submit), group(Member::Wait), group(Member::Read)].leak();
        let dag =
            Dag { dag_id: "calls", tasks: tasks.leak(), order: &[0, 1, 2], depends_on_past, ..Dag::EMPTY };
        let definition = Definition { dag: Box::leak(Box::new(dag)), bodies, ..Definition::EMPTY };
        let program = Program {
            definitions: vec![Box::leak(Box::new(definition))],
            targets: vec![BTreeMap::new()],
            parallelism: 4,
            pools: BTreeMap::new(),
            concurrency: None,
            rate: None,
        };
        let machine = Machine::new(Box::leak(Box::new(program)), &mut Random::new(0));
        let mut this = Self { machine, process: None, working: BTreeMap::new() };
        this.start();
        this
    }

    fn start(&mut self) {
        self.process = Some(self.machine.start(Mode::Serve));
        self.turn();
    }

    fn dies(&mut self) {
        self.process = None;
        self.working.clear();
    }

    /// Turns of the engine, until it has nothing more to do.
    fn turn(&mut self) {
        let Some(Process { core, mailbox, .. }) = &mut self.process else { return };
        loop {
            for phase in TURN {
                assert!(core.phase(phase, mailbox).unwrap());
            }
            let first = mailbox.try_recv().ok();
            if first.is_none() && !core.is_busy() {
                break;
            }
            assert!(core.take(first, |_| mailbox.try_recv().ok()).unwrap());
        }
        for wish in self.machine.noted.take() {
            if let Wish::Begin(number, attempt, host) = wish {
                let id = (attempt.run.number, attempt.node().task_id);
                self.working.insert(id, (number, Working::new(*attempt, host, number)));
            }
        }
    }

    fn tell(&mut self, message: Message) {
        self.process.as_ref().unwrap().post.send(message).unwrap();
        self.turn();
    }

    /// Triggers a run, and answers with its name.
    fn trigger(&mut self) -> RunName {
        let (message, mut answer) = self.triggers(None);
        self.tell(message);
        let run = answer.try_recv().unwrap().unwrap().run;
        RunName { dag_id: None, run_id: run.run_id.to_string() }
    }

    /// What has a run triggered, with this key.
    fn triggers(&self, key: Option<&str>) -> (Message, oneshot::Receiver<Result<RunHandle, EngineError>>) {
        let definition = self.process.as_ref().unwrap().core.dags[0].definition;
        let (reply, answer) = oneshot::channel();
        let trigger = Trigger { idempotency_key: key.map(str::to_owned), ..Trigger::default() };
        (Message::Trigger { definition, trigger, reply }, answer)
    }

    fn order(&mut self, order: Order) {
        let (reply, mut answer) = oneshot::channel();
        self.tell(Message::Order { order, reply });
        answer.try_recv().unwrap().unwrap();
    }

    fn ends(&mut self, run: i64, task: &'static str, end: End) {
        let (number, working) = self.working.remove(&(run, task)).expect("it is under way");
        self.tell(Message::Ended(working.message(number, end)));
    }

    /// The call was sent, and its answer has come.
    fn is_answered(&mut self, run: i64) {
        let mut sent = value();
        sent.xcoms.push(("key".into(), Json::from_stored("\"key\"")));
        self.ends(run, "x.call", sent);
        self.ends(run, "x.wait", value());
    }

    /// The runs of which an answer is to be deleted.
    fn deletes(&self) -> Vec<i64> {
        let writer = &self.process.as_ref().unwrap().core.writer;
        let all = writer.deletions(DateTime::<Utc>::MAX_UTC, 10).unwrap();
        let runs: Vec<_> = (1..3).flat_map(|number| writer.runs(Which::Number(number)).unwrap()).collect();
        let of = |key: &str| runs.iter().find(|run| key.contains(&run.uuid)).expect("it is of a run").number;
        all.iter().map(|deletion| of(&deletion.object.key)).collect()
    }
}

#[test]
fn the_answer_to_a_call_that_was_cut_off_and_then_refused_is_deleted() {
    let refused = || End { answered: Some(400), ..failed(Retry::Never) };
    let mut calls = ByHand::call(false);
    calls.trigger();
    calls.ends(1, "x.call", refused());
    assert!(calls.deletes().is_empty(), "nobody has begun anything");

    calls.trigger();
    calls.dies();
    calls.start();
    calls.ends(2, "x.call", refused());
    assert_eq!(calls.deletes(), [2], "the attempt that was cut off may have been taken");
}

#[test]
fn the_answer_to_a_call_whose_read_waits_for_its_past_is_deleted_where_nobody_will_read_it() {
    let held_back = || {
        let mut calls = ByHand::call(true);
        let (_, second) = (calls.trigger(), calls.trigger());
        calls.is_answered(1);
        calls.is_answered(2);
        assert!(!calls.working.contains_key(&(2, "x.read")), "it waits for that of the first run");
        assert!(calls.deletes().is_empty());
        (calls, second)
    };
    let (mut calls, run) = held_back();
    calls.order(Order::Cancel { run });
    assert_eq!(calls.deletes(), [2]);

    let (mut calls, run) = held_back();
    calls.order(Order::Retry { run, from: vec!["x.call".to_owned()] });
    assert_eq!(calls.deletes(), [2]);
}

#[test]
fn what_a_task_returns_in_the_moment_in_which_it_is_cleared_is_not_kept() {
    let mut calls = ByHand::call(false);
    let run = calls.trigger();
    calls.is_answered(1);
    let (number, working) = calls.working.remove(&(1, "x.read")).unwrap();
    let ended = working.message(number, value());
    let (reply, _cleared) = oneshot::channel();
    let order = Order::Retry { run, from: vec!["x".to_owned()] };
    // Both are there before the engine takes either.
    let post = &calls.process.as_ref().unwrap().post;
    post.send(Message::Ended(ended)).unwrap();
    post.send(Message::Order { order, reply }).unwrap();
    calls.turn();
    assert!(calls.working.contains_key(&(1, "x.call")), "it runs again");
    let core = &calls.process.as_ref().unwrap().core;
    assert_eq!(core.runs[&1].outputs.kept(), []);
}

#[test]
fn a_key_that_comes_again_with_a_retry_is_answered_with_the_run_as_it_goes_on() {
    let mut calls = ByHand::call(false);
    let (message, mut answer) = calls.triggers(Some("key"));
    calls.tell(message);
    let first = answer.try_recv().unwrap().unwrap();
    calls.ends(1, "x.call", failed(Retry::Never));
    assert_eq!(*first.ended.borrow(), Some(RunState::Failed));

    // Both are there before the engine takes either.
    let (reply, _retried) = oneshot::channel();
    let run = RunName { dag_id: None, run_id: first.run.run_id.to_string() };
    let order = Order::Retry { run, from: Vec::new() };
    let (message, mut answer) = calls.triggers(Some("key"));
    let post = &calls.process.as_ref().unwrap().post;
    post.send(Message::Order { order, reply }).unwrap();
    post.send(message).unwrap();
    calls.turn();
    let again = answer.try_recv().unwrap().unwrap();
    assert_eq!((again.run.number, *again.ended.borrow()), (1, None));
    calls.is_answered(1);
    calls.ends(1, "x.read", value());
    assert_eq!(*again.ended.borrow(), Some(RunState::Success));
}

#[test]
#[cfg(unix)]
fn nobody_goes_on_where_what_was_removed_may_not_be_gone_from_the_disk() {
    let mut calls = ByHand::call(false);
    let Process { core, .. } = calls.process.as_mut().unwrap();
    let blobs = core.writer.blobs();
    let Stored::Blob(name) = blobs.store(&Json::encode(&"x".repeat(100_000)).unwrap()).unwrap() else {
        panic!("it is large")
    };
    let file = std::fs::File::options().append(true).open(blobs.dir().join(name)).unwrap();
    file.set_modified(std::time::SystemTime::now() - 2 * IN_FLIGHT).unwrap();
    core.writer.sync_instead(std::fs::File::open("/dev/null").unwrap());
    let error = core.prune().unwrap_err().to_string();
    assert!(error.contains("may not be on the disk"), "{error}");
}
