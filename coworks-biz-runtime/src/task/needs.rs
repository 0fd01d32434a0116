//! What the tasks of a business service need from where they run.

use std::collections::{BTreeSet, HashSet};

use super::{Body, Definition, Member};
use crate::config::{Directory, Secrets};
use crate::dag::Task;
use crate::tech::{Address, Call, Given, Token};

/// Something that a run would need and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The line of the task that needs it, or of the service.
    pub line: u32,
    /// What is missing, and where to put it.
    pub text: String,
}

impl Definition {
    /// Its calls, each once, with the task that sends it.
    pub fn calls(&self) -> impl Iterator<Item = (&'static Task, &'static Call)> {
        self.dag.tasks.iter().zip(self.bodies).filter_map(|(task, body)| match body {
            Body::Call { call, .. } => Some((task, *call)),
            Body::Group { member: Member::Submit, call, .. } => Some((task, &call.call)),
            Body::Sensor { call, .. } => Some((task, &call.call)),
            Body::Function(_)
            | Body::Group { .. }
            | Body::Trigger { .. }
            | Body::Branch(_)
            | Body::Map(_)
            | Body::Join { .. } => None,
        })
    }

    /// The names of the services that its calls are of.
    pub fn services(&self) -> BTreeSet<String> {
        // The user's code; where it panics, [`Definition::missing`] says so.
        let name = |call: &'static Call| std::panic::catch_unwind(|| call.service.name()).ok();
        self.calls().filter_map(|(_, call)| name(call)).collect()
    }

    /// The business services that its tasks trigger, each with the task that does.
    pub fn triggers(&self) -> impl Iterator<Item = (&'static Task, &'static Definition)> {
        self.dag.tasks.iter().zip(self.bodies).filter_map(|(task, body)| match body {
            Body::Trigger { call, .. } => Some((task, (call.definition)())),
            _ => None,
        })
    }

    /// The secrets, the variables and the directory that its calls are known to need and that are
    /// not there, each once.
    pub fn missing(&self, secrets: &Secrets, has_directory: bool) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut told = HashSet::new();
        let mut tell = |line, text: Option<String>| match text {
            Some(text) if told.insert(text.clone()) => missing.push(Missing { line, text }),
            _ => {}
        };
        let secret = |name| secrets.get(name).err().map(|missing| missing.to_string());
        let variable = |name| secrets.variable(name).err().map(|missing| missing.to_string());
        for (task, call) in self.calls() {
            // The user's code, here on a thread that must not die of it.
            let Ok(profile) = std::panic::catch_unwind(|| call.service.profile()) else {
                tell(task.line, Some(format!("the code of the service of `{}` panicked", task.task_id)));
                continue;
            };
            let token = profile.token.filter(|_| matches!(call.token, Token::OfService));
            for given in profile.headers.iter().map(|(_, given)| given).chain(&token) {
                tell(
                    task.line,
                    match given {
                        Given::Secret(name) => secret(name.name()),
                        Given::Variable(name) => variable(name.name()),
                        Given::Text(_) | Given::Hidden(_) => None,
                    },
                );
            }
            if let Token::Secret(name) = call.token {
                tell(task.line, secret(name));
            }
            if let (Address::Named { .. }, false) = (&profile.address, has_directory) {
                let how = Directory::HOW;
                let text = format!("services are called by name, and no directory is configured: {how}");
                tell(task.line, Some(text));
            }
        }
        let line = self.dag.source.line;
        self.required.secrets.iter().for_each(|name| tell(line, secret(name)));
        self.required.variables.iter().for_each(|name| tell(line, variable(name)));
        missing
    }

    /// The secrets and variables that its functions ask for and that are not there. They may do
    /// without, so that nothing is refused for it.
    pub fn unanswered(&self, secrets: &Secrets) -> Vec<Missing> {
        let secret = |name: &&str| secrets.get(name).err().map(|missing| missing.to_string());
        let variable = |name: &&str| secrets.variable(name).err().map(|missing| missing.to_string());
        let asked = self.asked.secrets.iter().filter_map(secret);
        let asked = asked.chain(self.asked.variables.iter().filter_map(variable));
        asked.map(|text| Missing { line: self.dag.source.line, text }).collect()
    }
}
