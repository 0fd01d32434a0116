//! Trigger rules: what the ends of its upstreams mean for a task.

use super::State;
use crate::dag::TriggerRule;

/// How many upstreams of a task have ended, by their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    success: u32,
    failed: u32,
    upstream_failed: u32,
    skipped: u32,
    removed: u32,
}

impl Tally {
    /// Counts one more end.
    pub(super) fn count(&mut self, end: State) {
        match end {
            State::Success => self.success += 1,
            State::Failed => self.failed += 1,
            State::UpstreamFailed => self.upstream_failed += 1,
            State::Skipped => self.skipped += 1,
            State::Removed => self.removed += 1,
            State::Queued | State::Running | State::UpForRetry | State::UpForReschedule => {
                unreachable!("{end} is no end")
            }
        }
    }

    fn done(self) -> u32 {
        self.success + self.failures() + self.skipped + self.removed
    }

    fn failures(self) -> u32 {
        self.failed + self.upstream_failed
    }
}

/// What a rule says to a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Not yet known.
    Wait,
    /// The task runs.
    Run,
    /// The task ends without running.
    End(State),
}

/// Decides for a task with `upstreams` upstreams. The first matching line of a
/// rule counts, as in Airflow: a failure above shows as soon as it is certain.
pub(super) fn decide(rule: TriggerRule, tally: Tally, upstreams: u32) -> Decision {
    use Decision::{End, Run, Wait};
    const SKIP: Decision = End(State::Skipped);
    const BLOCK: Decision = End(State::UpstreamFailed);

    let all_done = tally.done() >= upstreams;
    let failures = tally.failures() > 0;
    if upstreams == 0 {
        return Run;
    }
    match rule {
        TriggerRule::Always => Run,
        TriggerRule::AllSuccess => match tally {
            _ if failures => BLOCK,
            _ if tally.skipped > 0 => SKIP,
            _ if tally.success == upstreams => Run,
            // A removed upstream gave nothing, and nothing is what its reader cannot take.
            _ if all_done => BLOCK,
            _ => Wait,
        },
        TriggerRule::AllFailed => match tally {
            _ if tally.success > 0 || tally.skipped > 0 => SKIP,
            _ if tally.failures() == upstreams => Run,
            _ if all_done => SKIP,
            _ => Wait,
        },
        TriggerRule::AllDone if all_done => Run,
        TriggerRule::AllDoneMinOneSuccess => match tally {
            _ if tally.skipped > 0 => SKIP,
            _ if all_done && tally.success == 0 => BLOCK,
            _ if all_done => Run,
            _ => Wait,
        },
        TriggerRule::AllSkipped => match tally {
            _ if tally.success > 0 || failures => SKIP,
            _ if tally.skipped == upstreams => Run,
            _ if all_done => SKIP,
            _ => Wait,
        },
        TriggerRule::OneSuccess => match tally {
            _ if tally.success > 0 => Run,
            _ if tally.skipped == upstreams => SKIP,
            _ if all_done => BLOCK,
            _ => Wait,
        },
        TriggerRule::OneFailed => match tally {
            _ if failures => Run,
            _ if all_done => SKIP,
            _ => Wait,
        },
        TriggerRule::OneDone => match tally {
            _ if tally.success > 0 || tally.failed > 0 => Run,
            _ if all_done => SKIP,
            _ => Wait,
        },
        TriggerRule::NoneFailed => match tally {
            _ if failures => BLOCK,
            _ if all_done => Run,
            _ => Wait,
        },
        TriggerRule::NoneFailedMinOneSuccess => match tally {
            _ if failures => BLOCK,
            _ if tally.skipped == upstreams => SKIP,
            _ if all_done => Run,
            _ => Wait,
        },
        TriggerRule::NoneSkipped => match tally {
            _ if tally.skipped > 0 => SKIP,
            _ if all_done => Run,
            _ => Wait,
        },
        TriggerRule::AllDone => Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{End, Run, Wait};

    /// `s` success, `f` failed, `u` upstream_failed, `k` skipped, of three upstreams.
    fn of_three(rule: TriggerRule, ends: &str) -> Decision {
        let mut tally = Tally::default();
        for end in ends.chars() {
            tally.count(match end {
                's' => State::Success,
                'f' => State::Failed,
                'u' => State::UpstreamFailed,
                'k' => State::Skipped,
                _ => unreachable!(),
            });
        }
        decide(rule, tally, 3)
    }

    #[test]
    fn every_rule_on_telling_tallies() {
        let skip = End(State::Skipped);
        let block = End(State::UpstreamFailed);
        #[rustfmt::skip]
        let table = [
            // rule                               ""    "s"   "f"    "k"   "sss" "sfk"  "kkk" "fuf" "ssk"
            (TriggerRule::AllSuccess,             [Wait, Wait, block, skip, Run,  block, skip, block, skip]),
            (TriggerRule::AllFailed,              [Wait, skip, Wait,  skip, skip, skip,  skip, Run,   skip]),
            (TriggerRule::AllDone,                [Wait, Wait, Wait,  Wait, Run,  Run,   Run,  Run,   Run]),
            (TriggerRule::AllDoneMinOneSuccess,   [Wait, Wait, Wait,  skip, Run,  skip,  skip, block, skip]),
            (TriggerRule::AllSkipped,             [Wait, skip, skip,  Wait, skip, skip,  Run,  skip,  skip]),
            (TriggerRule::OneSuccess,             [Wait, Run,  Wait,  Wait, Run,  Run,   skip, block, Run]),
            (TriggerRule::OneFailed,              [Wait, Wait, Run,   Wait, skip, Run,   skip, Run,   skip]),
            (TriggerRule::OneDone,                [Wait, Run,  Run,   Wait, Run,  Run,   skip, Run,   Run]),
            (TriggerRule::NoneFailed,             [Wait, Wait, block, Wait, Run,  block, Run,  block, Run]),
            (TriggerRule::NoneFailedMinOneSuccess,[Wait, Wait, block, Wait, Run,  block, skip, block, Run]),
            (TriggerRule::NoneSkipped,            [Wait, Wait, Wait,  skip, Run,  skip,  skip, Run,   skip]),
            (TriggerRule::Always,                 [Run,  Run,  Run,   Run,  Run,  Run,   Run,  Run,   Run]),
        ];
        for (rule, expected) in table {
            for (ends, expected) in
                ["", "s", "f", "k", "sss", "sfk", "kkk", "fuf", "ssk"].iter().zip(expected)
            {
                assert_eq!(of_three(rule, ends), expected, "{rule:?} on {ends:?}");
            }
        }
    }

    #[test]
    fn without_upstreams_every_rule_runs() {
        assert_eq!(decide(TriggerRule::OneFailed, Tally::default(), 0), Run);
    }
}
