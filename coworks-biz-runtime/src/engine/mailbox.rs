//! What the engine is told, in order; and where it sleeps while nobody tells it anything.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use super::gap::Gap;
use super::message::Message;
use crate::clock::{Busy, Clock};

/// How often it is looked whether time can be skipped, where it can.
const GLANCE: Duration = Duration::from_millis(1);

/// How soon the next message comes where many attempts end together.
const MOMENT: Duration = Duration::from_micros(10);

/// Where messages are left.
#[derive(Debug, Clone)]
pub(super) struct Post {
    sender: Sender<(Message, Busy)>,
    clock: Clock,
}

/// Where they are taken from.
#[derive(Debug)]
pub(super) struct Mailbox {
    receiver: Receiver<(Message, Busy)>,
    clock: Clock,
    /// Whoever takes messages is busy, but while it waits here; so is a message that nobody has taken.
    awake: Busy,
    /// How soon messages come.
    gap: Gap,
}

pub(super) fn mailbox(clock: &Clock) -> (Post, Mailbox) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (clock, awake) = (clock.clone(), clock.busy());
    (Post { sender, clock: clock.clone() }, Mailbox { receiver, clock, awake, gap: Gap::default() })
}

impl Post {
    /// An error where nobody takes messages any more.
    pub(super) fn send(&self, message: Message) -> Result<(), SendError<()>> {
        self.sender.send((message, self.clock.busy())).map_err(|_| SendError(()))
    }
}

impl Mailbox {
    /// The next message, if there is one.
    pub(super) fn try_recv(&self) -> Result<Message, TryRecvError> {
        self.receiver.try_recv().map(|(message, _)| message)
    }

    /// The next message, where it comes in a moment.
    pub(super) fn in_a_moment(&self) -> Option<Message> {
        let begin = Instant::now();
        while !self.clock.skips() && begin.elapsed() < MOMENT {
            if let Ok((message, _)) = self.receiver.try_recv() {
                return Some(message);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// The next message; an error where none comes within the pause, or nobody is left to send one.
    /// Where time can be skipped, `skip` says whether it is.
    pub(super) fn recv(&mut self, pause: Option<Duration>, skip: bool) -> Result<Message, RecvTimeoutError> {
        if self.clock.skips() {
            return self.recv_or_skip(pause, skip);
        }
        let begin = Instant::now();
        if let Some(message) = self.stay_awake(begin, pause) {
            return Ok(message);
        }
        let message = match pause {
            Some(pause) => self.receiver.recv_timeout(pause),
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        self.gap.note(begin.elapsed());
        message.map(|(message, _)| message)
    }

    /// The next message, where it comes so soon that it is not worth to fall asleep.
    fn stay_awake(&self, begin: Instant, pause: Option<Duration>) -> Option<Message> {
        let mut awake = self.gap.awake(pause)?;
        loop {
            if let Ok((message, _)) = self.receiver.try_recv() {
                self.gap.note(begin.elapsed());
                awake.worth_it();
                return Some(message);
            }
            if !awake.go_on() {
                return None;
            }
        }
    }

    /// The same in a test's time: where nothing else is under way, the pause takes none.
    fn recv_or_skip(&mut self, pause: Option<Duration>, skip: bool) -> Result<Message, RecvTimeoutError> {
        if skip && self.clock.skip(&self.awake, pause) {
            return Err(RecvTimeoutError::Timeout);
        }
        // Whoever is busy may fall asleep, or time may be let go on: nobody tells that.
        let glance = pause.unwrap_or(GLANCE).min(GLANCE);
        self.awake = Busy::default();
        let taken = self.receiver.recv_timeout(glance);
        self.awake = self.clock.busy();
        taken.map(|(message, _)| message)
    }
}
