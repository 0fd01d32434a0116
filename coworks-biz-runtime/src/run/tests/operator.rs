//! Clearing, marking and stopping.

use super::driver::Driver;
use super::plan::{branch, dag, list, task};
use super::*;
use crate::dag::Kind;
use State::{Failed, Queued, Running, Skipped, Success, UpForReschedule, UpForRetry, UpstreamFailed};

const FATAL: Ending = Ending::Failed(Retry::Never);
const AGAIN: Ending = Ending::Failed(Retry::AsConfigured);

fn at(task: u32, map_index: i32) -> Key {
    Key { task, map_index }
}

fn plain<const N: usize>(tasks: [u32; N]) -> [Key; N] {
    tasks.map(Key::plain)
}

fn states(driver: &Driver) -> Vec<Option<State>> {
    (0..driver.run.dag().tasks.len() as u32).flat_map(|task| driver.states(task)).collect()
}

#[test]
fn what_is_cleared_begins_again_and_counts_its_tries_on() {
    let mut driver = Driver::new(chain(3, |task| task.retries(1)));
    driver.pass(A, AGAIN);
    driver.feed(Event::Due(A));
    driver.pass(A, FATAL);
    assert_eq!(states(&driver), [Failed, UpstreamFailed, UpstreamFailed].map(Some));
    assert_eq!(driver.run.failed(), plain([0, 1, 2]));

    driver.clear(&driver.run.failed());
    assert_eq!(states(&driver), [Some(Queued), None, None]);
    assert_eq!(driver.run.state(), RunState::Running);
    let cleared = plain([0, 1, 2]).map(|key| Command::Clear { key });
    assert_eq!(driver.said, [&[Command::End(RunState::Failed)][..], &cleared, &[Command::Reopen]].concat());
    let instance = driver.instance(A);
    assert_eq!((instance.try_number, instance.tries_before), (3, 2));
    // It has its retries again.
    driver.pass(A, AGAIN);
    assert_eq!(driver.state(A), Some(UpForRetry));
    driver.feed(Event::Due(A));
    assert!(driver.run.is_last_try(A));
    driver.pass(A, Ending::Success);
    assert_eq!(driver.instance(A).try_number, 4);
}

#[test]
fn nothing_else_is_cleared_and_the_upstreams_decide_at_once() {
    let mut driver = Driver::new(chain(3, |task| task));
    driver.pass(A, Ending::Success);
    driver.pass(B, FATAL);
    // What is above has failed, and it ends as before.
    driver.clear(&plain([2]));
    assert_eq!(states(&driver), [Success, Failed, UpstreamFailed].map(Some));
    assert_eq!(driver.ended, Some(RunState::Failed));
    // What is below keeps its end.
    driver.clear(&[A]);
    assert_eq!(states(&driver), [Queued, Failed, UpstreamFailed].map(Some));
    driver.pass(A, Ending::Success);
    assert_eq!(driver.ended, Some(RunState::Failed));
    // There is nothing to take back of what has no state, or is not there.
    let said = driver.said.len();
    driver.clear(&[Key::plain(9), at(0, 0)]);
    assert_eq!(driver.said.len(), said);
}

#[test]
fn an_attempt_that_is_cleared_is_cut() {
    let mut driver = Driver::new(dag([task(&[]), task(&[])]));
    driver.start(0);
    driver.pass(B, Ending::Deferred);
    assert_eq!(states(&driver), [Running, UpForReschedule].map(Some));
    driver.clear(&[A, B]);
    assert_eq!(states(&driver), [Queued, Queued].map(Some));
    let expected = [A, B].map(|key| [Command::Cut { key }, Command::Clear { key }]).concat();
    assert_eq!(driver.said, expected);
    assert_eq!(driver.instance(A).try_number, 2);
}

#[test]
fn what_is_below_goes_through_branches_and_follows_single_items() {
    // 0 list, 1 and 2 in the loop, 3 a branch in it with 4 in its arm, 5 behind, 6 elsewhere.
    let all = [
        list(&[]),
        task(&[]).each(0),
        task(&[1]).each(0),
        branch(&[1], 1).each(0),
        task(&[]).arm(3, 0),
        task(&[4]),
        task(&[]),
    ];
    let mut driver = Driver::new(dag(all));
    driver.pass(A, Ending::Mapped(2));
    let below = |keys: &[Key]| driver.run.downstream(keys);
    assert_eq!(below(&[at(1, 1)]), [at(2, 1), at(3, 1), at(4, 1), Key::plain(5)]);
    assert_eq!(below(&[at(3, 0), at(3, 1)]), [at(4, 0), at(4, 1), Key::plain(5)]);
    let looped = [1, 2, 3, 4].map(|task| [at(task, 0), at(task, 1)]).concat();
    assert_eq!(below(&[A]), [&looped[..], &[Key::plain(5)]].concat());
    assert_eq!(below(&[Key::plain(6)]), []);
}

#[test]
fn a_member_of_a_call_is_cleared_with_the_call() {
    let all = [
        list(&[]),
        task(&[]).each(0).kind(Kind::Submit),
        task(&[1]).each(0).kind(Kind::Wait).shares(1),
        task(&[2]).each(0).kind(Kind::Read).shares(1).shares(2),
        task(&[3]).each(0),
    ];
    let run = Run::new(dag(all), Start::default());
    let call = [at(1, 4), at(2, 4), at(3, 4)];
    for member in call {
        assert_eq!(run.whole_calls(&[member]), call);
    }
    assert_eq!(run.whole_calls(&[at(4, 4)]), [at(4, 4)]);
}

#[test]
fn what_follows_any_member_of_a_call_runs_again_with_the_call() {
    let call = |above: &[u32], at: u32| {
        [
            task(above).kind(Kind::Submit),
            task(&[at]).kind(Kind::Wait).shares(at),
            task(&[at + 1]).kind(Kind::Read).shares(at).shares(at + 1),
        ]
    };
    let [sent, waits, read] = call(&[], 0);
    // Behind the wait of the first call stands the second one.
    let [other, late, answer] = call(&[1], 3);
    let all = [sent, waits, read, other, late, answer, task(&[4]), task(&[])];
    let run = Run::new(dag(all), Start::default());
    let keys = |tasks: &[u32]| tasks.iter().copied().map(Key::plain).collect::<Vec<_>>();
    for member in [0, 1, 2] {
        assert_eq!(run.following(&keys(&[member])), keys(&[0, 1, 2, 3, 4, 5, 6]), "{member}");
    }
    assert_eq!(run.following(&keys(&[5])), keys(&[3, 4, 5, 6]));
    assert_eq!(run.following(&keys(&[6])), keys(&[6]));
    assert_eq!(run.following(&keys(&[7])), keys(&[7]));
}

#[test]
fn a_loop_whose_list_is_cleared_goes_on_counting() {
    let mut driver = Driver::new(dag([list(&[]), task(&[]).each(0).retries(1), task(&[1])]));
    driver.pass(A, Ending::Mapped(3));
    driver.pass(at(1, 1), AGAIN);
    driver.feed(Event::Due(at(1, 1)));
    driver.clear(&[A]);
    assert_eq!(states(&driver), [Some(Queued), None, None]);
    let cleared = [A, at(1, 0), at(1, 1), at(1, 2)].map(|key| Command::Clear { key });
    assert_eq!(driver.said, cleared);
    let tries = |driver: &Driver| [A, at(1, 0), at(1, 1), at(1, 9)].map(|key| driver.run.tries_of(key));
    assert_eq!(tries(&driver), [1, 1, 2, 0], "also of those that are gone");
    // With fewer items, then with more: each index counts its own.
    for (items, tries) in [(2, &[2, 3][..]), (4, &[3, 4, 2, 1])] {
        driver.pass(A, Ending::Mapped(items));
        let numbers: Vec<_> = driver.run.instances().of(1).iter().map(|i| i.try_number).collect();
        assert_eq!(numbers, tries);
        driver.clear(&[A]);
    }
    driver.pass(A, Ending::Mapped(0));
    assert_eq!(states(&driver), [Success, Skipped, Skipped].map(Some));
}

#[test]
fn those_that_were_skipped_are_known() {
    let arms = [task(&[]).arm(0, 0), task(&[1]).arm(0, 0), task(&[]).arm(0, 1)];
    let mut driver = Driver::new(dag([branch(&[], 2)].into_iter().chain(arms)));
    assert_eq!(driver.run.skipped(), []);
    driver.pass(A, Ending::Chosen(1));
    assert_eq!(driver.run.skipped(), plain([1, 2]));
}

#[test]
fn a_branch_that_is_not_cleared_keeps_its_choice() {
    let mut driver = Driver::new(dag([branch(&[], 2), task(&[]).arm(0, 0), task(&[]).arm(0, 1)]));
    driver.pass(A, Ending::Chosen(1));
    driver.pass(Key::plain(2), FATAL);
    driver.clear(&plain([1, 2]));
    assert_eq!(states(&driver), [Success, Skipped, Queued].map(Some));
    // And one that is, chooses anew.
    driver.clear(&plain([0, 1, 2]));
    assert_eq!(states(&driver), [Some(Queued), None, None]);
    driver.pass(A, Ending::Chosen(0));
    assert_eq!(states(&driver), [Success, Queued, Skipped].map(Some));
}

#[test]
fn a_mark_clears_what_has_failed_below() {
    let mut driver = Driver::new(dag([task(&[]), task(&[0]), task(&[1]), task(&[])]));
    driver.pass(A, FATAL);
    driver.pass(Key::plain(3), FATAL);
    assert_eq!(driver.ended, Some(RunState::Failed));
    driver.feed(Event::Mark(A, Mark::Success));
    assert_eq!(states(&driver), [Some(Success), Some(Queued), None, Some(Failed)]);
    assert_eq!(driver.ended, None);
    // Nothing is below this one: the run is not decided anew.
    driver.pass(B, Ending::Success);
    driver.pass(Key::plain(2), Ending::Success);
    driver.feed(Event::Mark(Key::plain(3), Mark::Success));
    assert_eq!((driver.run.state(), driver.ended), (RunState::Failed, Some(RunState::Failed)));
}

#[test]
fn a_mark_cuts_what_runs_and_decides_what_waits() {
    let mut driver = Driver::new(chain(3, |task| task.retries(5)));
    driver.start(0);
    driver.feed(Event::Mark(A, Mark::Failed));
    assert_eq!(states(&driver), [Failed, UpstreamFailed, UpstreamFailed].map(Some));
    assert_eq!(driver.said, [Command::Cut { key: A }, Command::End(RunState::Failed)]);
    driver.feed(Event::Mark(B, Mark::Success));
    assert_eq!(states(&driver), [Failed, Success, Queued].map(Some));

    let mut commands = vec![];
    let misfit = driver.run.step(Event::Mark(B, Mark::Success), &mut commands).unwrap_err();
    assert_eq!((misfit.state, commands), (Some(Success), vec![]));
}

#[test]
fn a_mark_says_nothing_of_items_that_are_not_known() {
    let mut driver = Driver::new(dag([list(&[]), task(&[]).each(0), task(&[1])]));
    assert!(driver.run.step(Event::Mark(B, Mark::Success), &mut vec![]).is_err());
    // A list that never ran has no items.
    driver.feed(Event::Mark(A, Mark::Success));
    assert_eq!(states(&driver), [Success, Skipped, Skipped].map(Some));

    // One that has, keeps them: what has ended there has ended.
    let mut driver = Driver::new(dag([list(&[]), task(&[]).each(0), task(&[1]).each(0)]));
    driver.pass(A, Ending::Mapped(2));
    driver.pass(at(1, 0), Ending::Success);
    driver.feed(Event::Mark(A, Mark::Failed));
    assert_eq!(states(&driver), [Failed, Success, Queued, Queued, UpstreamFailed].map(Some));
    assert!(driver.run.step(Event::Mark(B, Mark::Failed), &mut vec![]).is_err(), "it is expanded");
}

/// 0 sets up, 1 and 2 work one after another, 3 takes down; 4 fails and is tried again.
fn with_teardown() -> Driver {
    let mut driver = Driver::new(dag([
        task(&[]).role(Role::Setup),
        task(&[0]),
        task(&[1]),
        task(&[0, 2]).role(Role::Teardown).rule(TriggerRule::AllDoneSetupSuccess),
        task(&[]).retries(1),
    ]));
    driver.pass(A, Ending::Success);
    driver.pass(Key::plain(4), AGAIN);
    driver.pass(B, Ending::Deferred);
    driver
}

#[test]
fn a_run_that_is_cancelled_takes_down_what_was_set_up_and_fails() {
    let mut driver = with_teardown();
    driver.feed(Event::Stop(Stop::Cancelled));
    assert_eq!(states(&driver), [Success, Failed, Skipped, Queued, Skipped].map(Some));
    assert_eq!(driver.said, [Command::Cut { key: B }]);
    driver.drive(&[super::well(0)]);
    assert_eq!(driver.state(Key::plain(3)), Some(Success));
    assert_eq!(driver.ended, Some(RunState::Failed));

    // Nothing was set up.
    let mut driver = Driver::new(dag([task(&[]).role(Role::Setup), task(&[0]).role(Role::Teardown)]));
    driver.feed(Event::Stop(Stop::Cancelled));
    assert_eq!(states(&driver), [Skipped, Skipped].map(Some));
    assert_eq!(driver.ended, Some(RunState::Failed), "although nothing has failed");
    driver.feed(Event::Stop(Stop::TimedOut));
    assert_eq!(driver.run.standing().stopped, Some(Stop::Cancelled));
}

#[test]
fn a_run_that_takes_too_long_ends_at_once() {
    let mut driver = with_teardown();
    driver.feed(Event::Stop(Stop::TimedOut));
    assert_eq!(states(&driver), [Success, Skipped, Skipped, Skipped, Skipped].map(Some));
    assert_eq!(driver.said, [Command::Cut { key: B }, Command::End(RunState::Failed)]);
    // It may be taken up again.
    driver.clear(&plain([1, 2, 3, 4]));
    assert_eq!(driver.said.last(), Some(&Command::Reopen));
    driver.drive(&[super::well(0)]);
    assert_eq!(driver.ended, Some(RunState::Success));
}

#[test]
fn what_is_recorded_of_a_clear_is_how_many_tries_there_were_also_where_it_is_ready_again() {
    let mut driver = Driver::new(chain(1, |task| task.retries(1)));
    driver.pass(A, AGAIN);
    driver.feed(Event::Due(A));
    driver.pass(A, Ending::Success);
    driver.clear(&[A]);
    assert_eq!((driver.state(A), driver.instance(A).try_number), (Some(Queued), 3));
    assert_eq!(driver.run.tries_of(A), 2);
}
