//! Which questions are put to S3, and when. Pure: moments come in, questions come out.
//!
//! A look at one key is a `HEAD`. A `LIST` costs as much as a dozen of them and looks at every key that is
//! waited for in its bucket, so that is asked for where a dozen looks are due about now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use crate::run::Key;
use crate::value::Object;

/// The first look comes this soon.
const SOONEST: Duration = Duration::from_millis(100);

/// Looks are never further apart than this, but for what the budget allows.
pub(super) const LATEST: Duration = Duration::from_secs(10);

/// What a `LIST` costs, in `HEAD`s.
const LIST: f64 = 12.5;

/// How long it is believed that a bucket may not be listed.
const NOT_LISTED: Duration = Duration::from_secs(600);

/// How long S3 is left alone when it cannot be asked: at first, and at most.
const TROUBLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Who waits.
type Who = (i64, Key);

/// What a task instance waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Watch {
    pub(in crate::engine) who: Who,
    pub(in crate::engine) object: Object,
    /// How long it has waited already.
    pub(in crate::engine) waited: Duration,
    /// How long it still may.
    pub(in crate::engine) left: Duration,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Ask {
    /// Whether this object is there.
    Head { id: u64, object: Object },
    /// Which objects with this beginning are there, of those behind `after`.
    List { bucket: Arc<str>, prefix: String, after: String },
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Heard {
    There,
    Missing,
    /// It could not be asked.
    Trouble,
}

/// What a `LIST` has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Listed {
    /// These keys, in order, and whether there are more behind them.
    Keys(Vec<String>, bool),
    /// Nobody may ask that.
    Forbidden,
    /// It could not be asked.
    Trouble,
}

/// All that is waited for.
#[derive(Debug)]
pub(in crate::engine) struct Plan {
    waits: HashMap<u64, Wait>,
    of: HashMap<Who, u64>,
    buckets: BTreeMap<Arc<str>, Bucket>,
    deadlines: BTreeSet<(Moment, u64)>,
    budget: Budget,
    start: Instant,
    next_id: u64,
}

/// Nanoseconds since the plan was made, and one: half as large as an [`Instant`], of which a hundred thousand waits
/// have many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(NonZeroU64);

impl Moment {
    fn new(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    fn of(at: Instant, start: Instant) -> Self {
        Self::new(nanos(at.saturating_duration_since(start)))
    }

    fn instant(self, start: Instant) -> Instant {
        start.checked_add(Duration::from_nanos(self.0.get() - 1)).unwrap_or_else(crate::clock::far_future)
    }

    fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(nanos(pause)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Wait {
    who: Who,
    bucket: Arc<str>,
    key: Arc<str>,
    began: Moment,
    /// How long it had waited before.
    waited: u64,
    until: Moment,
    /// When it was last looked for, or when it began.
    looked: Moment,
    /// When it is looked for next; `None` while it is asked for.
    at: Option<Moment>,
    /// It may have come while it was asked for.
    hinted: bool,
}

#[derive(Debug, Default)]
struct Bucket {
    keys: BTreeMap<Arc<str>, u64>,
    by_time: BTreeSet<(Moment, u64)>,
    /// When the last `LIST` began that has looked at every key.
    listed: Option<Moment>,
    pass: Option<Pass>,
    /// What a look at all keys costs beyond what it finds, by the last one.
    cost: f64,
    not_listed_until: Option<Instant>,
    quiet: Option<(Instant, Duration)>,
}

/// A look at all keys of a bucket, page by page.
#[derive(Debug)]
struct Pass {
    began: Instant,
    pages: u32,
    found: u32,
    /// Where the next page begins; `None` while it is asked for.
    from: Option<Arc<str>>,
}

impl Plan {
    /// With so many `HEAD`s a second.
    pub(in crate::engine) fn new(rate: u32, now: Instant) -> Self {
        Self {
            waits: HashMap::new(),
            of: HashMap::new(),
            buckets: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            budget: Budget::new(rate, now),
            start: now,
            next_id: 0,
        }
    }

    /// Who waits.
    #[cfg(test)]
    pub(in crate::engine) fn waiting(&self) -> Vec<Who> {
        let mut waiting: Vec<Who> = self.of.keys().copied().collect();
        waiting.sort_unstable();
        waiting
    }

    /// Waits for one more.
    pub(in crate::engine) fn add(&mut self, watch: Watch, now: Instant) {
        let Watch { who, object, waited, left } = watch;
        self.forget(who);
        let name = match self.buckets.get_key_value(object.bucket.as_str()) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(object.bucket),
        };
        let (id, key) = (self.next_id, Arc::from(object.key));
        self.next_id += 1;
        let bucket = self.buckets.entry(Arc::clone(&name)).or_default();
        bucket.keys.insert(Arc::clone(&key), id);
        let (now, waited) = (Moment::of(now, self.start), nanos(waited));
        let until = now.after(left);
        let wait =
            Wait { who, bucket: name, key, began: now, waited, until, looked: now, at: None, hinted: false };
        self.deadlines.insert((until, id));
        self.of.insert(who, id);
        self.waits.insert(id, wait);
        self.time(id);
    }

    /// Nobody waits for it any more.
    pub(in crate::engine) fn forget(&mut self, who: Who) {
        if let Some(&id) = self.of.get(&who) {
            self.remove(id);
        }
    }

    /// It may be there: looks for it at once.
    pub(in crate::engine) fn hint(&mut self, object: &Object, now: Instant) {
        let of_bucket = self.buckets.get(object.bucket.as_str());
        if let Some(&id) = of_bucket.and_then(|bucket| bucket.keys.get(object.key.as_str())) {
            self.hint_id(id, now);
        }
    }

    fn hint_id(&mut self, id: u64, now: Instant) {
        let now = Moment::of(now, self.start);
        let Some(wait) = self.waits.get_mut(&id) else { return };
        let Some(bucket) = self.buckets.get_mut(&wait.bucket) else { return };
        match wait.at {
            Some(at) => {
                bucket.by_time.remove(&(at, id));
                (wait.at, wait.looked) = (Some(now), now);
                bucket.by_time.insert((now, id));
            }
            // It is being asked for: once more afterwards.
            None => wait.hinted = true,
        }
    }

    /// Those whose time is over. Nobody waits for them any more.
    pub(in crate::engine) fn overdue(&mut self, now: Instant) -> Vec<(Who, Object)> {
        let (mut over, now) = (Vec::new(), Moment::of(now, self.start));
        while let Some(&(until, id)) = self.deadlines.first()
            && until <= now
        {
            over.extend(self.remove(id));
        }
        over
    }

    /// The next question, if one is due. The bucket that has waited longest is first, also where there is
    /// not enough for its question yet and would be for another's.
    pub(in crate::engine) fn ask(&mut self, now: Instant) -> Option<Ask> {
        loop {
            let (due, name) = self.first_due()?;
            if due > now {
                return None;
            }
            if let Some(cost) = self.cost(&name, now) {
                return self.budget.take(cost, now).then(|| self.ask_of(&name, now))?;
            }
        }
    }

    /// When there will be a question, unless something is heard before.
    pub(in crate::engine) fn next_question(&self, now: Instant) -> Option<Instant> {
        let (due, name) = self.first_due()?;
        let cost = if self.buckets.get(&name)?.pass.is_some() { LIST } else { 1.0 };
        Some(due.max(self.budget.ready(cost, now)))
    }

    /// When the next wait is over its time.
    pub(in crate::engine) fn next_end(&self) -> Option<Instant> {
        self.deadlines.first().map(|(until, _)| until.instant(self.start))
    }

    fn first_due(&self) -> Option<(Instant, Arc<str>)> {
        let due = self.buckets.iter().filter_map(|(name, bucket)| Some((bucket.due(self.start)?, name)));
        due.min().map(|(due, name)| (due, Arc::clone(name)))
    }

    /// What the question of a bucket that is due costs, which is then decided; `None` where it was due for
    /// what a `LIST` has looked for meanwhile.
    fn cost(&mut self, name: &str, now: Instant) -> Option<f64> {
        let (bucket, at) = (self.buckets.get_mut(name)?, Moment::of(now, self.start));
        let first = bucket.keys.first_key_value().map(|(first, _)| Arc::clone(first));
        // All that it was looking for is given up.
        bucket.pass.take_if(|_| first.is_none());
        if bucket.pass.is_none() {
            // What was found there long ago may be gone.
            let known = bucket.listed.is_some_and(|listed| at < listed.after(NOT_LISTED));
            let worth = if known { bucket.cost.max(LIST) } else { LIST }.ceil() as usize;
            let may_list = bucket.not_listed_until.is_none_or(|until| until <= now);
            if near(bucket, &mut self.waits, at, worth) < worth || !may_list || first.is_none() {
                return bucket.by_time.first().filter(|(due, _)| *due <= at).map(|_| 1.0);
            }
            bucket.pass = Some(Pass { began: now, pages: 0, found: 0, from: first });
        }
        Some(LIST)
    }

    /// The question that was decided.
    fn ask_of(&mut self, name: &Arc<str>, now: Instant) -> Option<Ask> {
        let bucket = self.buckets.get_mut(name)?;
        let Some(pass) = &mut bucket.pass else {
            let (_, id) = bucket.by_time.pop_first()?;
            let wait = self.waits.get_mut(&id)?;
            (wait.at, wait.looked) = (None, Moment::of(now, self.start));
            return Some(Ask::Head { id, object: wait.object() });
        };
        let (first, last) = (bucket.keys.first_key_value()?.0, bucket.keys.last_key_value()?.0);
        let from = pass.from.take()?;
        // A page begins behind what it is given: behind what is only just before the key.
        let mut after = from.to_string();
        after.pop();
        Some(Ask::List { bucket: Arc::clone(name), prefix: common(first, last), after })
    }

    /// What became of a `HEAD`: who has waited for what is there.
    pub(in crate::engine) fn heard(&mut self, id: u64, heard: Heard, now: Instant) -> Option<(Who, Object)> {
        let wait = self.waits.get(&id)?;
        let name = Arc::clone(&wait.bucket);
        match heard {
            Heard::There => return self.remove(id),
            Heard::Missing => self.buckets.get_mut(&name)?.quiet = None,
            Heard::Trouble => self.trouble(&name, now),
        }
        let hinted = self.waits.get_mut(&id).is_some_and(|wait| std::mem::take(&mut wait.hinted));
        self.time(id);
        if hinted {
            self.hint_id(id, now);
        }
        None
    }

    /// What became of a `LIST`: who has waited for what is there.
    pub(in crate::engine) fn listed(
        &mut self,
        name: &Arc<str>,
        listed: Listed,
        now: Instant,
    ) -> Vec<(Who, Object)> {
        let Some(bucket) = self.buckets.get_mut(name) else { return Vec::new() };
        let (keys, more) = match listed {
            Listed::Keys(keys, more) => (keys, more),
            Listed::Forbidden => {
                (bucket.pass, bucket.not_listed_until) = (None, now.checked_add(NOT_LISTED));
                return Vec::new();
            }
            Listed::Trouble => {
                bucket.pass = None;
                self.trouble(name, now);
                return Vec::new();
            }
        };
        bucket.quiet = None;
        let found: Vec<u64> = keys.iter().filter_map(|key| bucket.keys.get(key.as_str()).copied()).collect();
        // What nobody waits for is leapt over.
        let behind = keys.last().filter(|_| more).and_then(|last| {
            let behind = (std::ops::Bound::Excluded(last.as_str()), std::ops::Bound::Unbounded);
            bucket.keys.range::<str, _>(behind).next().map(|(key, _)| Arc::clone(key))
        });
        if let Some(pass) = &mut bucket.pass {
            pass.pages += 1;
            pass.found += found.len() as u32;
            match behind {
                Some(from) => pass.from = Some(from),
                None => {
                    bucket.cost = LIST * f64::from(pass.pages) - f64::from(pass.found);
                    bucket.listed = Some(Moment::of(pass.began, self.start));
                    bucket.pass = None;
                }
            }
        }
        found.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// How many are waited for.
    pub(super) fn len(&self) -> usize {
        self.waits.len()
    }

    /// S3 is left alone for a while, longer each time.
    fn trouble(&mut self, name: &str, now: Instant) {
        let Some(bucket) = self.buckets.get_mut(name) else { return };
        // Of several that were asked at once, the first has told.
        if bucket.quiet.is_some_and(|(until, _)| until > now) {
            return;
        }
        let pause = bucket.quiet.map_or(TROUBLE.0, |(_, pause)| (pause * 2).min(TROUBLE.1));
        bucket.quiet = Some((now + pause, pause));
    }

    /// Says when it is looked for next.
    fn time(&mut self, id: u64) {
        let Some(wait) = self.waits.get_mut(&id) else { return };
        let Some(bucket) = self.buckets.get_mut(&wait.bucket) else { return };
        let at = wait.next_look(id, wait.looked);
        wait.at = Some(at);
        bucket.by_time.insert((at, id));
    }

    fn remove(&mut self, id: u64) -> Option<(Who, Object)> {
        let wait = self.waits.remove(&id)?;
        self.of.remove(&wait.who);
        self.deadlines.remove(&(wait.until, id));
        if let Some(bucket) = self.buckets.get_mut(&wait.bucket) {
            if bucket.keys.get(&wait.key) == Some(&id) {
                bucket.keys.remove(&wait.key);
            }
            if let Some(at) = wait.at {
                bucket.by_time.remove(&(at, id));
            }
        }
        Some((wait.who, wait.object()))
    }
}

impl Bucket {
    /// When it is asked next; `None` while a page of it is under way, or nothing is waited for.
    fn due(&self, start: Instant) -> Option<Instant> {
        let due = match &self.pass {
            Some(Pass { from: None, .. }) => return None,
            Some(pass) => pass.began,
            None => self.by_time.first()?.0.instant(start),
        };
        Some(self.quiet.map_or(due, |(until, _)| due.max(until)))
    }
}

impl Wait {
    fn object(&self) -> Object {
        Object { bucket: self.bucket.to_string(), key: self.key.to_string() }
    }

    /// How far apart looks are at this moment. It follows from how long the wait has lasted, not from
    /// how often it was looked, so that a restart does not begin anew.
    fn pause(&self, at: Moment) -> Duration {
        let waited = self.waited.saturating_add(at.0.get().saturating_sub(self.began.0.get()));
        Duration::from_nanos(waited / 8).clamp(SOONEST, LATEST)
    }

    /// The next look after one: a little sooner for some than for others, so that they do not stay together.
    fn next_look(&self, id: u64, looked: Moment) -> Moment {
        let spread = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as u32;
        let pause = self.pause(looked);
        looked.after(pause - pause * spread / 160)
    }
}

/// Counts, up to `enough`, how many looks are due about now. Those that a `LIST` has made meanwhile are put off.
fn near(bucket: &mut Bucket, waits: &mut HashMap<u64, Wait>, now: Moment, enough: usize) -> usize {
    let mut near = Vec::new();
    while near.len() < enough
        && let Some(&(at, id)) = bucket.by_time.first()
    {
        let Some(wait) = waits.get_mut(&id) else {
            bucket.by_time.pop_first();
            continue;
        };
        // About now: a quarter of the pause earlier than it has to be.
        if at > now.after(wait.pause(now) / 4) {
            break;
        }
        bucket.by_time.pop_first();
        match bucket.listed.filter(|listed| *listed > wait.looked) {
            Some(listed) => {
                let at = wait.next_look(id, listed);
                (wait.looked, wait.at) = (listed, Some(at));
                bucket.by_time.insert((at, id));
            }
            None => near.push((at, id)),
        }
    }
    let count = near.len();
    bucket.by_time.extend(near);
    count
}

/// What both begin with.
fn common(first: &str, last: &str) -> String {
    let same = first.char_indices().zip(last.chars()).find(|((_, a), b)| a != b);
    let end = same.map_or(first.len().min(last.len()), |((at, _), _)| at);
    first.get(..end).unwrap_or_default().to_owned()
}
