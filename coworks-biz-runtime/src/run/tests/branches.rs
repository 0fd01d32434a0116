//! Branches, joins, setups and teardowns, as Airflow has them.

use super::driver::Driver;
use super::plan::{branch, dag, join, task};
use super::*;
use crate::dag::Role;
use State::{Failed, Skipped, Success, UpstreamFailed};

const FATAL: Ending = Ending::Failed(Retry::Never);

/// What becomes of a task, given the ends of those above it.
fn states(driver: &Driver) -> Vec<Option<State>> {
    (0..driver.run.dag().tasks.len() as u32).map(|task| driver.state(Key::plain(task))).collect()
}

#[test]
fn the_arm_that_is_chosen_runs_and_the_others_are_skipped() {
    let dag = dag([branch(&[], 3), task(&[]).arm(0, 0), task(&[]).arm(0, 1), task(&[2]).arm(0, 1)]);
    let mut driver = Driver::new(dag);
    assert_eq!(driver.queued, [A]);
    driver.pass(A, Ending::Chosen(1));
    assert_eq!(driver.queued, [Key::plain(2)]);
    assert_eq!(driver.state(B), Some(Skipped));
    assert_eq!(driver.instance(A).outcome, Some(1));
    driver.drive(&[well(1)]);
    assert_eq!(states(&driver), [Success, Skipped, Success, Success].map(Some));

    let mut driver = Driver::new(dag);
    driver.pass(A, Ending::Chosen(2));
    assert_eq!(states(&driver), [Success, Skipped, Skipped, Skipped].map(Some));
    assert_eq!(driver.ended, Some(RunState::Success));
}

#[test]
fn no_rule_runs_a_task_in_an_arm_that_is_not_taken() {
    for rule in [TriggerRule::AllDone, TriggerRule::Always, TriggerRule::OneSuccess, TriggerRule::NoneFailed]
    {
        let mut driver = Driver::new(dag([branch(&[], 2), task(&[]), task(&[1]).arm(0, 1).rule(rule)]));
        driver.pass(B, Ending::Success);
        assert!(!driver.queued.contains(&Key::plain(2)), "{rule:?} does not pass the gate");
        driver.pass(A, Ending::Chosen(0));
        assert_eq!(driver.state(Key::plain(2)), Some(Skipped), "{rule:?}");
    }
}

#[test]
fn members_follow_a_branch_that_does_not_choose_to_any_depth() {
    let deep = || {
        let inner = branch(&[], 1).arm(0, 0);
        dag([branch(&[], 2), inner, task(&[]).arm(1, 0), task(&[2]).arm(1, 0).rule(TriggerRule::AllDone)])
    };
    for (ending, end) in [(Ending::Skipped, Skipped), (FATAL, UpstreamFailed), (Ending::Chosen(1), Skipped)] {
        let mut driver = Driver::new(deep());
        driver.pass(A, ending);
        assert_eq!(states(&driver)[1..], [Some(end); 3], "{ending:?}");
        assert!(driver.ended.is_some());
    }
    let mut driver = Driver::new(deep());
    driver.pass(A, Ending::Chosen(0));
    driver.pass(B, Ending::Chosen(0));
    assert_eq!(driver.queued, [Key::plain(2)]);
}

/// A branch, two arms of one task, and what waits for both.
fn joined(rule: TriggerRule, chosen: Ending) -> Option<State> {
    let mut driver = Driver::new(dag([
        branch(&[], 2),
        task(&[]).arm(0, 0),
        task(&[]).arm(0, 1),
        join(&[1, 2]).rule(rule),
    ]));
    driver.pass(A, Ending::Chosen(0));
    driver.pass(B, chosen);
    driver.state(Key::plain(3))
}

#[test]
fn a_join_of_arms_does_under_each_rule_what_airflow_does() {
    use TriggerRule::*;
    let queued = State::Queued;
    for (rule, success, failure) in [
        (AllSuccess, Skipped, Skipped),
        (AllFailed, Skipped, Skipped),
        (AllDone, queued, queued),
        (AllDoneMinOneSuccess, Skipped, Skipped),
        (AllSkipped, Skipped, Skipped),
        (OneSuccess, queued, UpstreamFailed),
        (OneFailed, Skipped, queued),
        (OneDone, queued, queued),
        (NoneFailed, queued, UpstreamFailed),
        (NoneFailedMinOneSuccess, queued, UpstreamFailed),
        (NoneSkipped, Skipped, Skipped),
        (AllDoneSetupSuccess, queued, queued),
        (Always, queued, queued),
    ] {
        assert_eq!(joined(rule, Ending::Success), Some(success), "{rule:?}");
        assert_eq!(joined(rule, FATAL), Some(failure), "{rule:?} after a failure");
    }
}

#[test]
fn a_failure_is_not_the_runs_where_a_last_task_goes_well_after_all() {
    let all = || [branch(&[], 1), task(&[]).arm(0, 0), task(&[1]).rule(TriggerRule::AllDone)];
    let mut driver = Driver::new(dag(all()));
    driver.pass(A, FATAL);
    driver.pass(Key::plain(2), Ending::Success);
    assert_eq!(driver.ended, Some(RunState::Success));

    // A branch with nothing in its arms is a last task itself.
    let mut driver = Driver::new(dag([branch(&[], 1)]));
    driver.pass(A, FATAL);
    assert_eq!(driver.ended, Some(RunState::Failed));
}

#[test]
fn a_teardown_neither_fails_a_run_nor_hides_its_failure() {
    let setup = || task(&[]).role(Role::Setup);
    let teardown =
        |upstream: &[u32]| task(upstream).role(Role::Teardown).rule(TriggerRule::AllDoneSetupSuccess);
    let all = || [setup(), task(&[0]), teardown(&[0, 1])];

    let mut driver = Driver::new(dag(all()));
    driver.pass(A, Ending::Success);
    driver.pass(B, Ending::Success);
    driver.pass(Key::plain(2), FATAL);
    assert_eq!(driver.ended, Some(RunState::Success));

    let mut driver = Driver::new(dag(all()));
    driver.pass(A, Ending::Success);
    driver.pass(B, FATAL);
    driver.pass(Key::plain(2), Ending::Success);
    assert_eq!(driver.ended, Some(RunState::Failed));

    // Nothing was set up: there is nothing to take down.
    let mut driver = Driver::new(dag(all()));
    driver.pass(A, FATAL);
    assert_eq!(states(&driver), [Failed, UpstreamFailed, UpstreamFailed].map(Some));
    assert_eq!(driver.ended, Some(RunState::Failed));

    let mut driver = Driver::new(dag(all()));
    driver.pass(A, Ending::Skipped);
    assert_eq!(states(&driver), [Skipped; 3].map(Some));
    assert_eq!(driver.ended, Some(RunState::Success));

    // Teardowns alone answer for themselves.
    let mut driver = Driver::new(dag([teardown(&[])]));
    driver.pass(A, FATAL);
    assert_eq!(driver.ended, Some(RunState::Failed));
}
