//! The plan against an S3 that is a set of keys, in a time of its own.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::plan::{Ask, Heard, LATEST, Listed, Plan, Watch};
use crate::run::Key;
use crate::value::Object;

const HOUR: Duration = Duration::from_secs(3600);

fn key(number: i64) -> String {
    format!("s3/biz-e/{number:09}/x.call.-1.0")
}

fn object(number: i64) -> Object {
    Object { bucket: "b".into(), key: key(number) }
}

fn watch(number: i64, left: Duration) -> Watch {
    Watch { who: (number, Key::plain(1)), object: object(number), waited: Duration::ZERO, left }
}

/// A plan, what it asks, and how that is answered.
struct World {
    plan: Plan,
    start: Instant,
    now: Instant,
    there: BTreeSet<String>,
    may_list: bool,
    out_of_reach: bool,
    heads: usize,
    lists: usize,
    arrived: Vec<(i64, Duration)>,
    overdue: Vec<(i64, Duration)>,
}

impl World {
    fn new(rate: u32) -> Self {
        let start = Instant::now();
        Self {
            plan: Plan::new(rate, start),
            start,
            now: start,
            there: BTreeSet::new(),
            may_list: true,
            out_of_reach: false,
            heads: 0,
            lists: 0,
            arrived: vec![],
            overdue: vec![],
        }
    }

    fn with(count: i64) -> Self {
        let mut world = Self::new(25);
        for number in 0..count {
            world.plan.add(watch(number, HOUR), world.now);
        }
        world
    }

    /// Goes on until this long after the start.
    fn until(&mut self, end: Duration) {
        loop {
            let gone = self.now - self.start;
            self.overdue.extend(self.plan.overdue(self.now).into_iter().map(|((run, _), _)| (run, gone)));
            while let Some(ask) = self.plan.ask(self.now) {
                self.answer(ask);
            }
            let next = self.plan.next_question(self.now).into_iter().chain(self.plan.next_end()).min();
            let next = next.map(|next| next.max(self.now + Duration::from_millis(1)));
            match next.filter(|next| *next <= self.start + end) {
                Some(next) => self.now = next,
                None => break self.now = self.start + end,
            }
        }
    }

    fn answer(&mut self, ask: Ask) {
        let gone = self.now - self.start;
        let arrived = match ask {
            Ask::Head { id, object } => {
                self.heads += 1;
                let heard = match (self.out_of_reach, self.there.contains(&object.key)) {
                    (true, _) => Heard::Trouble,
                    (false, true) => Heard::There,
                    (false, false) => Heard::Missing,
                };
                self.plan.heard(id, heard, self.now).into_iter().collect()
            }
            Ask::List { bucket, prefix, after } => {
                self.lists += 1;
                let behind = self.there.iter().filter(|key| **key > after && key.starts_with(&prefix));
                let mut keys: Vec<_> = behind.take(1001).cloned().collect();
                let more = keys.len() > 1000;
                keys.truncate(1000);
                let listed = match (self.out_of_reach, self.may_list) {
                    (true, _) => Listed::Trouble,
                    (false, true) => Listed::Keys(keys, more),
                    (false, false) => Listed::Forbidden,
                };
                self.plan.listed(&bucket, listed, self.now)
            }
        };
        for ((run, _), object) in arrived {
            assert!(self.there.contains(&object.key), "{object} is not there");
            self.arrived.push((run, gone));
        }
    }

    fn cost(&self) -> f64 {
        self.heads as f64 + 12.5 * self.lists as f64
    }
}

#[test]
fn looks_for_one_begin_soon_and_grow_apart() {
    let mut world = World::with(1);
    let mut at = vec![];
    while at.len() < 60 {
        let before = world.heads;
        world.until(world.now - world.start + Duration::from_millis(5));
        at.extend((before..world.heads).map(|_| world.now - world.start));
    }
    let first = at[0];
    assert!(first > Duration::from_millis(85) && first <= Duration::from_millis(105), "{first:?}");
    let pauses = at.windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>();
    assert!(pauses.iter().all(|pause| *pause <= LATEST + Duration::from_millis(5)));
    // An eighth of the time that has gone by.
    let late = at.iter().position(|at| *at > Duration::from_secs(40)).unwrap();
    let part = pauses[late].as_secs_f64() / at[late].as_secs_f64();
    assert!((0.11..0.13).contains(&part), "{part}");
    assert_eq!(world.lists, 0);
}

#[test]
fn a_wait_goes_on_where_it_was_before_a_restart() {
    let mut world = World::new(25);
    world.plan.add(Watch { waited: HOUR, ..watch(0, HOUR) }, world.now);
    world.until(Duration::from_secs(60));
    assert!((6..=7).contains(&world.heads), "{}", world.heads);
}

#[test]
fn many_are_looked_for_with_one_list() {
    let mut world = World::with(5000);
    world.there.extend([3, 4999].map(key));
    // What others have left there, before and behind.
    world.there.extend(["s3/biz-d/1".to_owned(), "s3/biz-e/y".to_owned()]);
    world.until(Duration::from_millis(150));
    assert_eq!(world.arrived.iter().map(|(run, _)| *run).collect::<Vec<_>>(), [3, 4999]);
    assert_eq!((world.heads, world.lists), (0, 1));
    // And all of them were looked for.
    world.until(Duration::from_millis(180));
    assert_eq!((world.heads, world.lists), (0, 1));
}

#[test]
fn what_is_there_and_not_waited_for_is_leapt_over() {
    let mut world = World::new(1000);
    for number in [0, 500_000] {
        (0..20).for_each(|n| world.plan.add(watch(number + n, HOUR), world.now));
    }
    // Kept answers of others in between, enough for fifty pages.
    world.there.extend((100..50_100).map(key));
    world.there.insert(key(500_007));
    world.until(Duration::from_millis(300));
    assert_eq!(world.arrived.len(), 1);
    assert!(world.lists <= 6, "{}", world.lists);
}

#[test]
fn who_may_not_list_looks_for_each_within_the_budget() {
    let mut world = World::with(2000);
    world.may_list = false;
    world.until(Duration::from_secs(300));
    assert_eq!(world.lists, 1);
    assert!(world.cost() <= 100.0 + 25.0 * 301.0, "{}", world.cost());
    // Each has had its turn, and none was looked for much more often than others.
    assert!(world.heads > 7000, "{}", world.heads);
    world.there.extend((0..2000).map(key));
    world.until(Duration::from_secs(385));
    assert_eq!(world.arrived.len(), 2000);
}

#[test]
fn a_list_is_tried_again_when_the_right_may_have_been_given() {
    let mut world = World::with(500);
    world.may_list = false;
    world.until(Duration::from_secs(500));
    world.may_list = true;
    world.until(Duration::from_secs(620));
    let heads = world.heads;
    world.until(Duration::from_secs(900));
    assert!(world.lists > 20 && world.heads < heads + 50, "{} {}", world.lists, world.heads - heads);
}

#[test]
fn an_outage_is_waited_out_and_no_deadline_is_missed_for_it() {
    let mut world = World::with(300);
    world.plan.add(watch(999, Duration::from_secs(100)), world.now);
    world.out_of_reach = true;
    world.until(Duration::from_secs(600));
    assert_eq!(world.overdue, [(999, Duration::from_secs(100))]);
    assert!(world.cost() < 600.0, "{}", world.cost());
    world.out_of_reach = false;
    world.there.extend((0..300).map(key));
    world.until(Duration::from_secs(645));
    assert_eq!(world.arrived.len(), 300);
}

#[test]
fn a_wait_ends_at_its_deadline_exactly() {
    let mut world = World::new(25);
    for (number, left) in [(1, 100), (2, 777), (3, 60_000)] {
        world.plan.add(watch(number, Duration::from_millis(left)), world.now);
    }
    world.until(Duration::from_secs(100));
    let millis: Vec<_> = world.overdue.iter().map(|(run, at)| (*run, at.as_millis())).collect();
    assert_eq!(millis, [(1, 100), (2, 777), (3, 60_000)]);
    assert_eq!((world.plan.next_question(world.now), world.plan.next_end()), (None, None));
}

#[test]
fn what_is_given_up_is_not_looked_for_and_who_waits_again_waits_for_something_else() {
    let mut world = World::with(3);
    world.plan.forget((0, Key::plain(1)));
    world.plan.add(Watch { object: object(77), ..watch(1, HOUR) }, world.now);
    world.there.extend((0..3).map(key));
    world.until(Duration::from_secs(1));
    assert_eq!(world.arrived.iter().map(|(run, _)| *run).collect::<Vec<_>>(), [2]);
    world.there.insert(key(77));
    world.until(Duration::from_secs(2));
    assert_eq!(world.arrived.len(), 2);
    assert_eq!((world.plan.next_question(world.now), world.plan.next_end()), (None, None));
}

#[test]
fn a_hint_is_followed_at_once() {
    let mut world = World::with(100);
    world.until(Duration::from_secs(1000));
    world.there.insert(key(42));
    world.plan.hint(&object(42), world.now);
    world.plan.hint(&object(4200), world.now);
    world.until(Duration::from_secs(1000));
    assert_eq!(world.arrived, [(42, Duration::from_secs(1000))]);
}

#[test]
fn a_bucket_that_takes_much_does_not_starve_another() {
    let mut world = World::with(400);
    world.may_list = false;
    for number in 1000..1003 {
        let object = Object { bucket: "z".into(), key: key(number) };
        world.plan.add(Watch { object, ..watch(number, HOUR) }, world.now);
    }
    world.until(Duration::from_secs(300));
    world.there.extend((1000..1003).map(key));
    world.until(Duration::from_secs(345));
    assert_eq!(world.arrived.len(), 3);
}

#[test]
fn a_list_that_is_due_is_not_overtaken_by_looks_elsewhere() {
    let mut world = World::new(5);
    let wait = |number: i64, bucket: &str| {
        let object = Object { bucket: bucket.into(), key: key(number) };
        Watch { object, ..watch(number, HOUR) }
    };
    (0..10).for_each(|number| world.plan.add(wait(number, "a"), world.now));
    (100..200).for_each(|number| world.plan.add(wait(number, "b"), world.now));
    world.until(Duration::from_secs(60));
    world.there.extend((100..200).map(key));
    world.until(Duration::from_secs(90));
    assert_eq!(world.arrived.len(), 100);
}

#[test]
fn two_who_wait_for_one_key_do_not_hold_up_the_others() {
    let mut world = World::with(1);
    world.plan.add(Watch { object: object(0), ..watch(1, HOUR) }, world.now);
    world.plan.forget((1, Key::plain(1)));
    world.there.insert(key(0));
    world.until(Duration::from_secs(1));
    assert_eq!(world.arrived.iter().map(|(run, _)| *run).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_hint_while_it_is_asked_for_is_not_lost() {
    let mut world = World::with(1);
    let ask = std::iter::repeat_with(|| {
        world.now += Duration::from_millis(10);
        world.plan.ask(world.now)
    });
    let Some(Ask::Head { id, .. }) = ask.flatten().next() else { panic!("it is looked for") };
    world.plan.hint(&object(0), world.now);
    assert_eq!(world.plan.heard(id, Heard::Missing, world.now), None);
    assert!(matches!(world.plan.ask(world.now), Some(Ask::Head { .. })));
}

/// Answers arrive while others begin to wait: each is found soon, and for little.
#[test]
fn answers_are_found_within_the_ceiling_whenever_they_come() {
    let mut random = 7u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut world = World::new(25);
    let mut there = BTreeSet::new();
    for number in 0..20_000 {
        let begins = Duration::from_millis(draw(600_000));
        there.insert((begins, true, number));
        there.insert((begins + Duration::from_millis(50 + draw(300_000)), false, number));
    }
    let mut since = std::collections::HashMap::new();
    for (at, begins, number) in there {
        world.until(at);
        match begins {
            true => world.plan.add(watch(number, HOUR), world.now),
            false => {
                since.insert(number, at);
                world.there.insert(key(number));
            }
        }
    }
    world.until(Duration::from_secs(1000));
    assert_eq!(world.arrived.len(), 20_000);
    let mut delays: Vec<_> = world.arrived.iter().map(|(number, at)| *at - since[number]).collect();
    delays.sort_unstable();
    let p99 = delays[delays.len() * 99 / 100];
    assert!(p99 < LATEST && delays[delays.len() - 1] < 2 * LATEST, "{p99:?} {:?}", delays.last());
    assert!(world.cost() < 25.0 * 1000.0, "{}", world.cost());
}

/// The table of what waiting costs, in the guide. `cargo test -- --ignored --nocapture waiting_costs`
#[test]
#[ignore = "prints a table"]
fn waiting_costs() {
    for pending in [10, 1000, 100_000] {
        for may_list in [true, false] {
            let mut world = World::with(pending);
            world.may_list = may_list;
            world.until(HOUR);
            let dollars = (world.heads as f64 * 0.4 + world.lists as f64 * 5.0) / 1e6;
            println!(
                "{pending} pending, list {may_list}: {} HEAD, {} LIST in an hour: ${dollars:.4}",
                world.heads, world.lists
            );
        }
    }
}
