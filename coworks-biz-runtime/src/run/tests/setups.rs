//! What stands between a setup and its teardown.

use super::driver::Driver;
use super::plan::{dag, list, task};
use super::*;
use State::{Failed, Queued, Skipped, Success, UpstreamFailed};

const FATAL: Ending = Ending::Failed(Retry::Never);

fn states(driver: &Driver) -> Vec<Option<State>> {
    (0..driver.run.dag().tasks.len() as u32).flat_map(|task| driver.states(task)).collect()
}

fn teardown(upstream: &[u32]) -> super::plan::Draft {
    task(upstream).role(Role::Teardown).rule(TriggerRule::AllDoneSetupSuccess)
}

#[test]
fn no_rule_runs_a_task_whose_setup_has_not_succeeded() {
    // 0 sets up, 1 needs it, 2 comes behind that however it ends, 3 takes down.
    let all = |rule| {
        let setup = task(&[]).role(Role::Setup);
        dag([setup, task(&[0]), task(&[1]).rule(rule), teardown(&[0, 2])])
    };
    for (ending, end) in [(FATAL, UpstreamFailed), (Ending::Skipped, Skipped)] {
        let mut driver = Driver::new(all(TriggerRule::AllDone));
        driver.pass(A, ending);
        assert_eq!(states(&driver)[1..], [Some(end); 3], "{ending:?}");
    }
    // One that runs always needs nothing.
    let mut driver = Driver::new(all(TriggerRule::Always));
    assert_eq!(driver.queued, [A, Key::plain(2)]);
    driver.pass(A, FATAL);
    driver.pass(Key::plain(2), Ending::Success);
    assert_eq!(states(&driver), [Failed, UpstreamFailed, Success, UpstreamFailed].map(Some));
}

#[test]
fn a_task_behind_the_teardown_does_not_need_the_setup() {
    let setup = task(&[]).role(Role::Setup);
    let mut driver =
        Driver::new(dag([setup, task(&[0]), teardown(&[0, 1]), task(&[2]).rule(TriggerRule::AllDone)]));
    driver.pass(A, FATAL);
    assert_eq!(driver.state(Key::plain(3)), Some(Queued));
}

#[test]
fn a_teardown_waits_for_all_that_is_between() {
    // 3 does not wait for 2, and the teardown stands behind 3 alone.
    let setup = task(&[]).role(Role::Setup);
    let hasty = task(&[1, 2]).rule(TriggerRule::OneSuccess);
    let mut driver = Driver::new(dag([setup, task(&[0]), task(&[0]), hasty, teardown(&[0, 3])]));
    driver.pass(A, Ending::Success);
    driver.pass(B, Ending::Success);
    driver.pass(Key::plain(3), Ending::Success);
    assert_eq!(driver.states(4), [None]);
    driver.pass(Key::plain(2), FATAL);
    assert_eq!(driver.states(4), [Some(Queued)]);
}

#[test]
fn each_item_has_what_is_set_up_for_it() {
    // 1 sets up for each item, 2 and 3 work, 4 takes down.
    let all = [
        list(&[]),
        task(&[]).each(0).role(Role::Setup),
        task(&[1]).each(0),
        task(&[2]).each(0).rule(TriggerRule::AllDone),
        teardown(&[1, 3]).each(0),
    ];
    let mut driver = Driver::new(dag(all));
    driver.pass(A, Ending::Mapped(2));
    let at = |task, map_index| Key { task, map_index };
    driver.pass(at(1, 0), FATAL);
    driver.pass(at(1, 1), Ending::Success);
    assert_eq!(driver.states(3), [Some(UpstreamFailed), None]);
    driver.pass(at(2, 1), FATAL);
    driver.pass(at(3, 1), Ending::Success);
    assert_eq!(driver.states(4), [Some(UpstreamFailed), Some(Queued)]);
    assert_eq!(driver.run.with_setups(&[at(3, 1)]), [at(1, 1), at(3, 1), at(4, 1)]);
    assert_eq!(driver.run.with_setups(&[at(1, 0)]), [at(1, 0), at(4, 0)]);
    assert_eq!(driver.run.with_setups(&[A, at(4, 0)]), [A, at(4, 0)]);
    // The same again for those that come anew, with the tries that they have had.
    driver.clear(&[A]);
    driver.pass(A, Ending::Mapped(2));
    driver.pass(at(1, 0), Ending::Success);
    driver.pass(at(1, 1), FATAL);
    driver.pass(at(2, 0), Ending::Success);
    assert_eq!(driver.states(3), [Some(Queued), Some(UpstreamFailed)]);
}

#[test]
fn a_setup_is_cleared_with_its_own_teardown() {
    let setup = || task(&[]).role(Role::Setup);
    let driver = Driver::new(dag([setup(), setup(), task(&[0, 1]), teardown(&[0, 2]), teardown(&[1, 2])]));
    let with = |task| driver.run.with_setups(&[Key::plain(task)]).into_iter().map(|key| key.task).collect();
    let with: [Vec<u32>; 4] = [0, 1, 2, 3].map(with);
    assert_eq!(with, [vec![0, 3], vec![1, 4], vec![0, 1, 2, 3, 4], vec![3]]);
}

#[test]
fn the_members_of_a_call_that_was_sent_are_not_left_out_for_a_setup_further_above() {
    // 1 sends whatever becomes of the setup, 2 waits, 3 reads.
    let setup = task(&[]).role(Role::Setup);
    let call = task(&[0]).rule(TriggerRule::NoneFailed);
    let read = task(&[2]).shares(1).shares(2);
    let mut driver = Driver::new(dag([setup, call, task(&[1]).shares(1), read]));
    driver.pass(A, Ending::Skipped);
    driver.pass(B, Ending::Success);
    assert_eq!(states(&driver)[1..], [Some(Success), Some(Queued), None]);
}
