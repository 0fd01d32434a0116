//! What Airflow itself decides, held against `run`: `tests/oracle/airflow_states.txt`, which
//! `airflow_states.py` beside it makes and explains.

use super::plan::{Draft, branch, list, task};
use super::*;
use TriggerRule::*;

const RULES: [TriggerRule; 13] = [
    AllSuccess,
    AllFailed,
    AllDone,
    AllDoneMinOneSuccess,
    AllSkipped,
    OneSuccess,
    OneFailed,
    OneDone,
    NoneFailed,
    NoneFailedMinOneSuccess,
    NoneSkipped,
    AllDoneSetupSuccess,
    Always,
];

fn number<N: std::str::FromStr>(text: &str) -> N {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// `wA1<0,2?3.1`.
fn draft(text: &str) -> Draft {
    let (text, gate) = text.split_once('?').map_or((text, None), |(text, gate)| (text, Some(gate)));
    let (text, upstream) = text.split_once('<').map_or((text, None), |(text, up)| (text, Some(up)));
    let upstream: Vec<u32> = upstream.into_iter().flat_map(|up| up.split(',')).map(number).collect();
    let options = text.find(|c: char| c.is_ascii_uppercase()).unwrap();
    let (kind, arms) = text[..options].split_at(1);
    let made = match kind {
        "b" => branch(&upstream, number(arms)),
        "l" => list(&upstream),
        "s" => task(&upstream).role(Role::Setup),
        "t" => task(&upstream).role(Role::Teardown),
        _ => task(&upstream),
    };
    let rule = RULES[usize::from(text.as_bytes()[options] - b'A')];
    let made = made.rule(rule).retries(number(&text[options + 1..]));
    match gate.and_then(|gate| gate.split_once('.')) {
        Some((gate, arm)) => made.arm(number(gate), number(arm)),
        None => made,
    }
}

struct Replay {
    run: Run,
    /// By task, the letters of its instances in Airflow.
    told: Vec<String>,
    told_run: RunState,
}

impl Replay {
    /// Plays a scenario; answers what first went otherwise than in Airflow.
    fn play(scenario: &str) -> Result<(), String> {
        let is_task = |part: &&str| part.starts_with(|c: char| c.is_ascii_lowercase());
        let drafts = scenario.split(' ').take_while(is_task).map(draft);
        let run = Run::new(dag(drafts), Start::default());
        let told = vec!["N".to_owned(); run.dag().tasks.len()];
        let mut replay = Self { run, told, told_run: RunState::Running };
        for part in scenario.split(' ').skip_while(is_task) {
            replay.part(part).map_err(|what| format!("{scenario}\n    at {part}: {what}"))?;
        }
        Ok(())
    }

    fn part(&mut self, part: &str) -> Result<(), String> {
        if let Some(tries) = part.strip_prefix('#') {
            return self.compare_tries(tries);
        }
        let action = part.find([':', '/']).unwrap_or(part.len());
        let (action, after) = part.split_at(action);
        let (states, run) = after.split_once('/').unwrap_or((after, ""));
        self.act(action)?;
        let mut states = states.trim_start_matches(':');
        while !states.is_empty() {
            let letters = states.find(char::is_alphabetic).unwrap();
            let task: usize = number(&states[..letters]);
            let end = states[letters..].find(|c: char| c.is_ascii_digit());
            let end = end.map_or(states.len(), |end| letters + end);
            self.told[task] = states[letters..end].to_owned();
            states = &states[end..];
        }
        match run {
            "s" => self.told_run = RunState::Success,
            "f" => self.told_run = RunState::Failed,
            "r" => self.told_run = RunState::Running,
            _ => {}
        }
        self.compare()
    }

    fn act(&mut self, action: &str) -> Result<(), String> {
        let mut commands = vec![];
        let key = |text: &str| match text.split_once('.') {
            Some((task, index)) => Key { task: number(task), map_index: number(index) },
            None => Key::plain(number(text)),
        };
        let mut step = |event| self.run.step(event, &mut commands).map_err(|misfit| misfit.to_string());
        if action.is_empty() {
            step(Event::Begin)
        } else if let Some(keys) = action.strip_prefix('!') {
            // Where one of the two has instances for the items and the other one for all, it means all.
            let all = |key: Key| -> Vec<Key> {
                if self.run.has(key) { vec![key] } else { self.run.instances().keys(key.task).collect() }
            };
            let keys: Vec<Key> = keys.split(',').map(key).flat_map(all).collect();
            self.run.clear(&keys, &mut commands);
            Ok(())
        } else if let Some(task) = action.strip_prefix('+') {
            step(Event::Mark(key(task), Mark::Success))
        } else if let Some(task) = action.strip_prefix('-') {
            step(Event::Mark(key(task), Mark::Failed))
        } else {
            let (task, how) = action.trim_start_matches('.').split_once('=').unwrap();
            let key = key(task);
            let (letter, meaning) = how.split_at(1);
            step(Event::Started(key))?;
            step(Event::Ended(
                key,
                match letter {
                    "F" => Ending::Failed(Retry::AsConfigured),
                    "K" => Ending::Skipped,
                    "C" => Ending::Chosen(number(meaning)),
                    "M" => Ending::Mapped(number(meaning)),
                    _ => Ending::Success,
                },
            ))?;
            match self.run.instances().get(key).and_then(|instance| instance.state) {
                // There, the delay is none.
                Some(State::UpForRetry) => self.run.step(Event::Due(key), &mut vec![]),
                _ => Ok(()),
            }
            .map_err(|misfit| misfit.to_string())
        }
    }

    fn letters(&self, task: u32) -> String {
        let letter = |instance: &Instance| match instance.state {
            None => 'N',
            Some(State::Queued) => 'q',
            Some(State::Success) => 'S',
            Some(State::Failed) => 'F',
            Some(State::Skipped) => 'K',
            Some(State::UpstreamFailed) => 'U',
            Some(_) => '?',
        };
        self.run.instances().of(task).iter().map(letter).collect()
    }

    fn compare(&self) -> Result<(), String> {
        for (task, told) in (0..).zip(&self.told) {
            let ours = self.letters(task);
            // In Airflow, a loop has its instances only once its tasks may run, and keeps them when its
            // list is cleared: until then, one stands for all.
            let one = |letters: &str| letters.chars().all(|letter| letters.starts_with(letter));
            let same = match ours.len() == told.len() {
                true => ours == *told,
                false => one(&ours) && one(told) && ours[..1] == told[..1],
            };
            if !same {
                return Err(format!("task {task} is {ours}, in Airflow {told}"));
            }
        }
        match self.run.state() == self.told_run {
            true => Ok(()),
            false => Err(format!("the run is {}, in Airflow {}", self.run.state(), self.told_run)),
        }
    }

    fn compare_tries(&self, told: &str) -> Result<(), String> {
        for (task, told) in (0..).zip(told.split(';')) {
            let ours: Vec<u32> = self.run.instances().of(task).iter().map(|i| i.try_number).collect();
            let told: Vec<u32> = told.split(',').map(number).collect();
            // Where one stands for all of a loop, it has had no tries itself.
            let one =
                self.run.dag().tasks[task as usize].map.is_some() && self.run.instances().mapped(task) == 0;
            if ours.len() == told.len() && ours != told && !one {
                return Err(format!("task {task} had {ours:?} tries, in Airflow {told:?}"));
            }
        }
        Ok(())
    }
}

#[test]
fn every_scenario_goes_as_in_airflow() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracle/airflow_states.txt");
    let scenarios = std::fs::read_to_string(path).unwrap();
    let wrong: Vec<_> = scenarios.lines().filter_map(|line| Replay::play(line).err()).collect();
    assert!(wrong.is_empty(), "{} scenarios:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    assert!(scenarios.lines().count() >= 2000);
}
