//! The states of runs and task instances, with Airflow's names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The state of a task instance. One that still waits for its upstreams has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Ready; waits for a slot.
    Queued,
    /// An attempt is under way.
    Running,
    /// Ended well.
    Success,
    /// Ended badly, with no try left.
    Failed,
    /// Not needed in this run.
    Skipped,
    /// Failed, and will be tried again.
    UpForRetry,
    /// Waits for something outside, and holds nothing meanwhile.
    UpForReschedule,
    /// Could not run for a failure above it.
    UpstreamFailed,
    /// No longer part of the DAG.
    Removed,
}

impl State {
    /// Whether it is an end.
    pub fn is_final(self) -> bool {
        match self {
            Self::Success | Self::Failed | Self::Skipped | Self::UpstreamFailed | Self::Removed => true,
            Self::Queued | Self::Running | Self::UpForRetry | Self::UpForReschedule => false,
        }
    }

    /// Whether an attempt has begun and not ended, whether it runs or waits for something outside.
    pub(super) fn is_under_way(self) -> bool {
        matches!(self, Self::Running | Self::UpForReschedule)
    }

    /// Airflow's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::UpForRetry => "up_for_retry",
            Self::UpForReschedule => "up_for_reschedule",
            Self::UpstreamFailed => "upstream_failed",
            Self::Removed => "removed",
        }
    }
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits until it may begin.
    Queued,
    /// Begun, and not ended.
    Running,
    /// Every last task of the DAG has succeeded or was skipped.
    Success,
    /// A last task of the DAG has failed, or could not run.
    Failed,
}

impl RunState {
    /// Whether it is an end.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed)
    }

    /// Airflow's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }
}

/// A word that names no state.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no state")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        [
            Self::Queued,
            Self::Running,
            Self::Success,
            Self::Failed,
            Self::Skipped,
            Self::UpForRetry,
            Self::UpForReschedule,
            Self::UpstreamFailed,
            Self::Removed,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
        .ok_or_else(|| UnknownState(word.to_owned()))
    }
}

impl FromStr for RunState {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        [Self::Queued, Self::Running, Self::Success, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownState(word.to_owned()))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_from_airflows_word_for_it_and_from_no_other() {
        for (state, word) in [
            (State::Queued, "queued"),
            (State::Running, "running"),
            (State::Success, "success"),
            (State::Failed, "failed"),
            (State::Skipped, "skipped"),
            (State::UpForRetry, "up_for_retry"),
            (State::UpForReschedule, "up_for_reschedule"),
            (State::UpstreamFailed, "upstream_failed"),
            (State::Removed, "removed"),
        ] {
            assert_eq!((word.parse::<State>().unwrap(), state.as_str()), (state, word));
            assert_eq!(format!("{state:>20}"), format!("{word:>20}"));
        }
        for (state, word) in [
            (RunState::Queued, "queued"),
            (RunState::Running, "running"),
            (RunState::Success, "success"),
            (RunState::Failed, "failed"),
        ] {
            assert_eq!((word.parse::<RunState>().unwrap(), state.as_str()), (state, word));
            assert_eq!(format!("{state:<10}|"), format!("{word:<10}|"));
        }
        assert_eq!("Queued".parse::<State>().unwrap_err().to_string(), "`Queued` is no state");
        assert_eq!("skipped".parse::<RunState>().unwrap_err().to_string(), "`skipped` is no state");
    }
}
