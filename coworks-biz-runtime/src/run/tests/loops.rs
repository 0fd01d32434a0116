//! Loops: one instance for each item.

use std::collections::VecDeque;

use super::driver::Driver;
use super::plan::{branch, dag, list, task};
use super::*;
use State::{Failed, Queued, Skipped, Success, UpstreamFailed};

const FATAL: Ending = Ending::Failed(Retry::Never);

fn at(task: u32, map_index: i32) -> Key {
    Key { task, map_index }
}

/// A list, two tasks for each item, and one that waits for all of the second.
fn simple() -> &'static Dag {
    dag([list(&[]), task(&[]).each(0), task(&[1]).each(0), task(&[2])])
}

#[test]
fn each_item_goes_its_own_way_and_what_comes_after_waits_for_all() {
    let mut driver = Driver::new(simple());
    assert_eq!(driver.queued, [A]);
    driver.pass(A, Ending::Mapped(2));
    assert_eq!(driver.queued, [at(1, 0), at(1, 1)]);
    driver.pass(at(1, 1), Ending::Success);
    assert_eq!(driver.queued, [at(1, 0), at(2, 1)]);
    driver.pass(at(2, 1), Ending::Success);
    assert_eq!(driver.states(3), [None]);
    driver.pass(at(1, 0), Ending::Success);
    driver.pass(at(2, 0), Ending::Success);
    driver.pass(Key::plain(3), Ending::Success);
    assert_eq!(driver.ended, Some(RunState::Success));
    assert_eq!(driver.states(2), [Some(Success); 2]);
}

#[test]
fn one_item_is_one_instance_all_the_same() {
    let mut driver = Driver::new(simple());
    driver.pass(A, Ending::Mapped(1));
    assert_eq!(driver.queued, [at(1, 0)]);
    driver.drive(&[well(1)]);
    assert_eq!(driver.ended, Some(RunState::Success));
    driver.check_the_end();
}

#[test]
fn a_loop_that_does_not_run_ends_as_its_list_says() {
    for (ending, end) in [(Ending::Mapped(0), Skipped), (Ending::Skipped, Skipped), (FATAL, UpstreamFailed)] {
        let mut driver = Driver::new(simple());
        driver.pass(A, ending);
        for task in [1, 2, 3] {
            assert_eq!(driver.states(task), [Some(end)], "{ending:?}");
        }
        driver.check_the_end();
    }
    // The same where the list itself does not run, and for what is deeper inside.
    for (ending, end) in [(Ending::Skipped, Skipped), (FATAL, UpstreamFailed)] {
        let inner = [branch(&[], 1).each(1), task(&[]).arm(2, 0)];
        let all = [task(&[]), list(&[0])].into_iter().chain(inner);
        let mut driver = Driver::new(dag(all));
        driver.pass(A, ending);
        for task in [1, 2, 3] {
            assert_eq!(driver.states(task), [Some(end)], "{ending:?}");
        }
    }
}

#[test]
fn a_failure_stays_with_its_item_and_fails_what_waits_for_all() {
    let mut driver = Driver::new(simple());
    driver.pass(A, Ending::Mapped(3));
    driver.pass(at(1, 1), FATAL);
    assert_eq!(driver.states(2), [None, Some(UpstreamFailed), None]);
    assert_eq!(driver.states(3), [Some(UpstreamFailed)], "it is certain at once");
    driver.drive(&[well(1)]);
    assert_eq!(driver.states(2), [Some(Success), Some(UpstreamFailed), Some(Success)]);
    assert_eq!(driver.ended, Some(RunState::Failed));
}

#[test]
fn one_success_does_not_wait_for_the_other_items() {
    let after = task(&[1]).rule(TriggerRule::OneSuccess);
    let mut driver = Driver::new(dag([list(&[]), task(&[]).each(0), after]));
    driver.pass(A, Ending::Mapped(3));
    driver.pass(at(1, 2), Ending::Success);
    assert_eq!(driver.states(2), [Some(Queued)]);
}

#[test]
fn every_instance_waits_for_the_whole_of_what_is_outside() {
    // 0 list, 1 outside, 2 in the loop, 3 list, 4 in the other loop.
    let all = || [list(&[]), task(&[]), task(&[1]).each(0), list(&[]), task(&[2]).each(3)];
    let mut driver = Driver::new(dag(all()));
    driver.pass(A, Ending::Mapped(2));
    driver.pass(Key::plain(3), Ending::Mapped(2));
    assert_eq!(driver.queued, [B]);
    driver.pass(B, Ending::Success);
    driver.pass(at(2, 0), Ending::Success);
    assert_eq!(driver.queued, [at(2, 1)]);
    driver.pass(at(2, 1), Ending::Success);
    assert_eq!(driver.queued, [at(4, 0), at(4, 1)]);

    // Whichever is known first: what is outside, or the items.
    let mut driver = Driver::new(dag(all()));
    driver.pass(B, Ending::Skipped);
    driver.pass(A, Ending::Mapped(2));
    assert_eq!(driver.states(2), [Some(Skipped); 2]);
    driver.pass(Key::plain(3), Ending::Mapped(3));
    assert_eq!(driver.states(4), [Some(Skipped); 3]);
    driver.check_the_end();
}

#[test]
fn each_item_takes_its_own_arm() {
    // 0 list, 1 branch in the loop, 2 and 3 its arms, 4 joins them, 5 waits for all.
    let all = [
        list(&[]),
        branch(&[], 2).each(0),
        task(&[]).arm(1, 0),
        task(&[]).arm(1, 1),
        super::plan::join(&[2, 3]).each(0),
        task(&[4]),
    ];
    let mut driver = Driver::new(dag(all));
    driver.pass(A, Ending::Mapped(3));
    driver.pass(at(1, 0), Ending::Chosen(0));
    driver.pass(at(1, 1), Ending::Chosen(1));
    driver.pass(at(1, 2), FATAL);
    assert_eq!(driver.states(2), [Some(Queued), Some(Skipped), Some(UpstreamFailed)]);
    assert_eq!(driver.states(3), [Some(Skipped), Some(Queued), Some(UpstreamFailed)]);
    driver.pass(at(2, 0), Ending::Success);
    driver.pass(at(3, 1), Ending::Success);
    assert_eq!(driver.states(4), [Some(Queued), Some(Queued), Some(UpstreamFailed)]);
    assert_eq!(driver.states(5), [Some(UpstreamFailed)]);
}

#[test]
fn a_loop_in_an_arm_that_is_not_taken_is_skipped() {
    let mut driver = Driver::new(dag([branch(&[], 2), list(&[]).arm(0, 1), task(&[]).each(1), task(&[2])]));
    driver.pass(A, Ending::Chosen(0));
    assert_eq!([1, 2, 3].map(|task| driver.state(Key::plain(task))), [Some(Skipped); 3]);
}

#[test]
fn retries_are_shared_by_the_members_of_one_item() {
    let all = [list(&[]), task(&[]).each(0).retries(1), task(&[1]).each(0).retries(1).shares(1)];
    let mut driver = Driver::new(dag(all));
    let failed = Ending::Failed(Retry::AsConfigured);
    driver.pass(A, Ending::Mapped(2));
    driver.pass(at(1, 0), failed);
    driver.feed(Event::Due(at(1, 0)));
    for index in [0, 1] {
        driver.pass(at(1, index), Ending::Success);
        assert_eq!(driver.run.is_last_try(at(2, index)), index == 0);
        driver.pass(at(2, index), failed);
    }
    assert_eq!(driver.states(2), [Some(Failed), Some(State::UpForRetry)]);
}

/// Drives a run in which all succeeds, and answers how many instances ran and how many commands there were.
fn count(dag: &'static Dag, items: u32) -> (usize, usize) {
    let (mut run, mut commands) = (Run::new(dag, Start::default()), vec![]);
    let (mut queue, mut ran, mut commanded) = (VecDeque::new(), 0, 0);
    run.step(Event::Begin, &mut commands).unwrap();
    loop {
        commanded += commands.len();
        queue.extend(commands.drain(..).filter_map(|command| match command {
            Command::Set { key, state: Queued, .. } => Some(key),
            _ => None,
        }));
        let Some(key) = queue.pop_front() else { break };
        let ending = match dag.tasks[key.task as usize].kind {
            crate::dag::Kind::Map { .. } => Ending::Mapped(items),
            _ => Ending::Success,
        };
        run.step(Event::Started(key), &mut commands).unwrap();
        run.step(Event::Ended(key, ending), &mut commands).unwrap();
        ran += 1;
    }
    assert_eq!(run.state(), RunState::Success);
    (ran, commanded)
}

/// Anything quadratic here takes hours: the edge between the loops alone is one of 10^10 pairs.
#[test]
fn a_hundred_thousand_items_are_no_more_than_that() {
    let all = [
        list(&[]),
        task(&[]).each(0),
        task(&[1]).each(0),
        task(&[2]),
        list(&[]),
        task(&[2]).each(4),
        task(&[5, 2, 3]),
    ];
    let (ran, commanded) = count(dag(all), 100_000);
    assert_eq!((ran, commanded), (300_004, 3 * 300_004 + 1));
}

#[test]
fn ten_thousand_failures_of_one_kind_are_told_to_the_other_loop_once() {
    let mut driver = Driver::new(dag([list(&[]), task(&[]), task(&[1]).each(0), task(&[2]).each(0)]));
    driver.pass(A, Ending::Mapped(10_000));
    driver.pass(B, FATAL);
    assert_eq!(driver.ended, Some(RunState::Failed));
    assert!(driver.states(3).iter().all(|state| *state == Some(UpstreamFailed)));
}
