//! How a process begins and ends: by a crash, a loss of power, or a drain.

use tokio::sync::oneshot::error::TryRecvError;

use super::drive::Simulation;
use super::machine::Process;
use super::power::{Power, Unsynced};
use crate::config::Durability;
use crate::engine::Mode;
use crate::engine::core::Phase;
use crate::engine::message::Message;
use crate::engine::waiter::Plan;
use crate::run::State;

impl Simulation {
    /// Starts the process, in whichever way it is started.
    pub(super) fn open(&mut self) -> Result<(), String> {
        self.mode = if self.world.goes_wrong(10) { Mode::Orders } else { Mode::Serve };
        self.say(|this| format!("starts as {:?}", this.mode));
        if self.mode == Mode::Orders {
            self.see("a process that only takes orders");
        }
        self.looker = Plan::new(self.machine.s3_rate(), self.machine.clock().instant());
        let process = self.machine.start(self.mode);
        if self.faults.power > 0 {
            self.power.on(self.machine.database(), &self.ledger);
        }
        self.process = Some(process);
        self.hear(None)
    }

    /// The process dies before this part of its turn.
    pub(super) fn crash(&mut self, before: Phase) -> Result<(), String> {
        self.say(|_| format!("dies before {before:?}"));
        self.see(match before {
            Phase::Decide => "a death before it decides",
            Phase::Commit => "a death before a commit",
            Phase::Release => "a death behind a commit",
            Phase::LookAfter => "a death behind a release",
        });
        self.die()
    }

    /// The process dies while it lets begin what was committed: some of it has begun.
    pub(super) fn crash_in_release(&mut self) -> Result<(), String> {
        let Some(Process { core, mailbox, .. }) = &mut self.process else { return Ok(()) };
        let all = core.effects.len() as u64;
        core.effects.truncate(self.world.random.below(all + 1) as usize);
        core.phase(Phase::Release, mailbox).map_err(|error| error.to_string())?;
        self.hear(Some(Phase::Release))?;
        self.say(|_| "dies in Release".to_owned());
        self.see("a death while it releases");
        self.die()
    }

    fn die(&mut self) -> Result<(), String> {
        // What was acknowledged before has to be there.
        self.hear_answers(true, Some(Phase::Release))?;
        let dark = self.world.random.chance(self.faults.power);
        let killed = dark || self.world.random.chance(50);
        let disk = killed.then(|| Power::disk(self.machine.database()));
        self.process = None;
        if let Some(disk) = disk.as_ref().filter(|disk| !dark && disk.is_short()) {
            // Who is killed closes nothing: who comes next finds the log.
            disk.put_back(self.machine.database());
            self.see("a death that leaves a log");
        }
        if let Some(disk) = disk.filter(|_| dark) {
            self.say(|_| "and the power is gone".to_owned());
            let left = self.power.off(self.machine.database(), disk, &mut self.world.random);
            let left = left.unwrap_or_default();
            let lost = left.events != self.ledger.events;
            self.see(if lost { "a loss of power that takes commits with it" } else { "a loss of power" });
            self.ledger = left;
            self.dark |= self.machine.durability() != Durability::Step;
            for number in self.acknowledged.keys() {
                if !self.ledger.runs.contains_key(number) {
                    return Err(format!("run {number} was acknowledged, and is gone with the power"));
                }
            }
            for (number, ends) in &self.told {
                if self.ledger.ends.get(number).is_none_or(|left| left < ends) {
                    return Err(format!("the end of run {number} was told, and is gone with the power"));
                }
            }
        }
        self.gone()?;
        self.ledger.crash();
        Ok(())
    }

    /// There is no process any more.
    pub(super) fn gone(&mut self) -> Result<(), String> {
        let unheard = self.machine.noted.take().len();
        if unheard > 0 {
            return Err(format!("{unheard} wishes were noted while nobody was to have any"));
        }
        // Who was waiting for an end asks again.
        self.handles.clear();
        self.unsynced = Unsynced::default();
        self.working.clear();
        self.ended.clear();
        self.world.crash();
        self.asked.clear();
        self.compare_with_rows()
    }

    pub(super) fn dies(&mut self) -> bool {
        let crashes = self.faults.crashes;
        !self.world.calm && self.world.random.below(1000) < crashes
    }

    /// Stops as one who is asked to, and starts again.
    pub(super) fn drain(&mut self) -> Result<(), String> {
        self.say(|_| "is drained".to_owned());
        let (reply, mut drained) = tokio::sync::oneshot::channel();
        self.post(Message::Drain { reply });
        // It has no end of its own: what runs comes to its end.
        for _ in 0..20_000 {
            let before = self.process.is_some();
            let calm = std::mem::replace(&mut self.faults.drains, 0);
            self.round()?;
            self.faults.drains = calm;
            if !before || self.process.is_none() {
                return Ok(());
            }
            match drained.try_recv() {
                Ok(()) => {
                    if let Some(number) =
                        self.working.iter().find(|(_, working)| !working.cut).map(|(n, _)| n)
                    {
                        return Err(format!("attempt {number} is under way after the drain"));
                    }
                    let runs = self.ledger.tasks.iter().find(|(name, task)| {
                        task.state == Some(State::Running) && !self.ledger.cut_off.contains(*name)
                    });
                    if let Some((name, _)) = runs {
                        return Err(format!("{name:?} runs after the drain"));
                    }
                    self.see("a drain");
                    // Who stops drops what nobody has taken.
                    self.process = None;
                    return self.gone();
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => return Err("the drain was never answered".to_owned()),
            }
        }
        Err("it is never drained".to_owned())
    }
}
