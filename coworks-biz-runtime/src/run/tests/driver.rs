//! Drives a run as an engine would, choosing by `choices` what happens next,
//! and holds every promise against it on the way.

use std::collections::{HashMap, HashSet};

use super::super::*;
use crate::dag::{Kind, Role, TriggerRule};

/// The choice by which everything ends well, with this arm or so many items.
pub(super) fn well(meaning: u8) -> u8 {
    (meaning * 8 + 7).rotate_right(3)
}

pub(super) struct Driver {
    pub(super) run: Run,
    start: Start,
    pub(super) queued: Vec<Key>,
    running: Vec<Key>,
    pub(super) waiting: Vec<Key>,
    /// Every try whose start was not a continuation.
    pub(super) started: HashSet<(Key, u32)>,
    continued: HashSet<Key>,
    pub(super) ended: Option<RunState>,
    /// The tasks that the run before has let go.
    let_go: Vec<u32>,
    /// Whether somebody has cleared, marked or stopped: not everything then follows from what is above.
    meddled: bool,
    /// Whether something was marked, or cleared without all that is below it.
    torn: bool,
    /// All commands but those for new states.
    pub(super) said: Vec<Command>,
}

impl Driver {
    pub(super) fn new(dag: &'static Dag) -> Self {
        Self::after(dag, false)
    }

    pub(super) fn after(dag: &'static Dag, after: bool) -> Self {
        let start = Start { seed: 7, after };
        let mut driver = Self {
            run: Run::new(dag, start),
            start,
            queued: vec![],
            running: vec![],
            waiting: vec![],
            started: HashSet::new(),
            continued: HashSet::new(),
            ended: None,
            let_go: vec![],
            meddled: false,
            torn: false,
            said: vec![],
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
        self.meddled |= matches!(event, Event::Mark(..) | Event::Stop(_));
        if let Event::Past(task) = event {
            self.let_go.push(task);
        }
        self.take(commands);
    }

    pub(super) fn clear(&mut self, keys: &[Key]) {
        let mut commands = vec![];
        self.meddled = true;
        self.run.clear(keys, &mut commands);
        self.take(commands);
    }

    fn take(&mut self, commands: Vec<Command>) {
        let mut last = HashMap::new();
        for command in commands {
            if !matches!(command, Command::Set { .. } | Command::Wake { .. }) {
                self.said.push(command);
            }
            match command {
                Command::Set { key, state, try_number } => {
                    assert!(self.ended.is_none() || self.meddled, "{command:?} after the end of the run");
                    last.insert(key, (state, try_number));
                    self.forget(key);
                    match state {
                        State::Queued => self.queued.push(key),
                        State::Running => self.running.push(key),
                        State::UpForRetry | State::UpForReschedule => self.waiting.push(key),
                        _ => assert!(state.is_final()),
                    }
                }
                Command::Wake { key, .. } => assert!(self.waiting.contains(&key)),
                Command::Cut { key } => {
                    assert!(self.running.contains(&key) || self.waiting.contains(&key));
                    self.forget(key);
                }
                Command::Clear { key } => {
                    last.remove(&key);
                    self.forget(key);
                }
                Command::Reopen => {
                    assert!(self.meddled);
                    self.ended = None;
                }
                Command::End(state) => {
                    assert_eq!(self.ended.replace(state), None);
                }
            }
        }
        for (key, (state, try_number)) in last {
            let instance = self.instance(key);
            assert_eq!((instance.state, instance.try_number), (Some(state), try_number), "{key:?}");
        }
    }

    fn forget(&mut self, key: Key) {
        for list in [&mut self.queued, &mut self.running, &mut self.waiting] {
            list.retain(|&other| other != key);
        }
    }

    /// The instances that this one waits for, setups further above among them.
    fn upstreams(&self, key: Key) -> Vec<Key> {
        let tasks = self.run.dag().tasks;
        let node = &tasks[key.task as usize];
        let of = |&above: &u32| match tasks[above as usize].map == node.map {
            true => vec![key.beside(above)],
            false => self.run.instances().keys(above).collect(),
        };
        node.upstream.iter().chain(self.run.scopes.above(key.task)).flat_map(of).collect()
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
            // What is queued stays so, also where something above it is taken back.
            _ if self.meddled => {}
            // A teardown waits for what its setups are for, however that ends.
            TriggerRule::AllSuccess if node.role == Role::Teardown => {
                assert!(upstreams.iter().all(|s| s.is_some_and(State::is_final)));
            }
            TriggerRule::AllSuccess => assert!(upstreams.iter().all(|s| *s == Some(State::Success))),
            TriggerRule::Always | TriggerRule::OneSuccess | TriggerRule::OneFailed | TriggerRule::OneDone => {
            }
            _ => assert!(upstreams.iter().all(|s| s.is_some_and(State::is_final))),
        }
        if let Some(gate) = node.gate {
            let by = [key.beside(gate.task), Key::plain(gate.task)];
            let by = by.map(|by| self.run.instances().get(by).and_then(|instance| instance.state));
            assert!(self.meddled || by.contains(&Some(State::Success)), "{key:?} runs before its gate");
        }
        assert!(self.meddled || self.kept_out(key).is_none());
        assert!(!self.run.waits_for_past(key.task), "{key:?} runs before its past");
        let Instance { try_number, tries_before, .. } = self.instance(key);
        assert!((tries_before + 1..=tries_before + node.options.retries + 1).contains(&try_number));
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
        let recorded = self.run.recorded().into_iter().filter_map(|(key, instance)| {
            let Instance { state, try_number, tries_before, interruptions, outcome, .. } = instance;
            let only_ready = state == Some(State::Queued) && !self.started.contains(&(key, try_number));
            // Whoever marks or clears a task alone leaves what is ready behind it: that does not follow from the rest.
            let recorded = match only_ready && !self.torn && instance.tries() == 1 && !queued {
                true => Instance::recorded(None, tries_before, tries_before, 0, None),
                false => Instance::recorded(state, try_number, tries_before, interruptions, outcome),
            };
            (recorded != Instance::default()).then_some((key, recorded))
        });
        let mut run = Run::restore(self.run.dag(), self.start, self.run.standing(), recorded);
        let mut commands = vec![];
        let unchanged = run.instances.clone();
        run.step(Event::Begin, &mut commands).unwrap();
        assert!(!queued || run.instances == unchanged);
        for &task in &self.let_go {
            run.step(Event::Past(task), &mut commands).unwrap();
        }
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
        assert_eq!(restored.former, self.run.former);
        assert_eq!(restored.held, self.run.held);
        assert_eq!(restored.standing(), self.run.standing());
        self.run = restored;
    }

    /// Does as an operator might: clears, marks or stops something.
    fn meddle(&mut self, choice: u8) {
        let all: Vec<Key> = self.keys().collect();
        let Some(&key) = all.get(usize::from(choice / 8) * 7 % all.len().max(1)) else { return };
        match choice % 8 {
            what @ 0..=2 => {
                self.torn = true;
                self.clear(&match what {
                    0 => vec![key],
                    1 => self.run.whole_calls(&self.run.with_setups(&[key])),
                    _ => self.run.failed(),
                });
            }
            3 | 4 => {
                self.clear(&self.run.following(&[key]));
            }
            5 | 6 => {
                let mark = if choice % 8 == 5 { Mark::Success } else { Mark::Failed };
                let before = self.run.instances.clone();
                let mut commands = vec![];
                match self.run.step(Event::Mark(key, mark), &mut commands) {
                    Ok(()) => {
                        (self.meddled, self.torn) = (true, true);
                        self.take(commands);
                        assert_eq!(self.state(key), Some(mark.end()));
                    }
                    Err(_) => assert_eq!((&self.run.instances, commands.len()), (&before, 0)),
                }
            }
            _ => {
                let stop = if choice & 8 == 0 { Stop::Cancelled } else { Stop::TimedOut };
                let ended = self.ended;
                self.feed(Event::Stop(stop));
                let tasks = self.run.dag().tasks;
                let is_left = |key: &&Key| !self.state(**key).is_some_and(State::is_final);
                let left: Vec<_> = self.keys().collect();
                let left = left.iter().filter(is_left).map(|key| tasks[key.task as usize].role);
                match stop {
                    Stop::Cancelled => assert!(left.into_iter().all(|role| role == Role::Teardown)),
                    Stop::TimedOut => assert_eq!(self.ended, ended.or(Some(RunState::Failed))),
                }
            }
        }
    }

    /// As [`Driver::drive`], with an operator who meddles at each of these choices, and after each end.
    pub(super) fn drive_with(&mut self, choices: &[u8], meddling: &[(u8, u8)]) {
        for &(steps, choice) in meddling {
            let from = usize::from(steps) % choices.len();
            self.steps(&choices[from..], usize::from(steps));
            self.meddle(choice);
            self.crash();
        }
        self.drive(choices);
    }

    pub(super) fn drive(&mut self, choices: &[u8]) {
        self.steps(choices, 100_000);
        assert!(self.ended.is_some(), "the run does not end");
    }

    /// Goes on for so many steps.
    fn steps(&mut self, choices: &[u8], steps: usize) {
        let mut choices = choices.iter().copied().cycle();
        for round in 0..steps {
            let choice = choices.next().unwrap_or(0);
            // After the choices are used up for a while, everything succeeds.
            let ending = if round > 300 { 7 } else { choice.rotate_left(3) };
            let all = 0..self.run.dag().tasks.len() as u32;
            let held: Vec<u32> = all.filter(|&task| self.run.waits_for_past(task)).collect();
            let open = [self.queued.len(), self.running.len(), self.waiting.len(), held.len()];
            if self.ended.is_some() {
                break;
            }
            let pick = (0..4).map(|n| (n + choice as usize) % 4).find(|&n| open[n] > 0).expect("a way on");
            let at = choice as usize % open[pick];
            match pick {
                0 => self.start(at),
                1 => self.end(at, ending),
                2 => {
                    let key = self.waiting[at];
                    self.feed(Event::Due(key));
                }
                _ => self.feed(Event::Past(held[at])),
            }
            if choice % 16 == 9 {
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
                _ if self.meddled => {}
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
        match self.run.standing().stopped {
            Some(_) => assert_eq!(self.ended, Some(RunState::Failed)),
            // What is marked after the end does not change it.
            None if self.meddled => assert!(self.ended.is_some()),
            None => assert_eq!(self.ended, Some(if failed { RunState::Failed } else { RunState::Success })),
        }
    }
}

fn all_success(node: &crate::dag::Task) -> bool {
    node.options.trigger_rule == TriggerRule::AllSuccess
}
