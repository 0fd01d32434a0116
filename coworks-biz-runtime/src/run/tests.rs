//! Properties of `run` over random DAGs, random ends and random interleavings.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::dag::{Kind, Options, Source, Task, TriggerRule};

/// A DAG of the given upstreams (each below its own index), leaked: a `Dag` is static.
fn dag(tasks: &[(Vec<u32>, TriggerRule, u32)]) -> &'static Dag {
    fn leak<T>(list: Vec<T>) -> &'static [T] {
        Vec::leak(list)
    }
    let mut downstream = vec![vec![]; tasks.len()];
    for (index, (upstream, ..)) in tasks.iter().enumerate() {
        for &above in upstream {
            downstream[above as usize].push(index as u32);
        }
    }
    let nodes =
        tasks.iter().zip(downstream).enumerate().map(|(index, ((upstream, rule, retries), down))| Task {
            task_id: format!("t{index}").leak(),
            kind: Kind::Function,
            upstream: leak(upstream.clone()),
            downstream: leak(down),
            inputs: &[],
            shares: &[],
            output: "",
            options: Box::leak(Box::new(Options {
                trigger_rule: *rule,
                retries: *retries,
                ..Options::DEFAULT
            })),
            line: 1,
        });
    Box::leak(Box::new(Dag {
        dag_id: "random",
        description: "",
        source: Source { file: "tests.rs", line: 1 },
        schedule: None,
        timezone: "UTC",
        start_date: None,
        end_date: None,
        catchup: false,
        tags: &[],
        owner: "",
        tasks: leak(nodes.collect()),
        order: leak((0..tasks.len() as u32).collect()),
    }))
}

fn chain(length: u32, rule: TriggerRule, retries: u32) -> &'static Dag {
    dag(&(0..length).map(|n| (n.checked_sub(1).into_iter().collect(), rule, retries)).collect::<Vec<_>>())
}

fn rules() -> impl Strategy<Value = TriggerRule> {
    use TriggerRule::*;
    prop_oneof![
        6 => Just(AllSuccess),
        1 => prop::sample::select(vec![
            AllFailed, AllDone, AllDoneMinOneSuccess, AllSkipped, OneSuccess, OneFailed, OneDone,
            NoneFailed, NoneFailedMinOneSuccess, NoneSkipped, Always,
        ]),
    ]
}

fn dags() -> impl Strategy<Value = &'static Dag> {
    prop::collection::vec((any::<u32>(), any::<u32>(), rules(), 0u32..3), 0..12).prop_map(|raw| {
        let tasks: Vec<_> = raw
            .iter()
            .enumerate()
            .map(|(index, &(bits, sparse, rule, retries))| {
                let upstream = (0..index as u32).filter(|n| (bits & sparse) >> n & 1 == 1).collect();
                (upstream, rule, retries)
            })
            .collect();
        dag(&tasks)
    })
}

/// Drives a run as an engine would, choosing by `choices` what happens next,
/// and holds every promise against it on the way.
struct Driver {
    run: Run,
    queued: Vec<u32>,
    running: Vec<u32>,
    waiting: Vec<u32>,
    /// (task, try) of every attempt whose start was not a continuation.
    started: HashSet<(u32, u32)>,
    continued: HashSet<u32>,
    ended: Option<RunState>,
}

impl Driver {
    fn new(dag: &'static Dag) -> Self {
        let mut driver = Self {
            run: Run::new(dag),
            queued: vec![],
            running: vec![],
            waiting: vec![],
            started: HashSet::new(),
            continued: HashSet::new(),
            ended: None,
        };
        driver.feed(Event::Begin);
        driver
    }

    fn feed(&mut self, event: Event) {
        let mut commands = vec![];
        self.run.step(event, &mut commands).unwrap();
        for command in commands {
            assert_eq!(self.ended, None, "{command:?} after the end of the run");
            match command {
                Command::Set { task, state, try_number } => {
                    assert_eq!(self.run.task(task).try_number, try_number);
                    self.waiting.retain(|&t| t != task);
                    match state {
                        State::Queued => self.queued.push(task),
                        State::Running => self.running.push(task),
                        State::UpForRetry | State::UpForReschedule => self.waiting.push(task),
                        _ => assert!(state.is_final()),
                    }
                }
                Command::Wake { task, .. } => assert!(self.waiting.contains(&task)),
                Command::End(state) => self.ended = Some(state),
            }
        }
    }

    fn start(&mut self, at: usize) {
        let task = self.queued.swap_remove(at);
        let node = &self.run.dag().tasks[task as usize];
        let upstreams = || node.upstream.iter().map(|&u| self.run.task(u).state);
        match node.options.trigger_rule {
            TriggerRule::AllSuccess => assert!(upstreams().all(|s| s == Some(State::Success))),
            TriggerRule::Always | TriggerRule::OneSuccess | TriggerRule::OneFailed | TriggerRule::OneDone => {
            }
            _ => assert!(upstreams().all(|s| s.is_some_and(State::is_final))),
        }
        let try_number = self.run.task(task).try_number;
        assert!((1..=node.options.retries + 1).contains(&try_number));
        let new = self.started.insert((task, try_number));
        assert!(new || self.continued.remove(&task), "try {try_number} of {task} ran twice");
        self.feed(Event::Started(task));
    }

    fn end(&mut self, at: usize, choice: u8) {
        let task = self.running.swap_remove(at);
        let event = match choice % 8 {
            0 | 1 => Event::Ended(task, Ending::Failed(Retry::AsConfigured)),
            2 => Event::Ended(task, Ending::Failed(Retry::Never)),
            3 => Event::Ended(task, Ending::Skipped),
            4 => Event::Ended(task, Ending::Deferred),
            5 => Event::Interrupted(task),
            _ => Event::Ended(task, Ending::Success),
        };
        if matches!(event, Event::Interrupted(_) | Event::Ended(_, Ending::Deferred)) {
            self.continued.insert(task);
        }
        self.feed(event);
    }

    /// Forgets the run and restores it from what was recorded, as after a crash.
    fn crash(&mut self) {
        let dag = self.run.dag();
        let recorded: Vec<_> = (0..dag.tasks.len() as u32)
            .filter_map(|task| {
                let now = self.run.task(task);
                Some((task, Instance::recorded(now.state?, now.try_number, now.interruptions)))
            })
            .collect();
        let restored = Run::restore(dag, recorded);
        assert_eq!(restored.tasks, self.run.tasks);
        assert_eq!(restored.open, self.run.open);
        self.run = restored;
        let mut commands = vec![];
        self.run.step(Event::Begin, &mut commands).unwrap();
        assert_eq!(commands, [], "what was recorded left something undecided");
    }

    fn drive(&mut self, choices: &[u8]) {
        let mut choices = choices.iter().copied().cycle();
        for round in 0.. {
            assert!(round < 100_000, "the run does not end");
            let choice = choices.next().unwrap_or(0);
            // After the choices are used up once, everything succeeds.
            let ending = if round > 300 { 7 } else { choice >> 2 };
            let open = [self.queued.len(), self.running.len(), self.waiting.len()];
            if open == [0, 0, 0] {
                break;
            }
            let pick = (0..3).map(|n| (n + choice as usize) % 3).find(|&n| open[n] > 0).unwrap();
            let at = choice as usize % open[pick];
            match pick {
                0 => self.start(at),
                1 => self.end(at, ending),
                _ => {
                    let task = self.waiting[at];
                    self.feed(Event::Due(task));
                }
            }
            if choice % 16 == 9 && self.ended.is_none() {
                self.crash();
            }
        }
    }
}

proptest! {
    #[test]
    fn every_run_ends_and_keeps_its_promises(dag in dags(), choices in prop::collection::vec(any::<u8>(), 1..80)) {
        let mut driver = Driver::new(dag);
        driver.drive(&choices);
        let states: Vec<_> = (0..dag.tasks.len() as u32).map(|t| driver.run.task(t).state).collect();
        prop_assert!(states.iter().all(|s| s.is_some_and(State::is_final)), "{:?}", states);
        let failed_leaf = dag.tasks.iter().zip(&states).any(|(task, state)| {
            task.downstream.is_empty() && matches!(state, Some(State::Failed | State::UpstreamFailed))
        });
        let expected = if failed_leaf { RunState::Failed } else { RunState::Success };
        prop_assert_eq!(driver.ended, Some(expected));
    }

    #[test]
    fn where_all_succeed_each_task_runs_once(dag in dags()) {
        let all_success = dag.tasks.iter().all(|task| task.options.trigger_rule == TriggerRule::AllSuccess);
        prop_assume!(all_success);
        let mut driver = Driver::new(dag);
        driver.drive(&[28]);
        prop_assert_eq!(driver.started.len(), dag.tasks.len());
        prop_assert_eq!(driver.ended, Some(RunState::Success));
    }
}

#[test]
fn an_empty_dag_succeeds_at_once() {
    assert_eq!(Driver::new(dag(&[])).ended, Some(RunState::Success));
}

#[test]
fn a_failure_ends_a_long_chain_below_it() {
    let mut driver = Driver::new(chain(100_000, TriggerRule::AllSuccess, 0));
    driver.start(0);
    driver.end(0, 2);
    assert_eq!(driver.ended, Some(RunState::Failed));
    assert_eq!(driver.run.task(99_999).state, Some(State::UpstreamFailed));
}

#[test]
fn tries_end_with_the_retries() {
    let mut driver = Driver::new(chain(1, TriggerRule::AllSuccess, 2));
    for try_number in 1..=3 {
        driver.start(0);
        assert_eq!(driver.run.task(0).try_number, try_number);
        driver.end(0, 0);
        if try_number < 3 {
            assert_eq!(driver.run.task(0).state, Some(State::UpForRetry));
            driver.feed(Event::Due(0));
        }
    }
    assert_eq!(driver.run.task(0).state, Some(State::Failed));
}

#[test]
fn the_members_of_a_call_share_its_retries() {
    let shared = dag(&[(vec![], TriggerRule::AllSuccess, 2), (vec![0], TriggerRule::AllSuccess, 2)]);
    let mut nodes: Vec<_> = shared.tasks.iter().map(|task| Task { ..*task }).collect();
    nodes[1].shares = &[0];
    let mut driver = Driver::new(Box::leak(Box::new(Dag { tasks: nodes.leak(), ..*shared })));
    // One of the two retries is spent by the first member.
    for ending in [0, 7] {
        driver.start(0);
        driver.end(0, ending);
        if ending == 0 {
            driver.feed(Event::Due(0));
        }
    }
    driver.start(0);
    driver.end(0, 0);
    driver.feed(Event::Due(1));
    driver.start(0);
    driver.end(0, 0);
    assert_eq!(driver.run.task(1).state, Some(State::Failed));
    assert_eq!(driver.run.task(1).try_number, 2);
}

#[test]
fn the_fifth_interruption_fails_a_task_and_none_is_a_try() {
    let mut driver = Driver::new(chain(1, TriggerRule::AllSuccess, 0));
    for interruption in 1..=MAX_INTERRUPTIONS {
        driver.start(0);
        driver.end(0, 5);
        assert_eq!(driver.run.task(0).interruptions, interruption);
        assert_eq!(driver.run.task(0).try_number, 1);
    }
    assert_eq!(driver.ended, Some(RunState::Failed));
}

#[test]
fn an_event_that_does_not_fit_changes_nothing() {
    let mut driver = Driver::new(chain(2, TriggerRule::AllSuccess, 0));
    let before = driver.run.tasks.clone();
    let mut commands = vec![];
    for event in [
        Event::Started(1),
        Event::Ended(0, Ending::Success),
        Event::Due(0),
        Event::Interrupted(0),
        Event::Started(7),
    ] {
        let misfit = driver.run.step(event, &mut commands).unwrap_err();
        assert_eq!(misfit.event, event);
    }
    assert_eq!(commands, []);
    assert_eq!(driver.run.tasks, before);
}

#[test]
fn delays_double_up_to_their_ceiling() {
    let seconds = Duration::from_secs;
    let options = Options {
        retry_delay: seconds(10),
        retry_exponential_backoff: true,
        max_retry_delay: Some(seconds(60)),
        ..Options::DEFAULT
    };
    let delays: Vec<_> = (1..=5).map(|n| retry_delay(&options, n).as_secs()).collect();
    assert_eq!(delays, [10, 20, 40, 60, 60]);
    assert_eq!(retry_delay(&options, 200), seconds(60));
}
