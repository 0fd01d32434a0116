//! Drives a run as an engine would, choosing by `choices` what happens next,
//! and holds every promise against it on the way.

use std::collections::HashSet;

use super::super::*;
use crate::dag::{Kind, TriggerRule};

/// The choice by which everything ends well, with this arm or so many items.
pub(super) fn well(meaning: u8) -> u8 {
    (meaning * 8 + 7).rotate_right(3)
}

pub(super) struct Driver {
    pub(super) run: Run,
    pub(super) queued: Vec<Key>,
    running: Vec<Key>,
    pub(super) waiting: Vec<Key>,
    /// Every try whose start was not a continuation.
    pub(super) started: HashSet<(Key, u32)>,
    continued: HashSet<Key>,
    pub(super) ended: Option<RunState>,
}

impl Driver {
    pub(super) fn new(dag: &'static Dag) -> Self {
        let mut driver = Self {
            run: Run::new(dag),
            queued: vec![],
            running: vec![],
            waiting: vec![],
            started: HashSet::new(),
            continued: HashSet::new(),
            ended: None,
        };
        driver.feed(Event::Begin);
        driver
    }

    pub(super) fn instance(&self, key: Key) -> Instance {
        *self.run.instances().get(key).unwrap()
    }

    pub(super) fn state(&self, key: Key) -> Option<State> {
        self.instance(key).state
    }

    /// The states of all instances of a task.
    pub(super) fn states(&self, task: u32) -> Vec<Option<State>> {
        self.run.instances().of(task).iter().map(|instance| instance.state).collect()
    }

    pub(super) fn feed(&mut self, event: Event) {
        let mut commands = vec![];
        self.run.step(event, &mut commands).unwrap();
        for command in commands {
            assert_eq!(self.ended, None, "{command:?} after the end of the run");
            match command {
                Command::Set { key, state, try_number } => {
                    assert_eq!(self.instance(key).try_number, try_number);
                    self.waiting.retain(|&k| k != key);
                    match state {
                        State::Queued => self.queued.push(key),
                        State::Running => self.running.push(key),
                        State::UpForRetry | State::UpForReschedule => self.waiting.push(key),
                        _ => assert!(state.is_final()),
                    }
                }
                Command::Wake { key, .. } => assert!(self.waiting.contains(&key)),
                Command::End(state) => self.ended = Some(state),
            }
        }
    }

    /// The instances that this one waits for.
    fn upstreams(&self, key: Key) -> Vec<Key> {
        let tasks = self.run.dag().tasks;
        let node = &tasks[key.task as usize];
        let of = |&above: &u32| match tasks[above as usize].map == node.map {
            true => vec![key.beside(above)],
            false => self.run.instances().keys(above).collect(),
        };
        node.upstream.iter().flat_map(of).collect()
    }

    /// How the gate of an instance ends it; `None` where it lets it run.
    fn kept_out(&self, key: Key) -> Option<State> {
        let tasks = self.run.dag().tasks;
        let node = &tasks[key.task as usize];
        let gate = node.gate?;
        let by = match tasks[gate.task as usize].kind {
            Kind::Map { .. } => self.instance(Key::plain(gate.task)),
            _ => self.instance(key.beside(gate.task)),
        };
        let in_favour = match tasks[gate.task as usize].kind {
            Kind::Map { .. } => by.outcome.is_some_and(|items| items > 0),
            _ => by.outcome == Some(gate.arm),
        };
        match by.state? {
            State::Success if in_favour => None,
            State::Success | State::Skipped => Some(State::Skipped),
            _ => Some(State::UpstreamFailed),
        }
    }

    pub(super) fn start(&mut self, at: usize) {
        let key = self.queued.swap_remove(at);
        let node = &self.run.dag().tasks[key.task as usize];
        let upstreams: Vec<_> = self.upstreams(key).into_iter().map(|above| self.state(above)).collect();
        match node.options.trigger_rule {
            TriggerRule::AllSuccess => assert!(upstreams.iter().all(|s| *s == Some(State::Success))),
            TriggerRule::Always | TriggerRule::OneSuccess | TriggerRule::OneFailed | TriggerRule::OneDone => {
            }
            _ => assert!(upstreams.iter().all(|s| s.is_some_and(State::is_final))),
        }
        if let Some(gate) = node.gate {
            let by = [key.beside(gate.task), Key::plain(gate.task)];
            let by = by.map(|by| self.run.instances().get(by).and_then(|instance| instance.state));
            assert!(by.contains(&Some(State::Success)), "{key:?} runs before its gate");
        }
        assert_eq!(self.kept_out(key), None);
        let try_number = self.instance(key).try_number;
        assert!((1..=node.options.retries + 1).contains(&try_number));
        let new = self.started.insert((key, try_number));
        assert!(new || self.continued.remove(&key), "try {try_number} of {key:?} ran twice");
        self.feed(Event::Started(key));
    }

    /// Ends one of those that run: 0 and 1 badly, 2 for ever, 3 skipped, 4 deferred, 5 cut off,
    /// others well, with an arm or with items where it is asked for one.
    pub(super) fn end(&mut self, at: usize, choice: u8) {
        let key = self.running.swap_remove(at);
        let meaning = u32::from(choice / 8);
        let event = match (choice % 8, self.run.dag().tasks[key.task as usize].kind) {
            (0 | 1, _) => Event::Ended(key, Ending::Failed(Retry::AsConfigured)),
            (2, _) => Event::Ended(key, Ending::Failed(Retry::Never)),
            (3, _) => Event::Ended(key, Ending::Skipped),
            (4, _) => Event::Ended(key, Ending::Deferred),
            (5, _) => Event::Interrupted(key),
            (_, Kind::Branch { arms }) => {
                Event::Ended(key, Ending::Chosen(meaning.checked_rem(arms.len() as u32).unwrap_or(0)))
            }
            (_, Kind::Map { .. }) => Event::Ended(key, Ending::Mapped(meaning % 4)),
            _ => Event::Ended(key, Ending::Success),
        };
        if matches!(event, Event::Interrupted(_) | Event::Ended(_, Ending::Deferred)) {
            self.continued.insert(key);
        }
        self.feed(event);
    }

    /// Starts and ends the one instance that is queued.
    pub(super) fn pass(&mut self, key: Key, ending: Ending) {
        let at = self.queued.iter().position(|&queued| queued == key);
        self.start(at.unwrap_or_else(|| panic!("{key:?} is not queued: {:?}", self.queued)));
        self.running.retain(|&running| running != key);
        self.feed(Event::Ended(key, ending));
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        (0..self.run.dag().tasks.len() as u32).flat_map(|task| self.run.instances().keys(task))
    }

    /// Restores the run from what was recorded, but for what is only ready, as after a crash.
    fn restored(&self, queued: bool) -> (Run, Vec<Command>) {
        let recorded: Vec<_> = self
            .keys()
            .filter_map(|key| {
                let Instance { state, try_number, interruptions, outcome, .. } = self.instance(key);
                let only_ready = state == Some(State::Queued) && !self.started.contains(&(key, 1));
                let recorded = Instance::recorded(state?, try_number, interruptions, outcome);
                (queued || !only_ready).then_some((key, recorded))
            })
            .collect();
        let mut run = Run::restore(self.run.dag(), recorded);
        let mut commands = vec![];
        let unchanged = run.instances.clone();
        run.step(Event::Begin, &mut commands).unwrap();
        assert!(!queued || run.instances == unchanged);
        (run, commands)
    }

    /// Forgets the run and restores it.
    fn crash(&mut self) {
        let (without_queued, commands) = self.restored(false);
        assert_eq!(without_queued.instances, self.run.instances);
        assert!(commands.iter().all(|c| matches!(c, Command::Set { state: State::Queued, .. })));
        let (restored, commands) = self.restored(true);
        assert_eq!(commands, [], "what was recorded left something undecided");
        assert_eq!(restored.instances, self.run.instances);
        assert_eq!(restored.open, self.run.open);
        self.run = restored;
    }

    pub(super) fn drive(&mut self, choices: &[u8]) {
        let mut choices = choices.iter().copied().cycle();
        for round in 0.. {
            assert!(round < 100_000, "the run does not end");
            let choice = choices.next().unwrap_or(0);
            // After the choices are used up for a while, everything succeeds.
            let ending = if round > 300 { 7 } else { choice.rotate_left(3) };
            let open = [self.queued.len(), self.running.len(), self.waiting.len()];
            if open == [0, 0, 0] {
                break;
            }
            let pick = (0..3).map(|n| (n + choice as usize) % 3).find(|&n| open[n] > 0).unwrap();
            let at = choice as usize % open[pick];
            match pick {
                0 => self.start(at),
                1 => self.end(at, ending),
                _ => {
                    let key = self.waiting[at];
                    self.feed(Event::Due(key));
                }
            }
            if choice % 16 == 9 && self.ended.is_none() {
                self.crash();
            }
        }
    }

    /// What has to hold once a run has ended.
    pub(super) fn check_the_end(&self) {
        let tasks = self.run.dag().tasks;
        for key in self.keys() {
            let (node, instance) = (&tasks[key.task as usize], self.instance(key));
            let state = instance.state.filter(|state| state.is_final()).expect("an end of every instance");
            if let Some(list) = node.map {
                let items = self.instance(Key::plain(list)).outcome.unwrap_or(0) as i32;
                assert_eq!(self.run.instances().mapped(key.task), items);
            }
            match self.kept_out(key) {
                Some(end) => assert_eq!((state, instance.try_number), (end, 0), "{key:?}"),
                None if instance.try_number == 0 => {
                    assert!(matches!(state, State::Skipped | State::UpstreamFailed), "{key:?} is {state}");
                    let mut above = self.upstreams(key).into_iter().map(|above| self.state(above));
                    assert!(
                        above.any(|above| above != Some(State::Success)) || !all_success(node),
                        "{key:?}"
                    );
                }
                None => {}
            }
        }
        let is_teardown = |task: u32| tasks[task as usize].role == Role::Teardown;
        let waits_for = |task: u32| {
            let gated = move |other: &u32| tasks[*other as usize].gate.is_some_and(|gate| gate.task == task);
            let all = 0..tasks.len() as u32;
            all.filter(gated).chain(tasks[task as usize].downstream.iter().copied())
        };
        let all = 0..tasks.len() as u32;
        let mut leaves: Vec<_> =
            all.clone().filter(|&t| !is_teardown(t) && waits_for(t).all(is_teardown)).collect();
        if leaves.is_empty() {
            leaves = all.filter(|&t| tasks[t as usize].downstream.is_empty()).collect();
        }
        let failed = |state: &Option<State>| matches!(state, Some(State::Failed | State::UpstreamFailed));
        let failed = leaves.iter().any(|&leaf| self.states(leaf).iter().any(failed));
        assert_eq!(self.ended, Some(if failed { RunState::Failed } else { RunState::Success }));
    }
}

fn all_success(node: &crate::dag::Task) -> bool {
    node.options.trigger_rule == TriggerRule::AllSuccess
}
