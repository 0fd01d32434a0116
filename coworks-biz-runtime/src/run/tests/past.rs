//! What the run before lets begin.

use super::driver::Driver;
use super::plan::{dag, list, task};
use super::*;
use State::{Failed, Queued, Skipped, UpstreamFailed};

#[test]
fn a_task_waits_for_its_past_and_its_rule() {
    let all = || [task(&[]).waits(), task(&[]), task(&[1]).waits()];
    assert_eq!(Driver::new(dag(all())).queued, [A, B], "there is no run before");
    let mut driver = Driver::after(dag(all()), true);
    assert_eq!(driver.queued, [B]);
    driver.feed(Event::Past(0));
    assert_eq!(driver.queued, [B, A]);
    driver.feed(Event::Past(2));
    assert_eq!(driver.states(2), [None]);
    driver.pass(B, Ending::Success);
    assert_eq!(driver.states(2), [Some(Queued)]);
    let misfit = driver.run.step(Event::Past(3), &mut vec![]);
    assert_eq!(misfit, Err(Misfit { event: Event::Past(3), state: None }));
}

#[test]
fn every_task_waits_where_the_dag_depends_on_its_past() {
    let dag = Box::leak(Box::new(Dag { depends_on_past: true, ..copy(chain(2, |task| task)) }));
    let mut driver = Driver::after(dag, true);
    assert_eq!(driver.queued, []);
    driver.feed(Event::Past(0));
    assert_eq!(driver.queued, [A]);
}

fn copy(dag: &Dag) -> Dag {
    Dag { tasks: dag.tasks, order: dag.order, ..Dag::EMPTY }
}

#[test]
fn the_past_holds_back_what_would_run_and_nothing_else() {
    let mut driver = Driver::after(dag([task(&[]), task(&[0]).waits()]), true);
    driver.pass(A, Ending::Failed(Retry::Never));
    assert_eq!(driver.state(B), Some(UpstreamFailed));
    assert_eq!(driver.ended, Some(RunState::Failed));
}

#[test]
fn all_items_of_a_loop_are_let_go_also_before_they_are_known() {
    let all = || [list(&[]), task(&[]).each(0).waits()];
    let mut before = Driver::after(dag(all()), true);
    before.feed(Event::Past(1));
    before.pass(A, Ending::Mapped(2));
    let mut after = Driver::after(dag(all()), true);
    after.pass(A, Ending::Mapped(2));
    assert_eq!(after.states(1), [None, None]);
    after.feed(Event::Past(1));
    for driver in [before, after] {
        assert_eq!(driver.states(1), [Some(Queued), Some(Queued)]);
    }
}

#[test]
fn the_next_run_is_let_go_by_what_went_well_or_was_skipped() {
    let all = [task(&[]).waits(), task(&[0]), list(&[]), task(&[]).each(2)];
    let mut driver = Driver::new(dag(all));
    let allows = |driver: &Driver| [0, 1, 2, 3, 4].map(|task| driver.run.past_allows(task));
    assert_eq!(allows(&driver), [false; 5]);
    driver.pass(A, Ending::Success);
    assert_eq!(allows(&driver), [false; 5], "it waits for what is directly behind it");
    driver.pass(B, Ending::Skipped);
    driver.pass(Key::plain(2), Ending::Mapped(2));
    driver.pass(Key { task: 3, map_index: 0 }, Ending::Success);
    assert_eq!(allows(&driver), [true, true, true, false, false]);
    driver.pass(Key { task: 3, map_index: 1 }, Ending::Skipped);
    assert_eq!(allows(&driver), [true, true, true, true, false]);
    driver.feed(Event::Mark(B, Mark::Failed));
    assert_eq!(driver.states(1), [Some(Failed)]);
    assert_eq!(allows(&driver), [false, false, true, true, false]);
}

#[test]
fn who_has_had_a_try_was_let_go() {
    let dag = chain(1, |task| task.waits());
    let start = Start { after: true, ..Start::default() };
    for (recorded, queued) in [
        (Instance::recorded(None, 1, 1, 0, None), true),
        (Instance::recorded(None, 0, 0, 0, None), false),
        (Instance::recorded(Some(Skipped), 0, 0, 0, None), false),
    ] {
        let mut run = Run::restore(dag, start, RUNNING, [(A, recorded)]);
        run.step(Event::Begin, &mut vec![]).unwrap();
        let state = run.instances().get(A).and_then(|instance| instance.state);
        assert_eq!(state == Some(Queued), queued, "{recorded:?}");
    }
}
