//! Who gets a slot, and when.

use super::*;

const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn soon() -> Instant {
    Instant::now() + SOON
}

fn ready(task: u32) -> Ready {
    Ready {
        run: 1,
        key: Key::plain(task),
        resume: None,
        alone: false,
        dag: 0,
        priority: 1,
        pool: None,
        of_run: None,
        of_task: None,
        claim: None,
    }
}

fn slots(total: usize) -> Slots {
    Slots::new(total, vec![1, 2])
}

/// Starts as many as may.
fn started(slots: &mut Slots) -> Vec<u32> {
    std::iter::from_fn(|| slots.next(NOW)).map(|ready| ready.key.task).collect()
}

fn tasks(ready: &[Ready]) -> Vec<u32> {
    ready.iter().map(|ready| ready.key.task).collect()
}

#[test]
fn slots_are_handed_out_in_order_up_to_their_number() {
    let mut slots = slots(2);
    (1..=3).for_each(|task| slots.push(ready(task)));
    assert_eq!(started(&mut slots), [1, 2]);
    assert!(slots.behind_from(Instant::now()).is_some());
    assert_eq!(slots.record(9, Instant::now()), [], "it may start soon");
    assert_eq!(tasks(&slots.record(9, soon())), [3]);
    assert_eq!(slots.behind_from(Instant::now()), None);
    assert_eq!(slots.record(9, soon()), []);
    slots.release(1, Key::plain(1));
    assert_eq!(started(&mut slots), [3]);
}

#[test]
fn what_a_process_that_stops_leaves_behind_is_recorded_at_once() {
    let mut slots = slots(1);
    (1..=3).for_each(|task| slots.push(ready(task)));
    assert_eq!(started(&mut slots), [1]);
    assert_eq!(slots.record(9, Instant::now()), []);
    slots.drain();
    assert_eq!(tasks(&slots.record(9, Instant::now())), [2, 3]);
}

#[test]
fn a_long_queue_is_recorded_in_pieces() {
    let mut slots = slots(1);
    (1..=5).for_each(|task| slots.push(ready(task)));
    assert_eq!(slots.record(2, Instant::now()), []);
    assert_eq!(tasks(&slots.record(2, soon())), [1, 2]);
    assert_eq!(started(&mut slots), [1]);
    assert_eq!(tasks(&slots.record(2, soon())), [3, 4]);
    slots.forget(1, Key::plain(5));
    assert_eq!(slots.behind_from(Instant::now()), None);
}

#[test]
fn the_higher_priority_goes_first() {
    let mut slots = slots(9);
    for (task, priority) in [(1, 1), (2, -5), (3, 10), (4, 10)] {
        slots.push(Ready { priority, ..ready(task) });
    }
    assert_eq!(started(&mut slots), [3, 4, 1, 2]);
}

#[test]
fn a_full_pool_holds_up_nobody_else() {
    let mut slots = slots(9);
    for (task, pool) in [(1, Some(0)), (2, Some(0)), (3, Some(1)), (4, None), (5, Some(0))] {
        slots.push(Ready { pool, ..ready(task) });
    }
    assert_eq!(started(&mut slots), [1, 3, 4]);
    slots.release(1, Key::plain(1));
    assert_eq!(started(&mut slots), [2]);
    slots.release(1, Key::plain(4));
    assert_eq!(started(&mut slots), [0; 0]);
    slots.release(1, Key::plain(2));
    assert_eq!(started(&mut slots), [5]);
}

#[test]
fn runs_and_tasks_have_their_own_limits() {
    let mut slots = slots(9);
    let of = |run, map_index| Ready {
        run,
        key: Key { task: 7, map_index },
        of_run: Some(2),
        of_task: Some(3),
        ..ready(7)
    };
    for (run, map_index) in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)] {
        slots.push(of(run, map_index));
    }
    let next = |slots: &mut Slots| {
        std::iter::from_fn(|| slots.next(NOW)).map(|r| (r.run, r.key.map_index)).collect::<Vec<_>>()
    };
    assert_eq!(next(&mut slots), [(1, 0), (1, 1), (2, 0)]);
    // Of run 1, whose third now has its turn, before that of run 2.
    slots.release(1, Key { task: 7, map_index: 0 });
    assert_eq!(next(&mut slots), [(1, 2)]);
    slots.release(1, Key { task: 7, map_index: 1 });
    assert_eq!(next(&mut slots), [(2, 1)]);
    slots.release(1, Key { task: 7, map_index: 2 });
    assert_eq!(next(&mut slots), [(3, 0)]);
}

#[test]
fn what_waits_for_two_limits_starts_once_both_have_room() {
    // Two of a pool of one; the first of them is also of a run that is at its limit.
    let mut slots = slots(9);
    slots.push(Ready { pool: Some(0), ..ready(1) });
    slots.push(Ready { of_run: Some(1), run: 2, ..ready(2) });
    assert_eq!(started(&mut slots), [1, 2]);
    slots.push(Ready { pool: Some(0), of_run: Some(1), run: 2, ..ready(3) });
    slots.push(Ready { pool: Some(0), ..ready(4) });
    assert_eq!(started(&mut slots), [0; 0]);
    slots.release(1, Key::plain(1));
    assert_eq!(started(&mut slots), [4], "the room that 3 cannot use");
    slots.release(2, Key::plain(2));
    assert_eq!(started(&mut slots), [0; 0]);
    slots.release(1, Key::plain(4));
    assert_eq!(started(&mut slots), [3]);
}

#[test]
fn of_a_paused_dag_nothing_starts() {
    let mut slots = slots(9);
    slots.pause(0, true);
    slots.push(ready(1));
    slots.push(Ready { dag: 1, ..ready(2) });
    slots.push(ready(3));
    assert_eq!(started(&mut slots), [2]);
    slots.forget(1, Key::plain(1));
    slots.pause(0, false);
    assert_eq!(started(&mut slots), [3]);
}

#[test]
fn one_that_runs_alone_waits_for_all_and_all_wait_for_it() {
    let mut slots = slots(4);
    for (task, alone) in [(1, false), (2, true), (3, false)] {
        slots.push(Ready { alone, ..ready(task) });
    }
    assert_eq!(started(&mut slots), [1]);
    slots.release(1, Key::plain(1));
    assert_eq!(started(&mut slots), [2]);
    slots.release(1, Key::plain(2));
    assert_eq!(started(&mut slots), [3]);
}

#[test]
fn while_draining_nothing_starts() {
    let mut slots = slots(2);
    slots.push(ready(1));
    slots.drain();
    assert_eq!(started(&mut slots), [0; 0]);
}

/// However the limits meet: nobody waits for ever while there is room.
#[test]
fn everybody_starts_in_the_end() {
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..200 {
        let mut slots = slots(1 + random(4) as usize);
        for task in 0..60 {
            slots.push(Ready {
                run: random(4) as i64,
                key: Key { task: random(3) as u32, map_index: task },
                dag: 0,
                priority: random(3) as i32,
                pool: [None, Some(0), Some(1)][random(3) as usize],
                of_run: Some(2).filter(|_| random(2) == 0),
                of_task: Some(2).filter(|_| random(2) == 0),
                alone: random(20) == 0,
                resume: None,
                claim: None,
            });
        }
        let mut running = Vec::new();
        let mut count = 0;
        let mut forgotten = 0;
        loop {
            running.extend(std::iter::from_fn(|| slots.next(NOW)));
            let some = slots.waiting.keys().copied().find(|_| random(8) == 0);
            if let Some((run, key)) = some {
                slots.forget(run, key);
                forgotten += 1;
            }
            if running.is_empty() {
                break;
            }
            count += 1;
            let ended = running.swap_remove(random(running.len() as u64) as usize);
            slots.release(ended.run, ended.key);
        }
        assert_eq!(count + forgotten, 60, "{slots:?}");
        assert!(slots.taken.is_empty() && slots.lines.is_empty(), "{slots:?}");
    }
}
