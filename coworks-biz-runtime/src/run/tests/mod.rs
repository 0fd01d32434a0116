//! Properties of `run` over random DAGs, random ends and random interleavings.

mod branches;
mod driver;
mod loops;
mod operator;
mod oracle;
mod past;
mod plan;
mod setups;

use proptest::prelude::*;

use self::driver::{Driver, well};
use self::plan::{Draft, dag, dags, task};
use super::*;
use crate::dag::TriggerRule;

const A: Key = Key { task: 0, map_index: -1 };
const B: Key = Key { task: 1, map_index: -1 };

const RUNNING: Standing = Standing { state: RunState::Running, stopped: None };

fn chain(length: u32, draft: impl Fn(Draft) -> Draft) -> &'static Dag {
    dag((0..length).map(|n| draft(task(n.checked_sub(1).as_slice()))))
}

/// A thousand of each, where `PROPTEST_CASES` says nothing.
fn cases() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(1024) }
}

/// A row of any task, in any state, with numbers that need not fit it.
fn rows() -> impl Strategy<Value = (u32, i32, Instance)> {
    let states = ["queued", "running", "success", "failed", "skipped", "up_for_retry", "up_for_reschedule"];
    let state = prop::option::of(prop::sample::select(Vec::from(states)));
    let outcome = prop::option::of(0u32..5);
    (any::<u32>(), -1..4i32, state, 0u32..4, 0u32..4, outcome).prop_map(
        |(task, map_index, state, tries, before, outcome)| {
            let state = state.map(|word| word.parse().unwrap());
            (task, map_index, Instance::recorded(state, tries.max(before), before, 0, outcome))
        },
    )
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_run_ends_and_keeps_its_promises(dag in dags(true), choices in prop::collection::vec(any::<u8>(), 1..80)) {
        let mut driver = Driver::new(dag);
        driver.drive(&choices);
        driver.check_the_end();
    }

    #[test]
    fn a_run_ends_whoever_meddles_and_is_the_same_after_a_restart(
        dag in dags(true),
        after in any::<bool>(),
        choices in prop::collection::vec(any::<u8>(), 1..80),
        meddling in prop::collection::vec(any::<(u8, u8)>(), 1..6),
    ) {
        let mut driver = Driver::after(dag, after);
        driver.drive_with(&choices, &meddling);
        driver.check_the_end();
    }

    /// Whatever rows there are, such as those of a damaged database.
    #[test]
    fn a_run_of_any_rows_ends(dag in dags(true), rows in prop::collection::vec(rows(), 0..24), choice in 0u8..32) {
        let rows = rows.into_iter().map(|(task, map_index, instance)| {
            (Key { task: task % (dag.tasks.len() as u32 + 1), map_index }, instance)
        });
        // No two of one instance.
        let rows: HashMap<_, _> = rows.collect();
        let mut run = Run::restore(dag, Start::default(), RUNNING, rows);
        let (mut commands, mut steps) = (vec![], 0);
        run.step(Event::Begin, &mut commands).unwrap();
        let all = |run: &Run| (0..dag.tasks.len() as u32).flat_map(|task| run.instances.keys(task)).collect::<Vec<_>>();
        while !run.state().is_final() {
            let left = all(&run).into_iter().find_map(|key| {
                let state = run.instances.get(key)?.state?;
                (!state.is_final()).then_some((key, state))
            });
            let (key, state) = left.expect("somebody who can go on");
            let ending = match dag.tasks[key.task as usize].kind {
                crate::dag::Kind::Branch { .. } => Ending::Chosen(u32::from(choice % 3)),
                crate::dag::Kind::Map { .. } => Ending::Mapped(u32::from(choice % 4)),
                _ => Ending::Success,
            };
            let event = match state {
                State::Queued => Event::Started(key),
                State::Running => Event::Ended(key, ending),
                _ => Event::Due(key),
            };
            run.step(event, &mut commands).unwrap();
            steps += 1;
            prop_assert!(steps < 10_000);
        }
    }

    #[test]
    fn where_all_succeed_each_task_runs_once_but_for_arms_that_are_not_taken(dag in dags(false), choice in 0u8..32) {
        let mut driver = Driver::new(dag);
        driver.drive(&[well(choice)]);
        driver.check_the_end();
        prop_assert_eq!(driver.ended, Some(RunState::Success));
        prop_assert!(driver.started.iter().all(|(_, try_number)| *try_number == 1));
    }
}

#[test]
fn an_empty_dag_succeeds_at_once() {
    assert_eq!(Driver::new(dag([])).ended, Some(RunState::Success));
}

#[test]
fn a_failure_ends_a_long_chain_below_it() {
    let mut driver = Driver::new(chain(100_000, |task| task));
    driver.pass(A, Ending::Failed(Retry::Never));
    assert_eq!(driver.ended, Some(RunState::Failed));
    assert_eq!(driver.state(Key::plain(99_999)), Some(State::UpstreamFailed));
}

#[test]
fn tries_end_with_the_retries() {
    let mut driver = Driver::new(chain(1, |task| task.retries(2)));
    for try_number in 1..=3 {
        assert_eq!(driver.instance(A).try_number, try_number);
        assert_eq!(driver.run.is_last_try(A), try_number == 3);
        driver.pass(A, Ending::Failed(Retry::AsConfigured));
        if try_number < 3 {
            assert_eq!(driver.state(A), Some(State::UpForRetry));
            driver.feed(Event::Due(A));
        }
    }
    assert_eq!(driver.state(A), Some(State::Failed));
}

#[test]
fn the_members_of_a_call_share_its_retries() {
    let mut driver = Driver::new(dag([task(&[]).retries(2), task(&[0]).retries(2).shares(0)]));
    let failed = Ending::Failed(Retry::AsConfigured);
    // One of the two retries is spent by the first member.
    driver.pass(A, failed);
    driver.feed(Event::Due(A));
    driver.pass(A, Ending::Success);
    assert!(!driver.run.is_last_try(B));
    driver.pass(B, failed);
    driver.feed(Event::Due(B));
    assert!(driver.run.is_last_try(B));
    driver.pass(B, failed);
    assert_eq!(driver.state(B), Some(State::Failed));
    assert_eq!(driver.instance(B).try_number, 2);
}

#[test]
fn the_fifth_interruption_fails_a_task_and_none_is_a_try() {
    let mut driver = Driver::new(chain(1, |task| task));
    for interruption in 1..=MAX_INTERRUPTIONS {
        driver.start(0);
        driver.end(0, 5);
        assert_eq!(driver.instance(A).interruptions, interruption);
        assert_eq!(driver.instance(A).try_number, 1);
    }
    assert_eq!(driver.ended, Some(RunState::Failed));
}

#[test]
fn an_event_that_does_not_fit_changes_nothing() {
    let mut driver = Driver::new(chain(2, |task| task));
    let before = driver.run.instances.clone();
    let mut commands = vec![];
    for event in [
        Event::Started(B),
        Event::Ended(A, Ending::Success),
        Event::Due(A),
        Event::Interrupted(A),
        Event::Started(Key::plain(7)),
        Event::Started(Key { task: 0, map_index: 0 }),
    ] {
        let misfit = driver.run.step(event, &mut commands).unwrap_err();
        assert_eq!(misfit.event, event);
    }
    assert_eq!(commands, []);
    assert_eq!(driver.run.instances, before);
}

#[test]
fn a_row_of_an_instance_that_there_cannot_be_is_passed_over() {
    let dag = chain(2, |task| task);
    let row = Instance::recorded(Some(State::Success), 1, 0, 0, None);
    let rows = [(Key { task: 0, map_index: 3 }, row), (Key::plain(9), row)];
    let run = Run::restore(dag, Start::default(), RUNNING, rows);
    assert_eq!(run.instances, Run::new(dag, Start::default()).instances);
    assert_eq!(run.open, 2);

    // Nor of one that stood for the items of a loop, where these are there.
    let looped = self::dag([plan::list(&[]), task(&[]).each(0), task(&[1])]);
    let list = (A, Instance::recorded(Some(State::Success), 1, 0, 0, Some(2)));
    let without = Run::restore(looped, Start::default(), RUNNING, [list]);
    let with = Run::restore(looped, Start::default(), RUNNING, [list, (B, row)]);
    assert_eq!((with.instances, with.open), (without.instances, without.open));
}
