//! The world around the engine: services, S3, and whatever takes its time. It goes on when the process dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::random::Random;

/// Something that happens by itself.
#[derive(Debug)]
pub(super) enum Happening {
    /// An attempt is at the point where it does something outside.
    Acts(u64),
    /// An attempt comes to its end.
    Ends(u64),
    /// Somebody was told of something.
    Told(i64),
    /// Objects were deleted.
    Swept(Vec<crate::store::Deletion>),
    /// An answer is left in S3: one that can be read, or one that cannot.
    Arrives(String, bool),
}

/// What is wanted once: by the uuid of a run, a task, its map index and its generation.
pub(super) type Effect = (String, &'static str, i32, u32);

/// Services, S3, and what is to come.
#[derive(Debug)]
pub(super) struct World {
    pub(super) random: Random,
    /// How long the world has been there.
    pub(super) elapsed: Duration,
    happenings: BTreeMap<(Duration, u64), Happening>,
    serial: u64,
    /// The answers that are there, by their keys, and whether they can be read.
    pub(super) objects: BTreeMap<String, bool>,
    /// How often a service was asked for one effect, by `Idempotency-Key`.
    pub(super) effects: BTreeMap<String, u32>,
    /// What each of these keys is for, and the other way round.
    keys: BTreeMap<String, Effect>,
    named: BTreeMap<Effect, String>,
    /// Keys that stay, as the call says.
    pub(super) kept: BTreeSet<String>,
    /// Whether nothing goes wrong any more.
    pub(super) calm: bool,
}

impl World {
    pub(super) fn new(random: Random) -> Self {
        Self {
            random,
            elapsed: Duration::ZERO,
            happenings: BTreeMap::new(),
            serial: 0,
            objects: BTreeMap::new(),
            effects: BTreeMap::new(),
            keys: BTreeMap::new(),
            named: BTreeMap::new(),
            kept: BTreeSet::new(),
            calm: false,
        }
    }

    /// Whether something goes wrong that does so in so many of a hundred cases.
    pub(super) fn goes_wrong(&mut self, percent: u64) -> bool {
        self.random.chance(percent) && !self.calm
    }

    pub(super) fn later(&mut self, after: Duration, what: Happening) {
        self.happenings.insert((self.elapsed + after, self.serial), what);
        self.serial += 1;
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.happenings.first_key_value().map(|((at, _), _)| *at)
    }

    /// What happens now, in any order.
    pub(super) fn happens(&mut self) -> Option<Happening> {
        let due: Vec<_> = self.happenings.range(..=(self.elapsed, u64::MAX)).map(|(at, _)| *at).collect();
        let at = *self.random.pick(&due)?;
        self.happenings.remove(&at)
    }

    /// The process is gone, and with it what it was at.
    pub(super) fn crash(&mut self) {
        self.happenings.retain(|_, what| matches!(what, Happening::Arrives(..)));
    }

    /// Some time: mostly little.
    pub(super) fn while_(&mut self) -> Duration {
        let (most, least) = match self.random.below(10) {
            0 => (1, 0),
            1..=6 => (5_000, 10),
            7..=8 => (60_000, 1_000),
            _ => (400_000, 1_000),
        };
        Duration::from_millis(least + self.random.below(most))
    }

    /// An effect has one key, over all its tries, and no other effect has that.
    pub(super) fn knows(&mut self, key: &str, effect: Effect) -> Result<(), String> {
        let (of, name) = (self.keys.get(key), self.named.get(&effect));
        if of.is_some_and(|of| *of != effect) || name.is_some_and(|name| name != key) {
            return Err(format!(
                "{effect:?} is asked for as {key}, which was {of:?}, and before as {name:?}"
            ));
        }
        self.keys.insert(key.to_owned(), effect.clone());
        self.named.insert(effect, key.to_owned());
        Ok(())
    }

    /// A service is asked for an effect; it honours the key. Whether it has done so before.
    pub(super) fn ask(&mut self, key: &str) -> bool {
        let count = self.effects.entry(key.to_owned()).or_default();
        *count += 1;
        *count > 1
    }

    /// A service is asked for an answer at this key in S3.
    pub(super) fn submit(&mut self, call: &str, object: &str) {
        let again = self.ask(call);
        // Whoever honours the key has one answer, and leaves it where it is asked to.
        if again && self.objects.contains_key(object) {
            return;
        }
        if self.goes_wrong(8) {
            return; // It is lost, or the service has died.
        }
        let readable = !self.goes_wrong(12);
        let after = self.while_();
        self.later(after, Happening::Arrives(object.to_owned(), readable));
        // Some are delivered twice.
        if self.goes_wrong(8) {
            let again = after + self.while_();
            self.later(again, Happening::Arrives(object.to_owned(), readable));
        }
    }
}
