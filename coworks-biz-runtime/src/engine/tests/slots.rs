//! Who may start, where services have limits: all of it in a time that the test makes.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::super::gate::{Claim, Gate, Need};
use super::super::slots::{Ready, Slots};
use super::*;
use crate::config::{Limits, Rate};
use crate::run::Key;

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap()
}

fn limits(concurrency: usize, calls: u32) -> Limits {
    let rate = (calls > 0).then_some(Rate { calls, per: std::time::Duration::from_secs(1) });
    Limits { concurrency: (concurrency > 0).then_some(concurrency), rate }
}

fn slots(total: usize, services: &[Limits]) -> Slots {
    let mut slots = Slots::new(total, vec![2]);
    slots.serve(services.iter().map(|limits| Gate::new(*limits)).collect());
    slots
}

/// One that calls service 0, and waits for its answer.
fn call(number: i32) -> Ready {
    Ready {
        run: 1,
        key: Key { task: 0, map_index: number },
        resume: None,
        alone: false,
        dag: 0,
        priority: 1,
        pool: None,
        of_run: None,
        of_task: None,
        claim: Some(Claim { service: 0, need: Need::Both, keeps: false }),
    }
}

/// One that leaves an answer for later.
fn submit(number: i32) -> Ready {
    Ready { claim: Some(Claim { service: 0, need: Need::Both, keeps: true }), ..call(number) }
}

fn with(need: Need, number: i32) -> Ready {
    Ready { claim: Some(Claim { service: 0, need, keeps: false }), ..call(number) }
}

fn started(slots: &mut Slots, now: i64) -> Vec<i32> {
    std::iter::from_fn(|| slots.next(at(now))).map(|ready| ready.key.map_index).collect()
}

fn release(slots: &mut Slots, number: i32) {
    slots.release(1, Key { task: 0, map_index: number });
}

fn alarms(slots: &mut Slots) -> Vec<i64> {
    slots.alarms().into_iter().map(|(_, at)| at.timestamp_millis()).collect()
}

#[test]
fn no_more_calls_of_a_service_start_than_it_has_places() {
    let mut slots = slots(9, &[limits(2, 0), limits(1, 0)]);
    (1..=4).for_each(|number| slots.push(call(number)));
    let other = Claim { service: 1, need: Need::Both, keeps: false };
    slots.push(Ready { claim: Some(other), ..call(5) });
    slots.push(Ready { claim: None, ..call(6) });
    assert_eq!(started(&mut slots, 0), [1, 2, 5, 6]);
    assert_eq!((slots.newly_full(), slots.newly_full()), (vec![0], vec![]));
    release(&mut slots, 6);
    assert_eq!(started(&mut slots, 0), [0; 0]);
    release(&mut slots, 2);
    assert_eq!(started(&mut slots, 0), [3]);
    slots.forget(1, call(4).key);
    release(&mut slots, 1);
    slots.push(call(7));
    assert_eq!(started(&mut slots, 0), [7]);
    assert_eq!(alarms(&mut slots), [0; 0]);
}

#[test]
fn a_clock_that_is_put_back_keeps_nobody_from_a_service_with_a_rate() {
    let mut slots = slots(9, &[limits(1, 1)]);
    let (before, after) = (3_600_000, 1_800_000);
    slots.push(call(1));
    slots.push(call(2));
    assert_eq!(started(&mut slots, before), [1]);
    assert_eq!(started(&mut slots, after), [0; 0]);
    release(&mut slots, 1);
    let mut now = after;
    assert_eq!(started(&mut slots, now), [0; 0], "it is not its time");
    for _ in 0..2 {
        let Some(next) = alarms(&mut slots).pop() else { break };
        now = next;
        slots.look(0, at(now));
    }
    assert_eq!(started(&mut slots, now), [2]);
    assert!(now <= after + 2_000, "{now}");
}

#[test]
fn an_asynchronous_call_keeps_its_place_until_nobody_waits_for_it() {
    let mut slots = slots(9, &[limits(2, 0)]);
    (1..=4).for_each(|number| slots.push(submit(number)));
    assert_eq!(started(&mut slots, 0), [1, 2]);
    release(&mut slots, 1);
    assert_eq!(started(&mut slots, 0), [0; 0]);
    // Another try of it has its place already, and goes before who waits for one.
    assert!(slots.has_place(1, submit(1).key));
    slots.push(Ready { claim: Some(Claim { service: 0, need: Need::Open, keeps: true }), ..call(1) });
    assert_eq!(started(&mut slots, 0), [1]);
    assert_eq!(slots.gates()[0].taken(), 2);
    release(&mut slots, 1);
    slots.unplace(1, submit(1).key);
    slots.unplace(1, submit(1).key);
    assert_eq!(started(&mut slots, 0), [3], "once");
    // What is under way is counted, also where there is no place for it.
    slots.place(2, submit(9).key, 0);
    slots.place(2, submit(9).key, 0);
    assert_eq!(slots.gates()[0].taken(), 3);
    slots.unplace_all(1);
    assert_eq!(slots.gates()[0].taken(), 1);
    assert_eq!(started(&mut slots, 0), [4]);
    slots.unplace_all(1);
    slots.unplace_all(2);
    assert_eq!(slots.gates()[0].taken(), 0);
}

#[test]
fn calls_begin_at_the_pace_of_a_service() {
    let mut slots = slots(99, &[limits(0, 20)]);
    (1..=5).for_each(|number| slots.push(call(number)));
    assert_eq!(started(&mut slots, 0), [1, 2], "the burst");
    assert_eq!(alarms(&mut slots), [50]);
    assert_eq!(started(&mut slots, 49), [0; 0]);
    assert_eq!(alarms(&mut slots), [0; 0], "there is one already");
    slots.look(0, at(50));
    assert_eq!(started(&mut slots, 50), [3]);
    assert_eq!(alarms(&mut slots), [100]);
    slots.forget(1, call(4).key);
    slots.look(0, at(100));
    assert_eq!(started(&mut slots, 100), [5]);
    assert_eq!(alarms(&mut slots), [0; 0], "nobody waits");
}

#[test]
fn a_service_that_wants_to_be_left_alone_is() {
    let mut slots = slots(99, &[limits(1, 0)]);
    slots.push(call(1));
    assert_eq!(started(&mut slots, 0), [1]);
    slots.close(0, at(1_000));
    slots.close(0, at(400));
    for ready in [call(2), with(Need::Open, 3), call(4)] {
        slots.push(ready);
    }
    assert_eq!(started(&mut slots, 1), [0; 0]);
    assert_eq!(alarms(&mut slots), [1_000]);
    release(&mut slots, 1);
    assert_eq!(started(&mut slots, 2), [0; 0]);
    // A sensor looks by itself, and its last look comes in time.
    slots.push(with(Need::Place, 5));
    assert_eq!(started(&mut slots, 2), [5]);
    release(&mut slots, 5);
    // It is closed once more before it opens.
    slots.close(0, at(3_000));
    slots.look(0, at(1_000));
    assert_eq!(started(&mut slots, 1_000), [0; 0]);
    assert_eq!(alarms(&mut slots), [3_000]);
    // The clock was put back, and it is opened all the same.
    slots.look(0, at(3_000));
    assert_eq!(started(&mut slots, 20), [2, 3]);
    release(&mut slots, 2);
    assert_eq!(started(&mut slots, 20), [4]);
}

#[test]
fn who_has_a_place_does_not_wait_behind_those_that_have_none() {
    let mut slots = slots(9, &[limits(1, 0)]);
    slots.push(submit(1));
    slots.push(submit(2));
    assert_eq!(started(&mut slots, 0), [1]);
    release(&mut slots, 1);
    slots.close(0, at(10));
    slots.push(Ready { claim: Some(Claim { service: 0, need: Need::Open, keeps: true }), ..call(1) });
    assert_eq!(started(&mut slots, 1), [0; 0]);
    slots.look(0, at(10));
    assert_eq!(started(&mut slots, 10), [1], "else both would wait for ever");
}

/// However limits of services meet one another and the others: nobody waits for ever, no service
/// has more than its places, and in the end all are free.
#[test]
fn everybody_starts_in_the_end_and_no_place_is_lost() {
    let mut seed = 11u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..300 {
        let sizes = [1 + random(3) as usize, random(4) as usize];
        let mut slots =
            slots(1 + random(6) as usize, &[limits(sizes[0], random(2) as u32 * 40), limits(sizes[1], 0)]);
        let mut waiting = BTreeMap::new();
        for number in 0..60 {
            let service = random(2) as usize;
            let claim = match random(5) {
                0 => None,
                1 => Some(Claim { service, need: Need::Place, keeps: false }),
                2 => Some(Claim { service, need: Need::Both, keeps: false }),
                _ => Some(Claim { service, need: Need::Both, keeps: true }),
            };
            let ready = Ready {
                priority: random(3) as i32,
                pool: Some(0).filter(|_| random(4) == 0),
                of_task: Some(3).filter(|_| random(4) == 0),
                alone: random(20) == 0,
                claim,
                ..call(number)
            };
            slots.push(ready);
            waiting.insert(number, ready);
        }
        let (mut now, mut running, mut answers, mut alarms) = (0, Vec::new(), Vec::new(), Vec::new());
        loop {
            for ready in std::iter::from_fn(|| slots.next(at(now))) {
                waiting.remove(&ready.key.map_index).expect("it was ready, once");
                running.push(ready);
            }
            for (gate, size) in slots.gates().iter().zip(sizes) {
                assert!(size == 0 || gate.taken() <= size, "{slots:?}");
            }
            alarms.extend(slots.alarms());
            if random(9) == 0 {
                slots.close(random(2) as usize, at(now + random(300) as i64));
            }
            match random(3) {
                0 if !running.is_empty() => {
                    let ended = running.swap_remove(random(running.len() as u64) as usize);
                    slots.release(ended.run, ended.key);
                    match ended.claim {
                        // Another try of it.
                        Some(claim) if claim.keeps && random(4) == 0 => {
                            let claim = Some(Claim { need: Need::Open, ..claim });
                            let again = Ready { claim, ..ended };
                            slots.push(again);
                            waiting.insert(again.key.map_index, again);
                        }
                        Some(claim) if claim.keeps => answers.push(ended.key),
                        _ => {}
                    }
                }
                1 if !answers.is_empty() => {
                    let key = answers.swap_remove(random(answers.len() as u64) as usize);
                    slots.unplace(1, key);
                }
                2 if random(6) == 0 && !waiting.is_empty() => {
                    let number = *waiting.keys().nth(random(waiting.len() as u64) as usize).unwrap();
                    let ready = waiting.remove(&number).unwrap();
                    slots.forget(1, ready.key);
                    slots.unplace(1, ready.key);
                }
                _ if alarms.is_empty() && running.is_empty() && answers.is_empty() => break,
                _ if running.is_empty() && answers.is_empty() || random(4) == 0 => {
                    alarms.sort_by_key(|(_, at)| *at);
                    if !alarms.is_empty() {
                        let (service, due) = alarms.remove(0);
                        now = now.max(due.timestamp_millis() + 1);
                        slots.look(service, due);
                    }
                }
                _ => {}
            }
        }
        assert!(waiting.is_empty(), "{waiting:?} of {slots:?}");
        assert!(slots.gates().iter().all(|gate| gate.taken() == 0), "{slots:?}");
    }
}

/// Ten thousand that wait cost no more each than a few: nobody looks at all of them for each that starts.
#[test]
fn many_that_wait_for_a_service_are_not_looked_at_one_by_one() {
    let spent = |count: i32, limits: Limits| {
        let mut slots = slots(32, &[limits]);
        (0..count).for_each(|number| slots.push(submit(number)));
        let (mut now, mut done) = (at(0), 0);
        while done < count {
            let all: Vec<_> = std::iter::from_fn(|| slots.next(now)).collect();
            for ready in &all {
                slots.release(1, ready.key);
                slots.unplace(1, ready.key);
            }
            done += all.len() as i32;
            for (service, at) in slots.alarms() {
                now = now.max(at + TimeDelta::microseconds(1));
                slots.look(service, at);
            }
        }
        slots.looked()
    };
    for limits in [limits(8, 0), limits(0, 50), limits(8, 50), limits(8, 2_000)] {
        assert!(spent(10_000, limits) <= 30_000, "{limits:?}: {}", spent(10_000, limits));
    }
}

/// Nor where a pool and the pace of the service hold them up in turns.
#[test]
fn nor_are_those_that_meet_two_limits() {
    const COUNT: i32 = 4_000;
    let mut slots = slots(32, &[limits(0, 50)]);
    (0..COUNT).for_each(|number| slots.push(Ready { pool: Some(0), ..call(number) }));
    let (mut now, mut begun, mut step) = (at(0), 0, 0);
    let (mut running, mut alarms) = (Vec::new(), Vec::new());
    while begun < COUNT {
        // The calls are quick, and then slow for a while.
        let takes = TimeDelta::milliseconds(if step / 20 % 2 == 0 { 5 } else { 90 });
        step += 1;
        for ready in std::iter::from_fn(|| slots.next(now)) {
            begun += 1;
            running.push((now + takes, ready.key));
        }
        alarms.extend(slots.alarms());
        let ends = running.iter().map(|(at, _)| *at);
        now = now.max(ends.chain(alarms.iter().map(|(_, at)| *at)).min().unwrap());
        for (service, at) in alarms.extract_if(.., |(_, at)| *at <= now) {
            slots.look(service, at);
        }
        for (_, key) in running.extract_if(.., |(at, _)| *at <= now) {
            slots.release(1, key);
        }
    }
    assert!(slots.looked() <= 3 * COUNT as usize, "{}", slots.looked());
}
