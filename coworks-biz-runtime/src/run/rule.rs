//! Trigger rules: what the ends of its upstreams mean for a task.

use super::State;
use crate::dag::{Role, TriggerRule};

/// Which ends there are among the upstreams of a task instance, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen(u8);

impl Seen {
    const SUCCESS: Self = Self(1);
    const FAILED: Self = Self(1 << 1);
    const UPSTREAM_FAILED: Self = Self(1 << 2);
    const SKIPPED: Self = Self(1 << 3);
    const REMOVED: Self = Self(1 << 4);
    /// Of the upstreams that are setups, beside the bits above.
    const SETUP_SUCCESS: Self = Self(1 << 5);
    const SETUP_FAILED: Self = Self(1 << 6);
    const SETUP_SKIPPED: Self = Self(1 << 7);

    const FAILURES: Self = Self(Self::FAILED.0 | Self::UPSTREAM_FAILED.0);
    const SETUPS: Self = Self(Self::SETUP_SUCCESS.0 | Self::SETUP_FAILED.0 | Self::SETUP_SKIPPED.0);

    fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

/// What is known of the upstreams of a task instance. No rule asks for more than
/// which ends there are and whether all are there, so that nobody has to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// How many have not ended.
    pub(super) left: u32,
    seen: Seen,
}

impl Tally {
    /// Nothing has ended yet of so many.
    pub(super) fn of(upstreams: usize) -> Self {
        Self { left: upstreams as u32, seen: Seen::default() }
    }

    /// Takes in one more end of an upstream of this role. Answers whether any rule might care.
    pub(super) fn count(&mut self, end: State, role: Role) -> bool {
        let (seen, of_setup) = match end {
            State::Success => (Seen::SUCCESS, Seen::SETUP_SUCCESS),
            State::Failed => (Seen::FAILED, Seen::SETUP_FAILED),
            State::UpstreamFailed => (Seen::UPSTREAM_FAILED, Seen::SETUP_FAILED),
            State::Skipped => (Seen::SKIPPED, Seen::SETUP_SKIPPED),
            State::Removed => (Seen::REMOVED, Seen::SETUP_FAILED),
            State::Queued | State::Running | State::UpForRetry | State::UpForReschedule => {
                unreachable!("{end} is no end")
            }
        };
        let before = self.seen;
        self.seen.0 |= seen.0;
        if role == Role::Setup {
            self.seen.0 |= of_setup.0;
        }
        self.left -= 1;
        self.left == 0 || self.seen != before
    }

    /// The two as one, where an instance has upstreams of its own beside those of all its siblings.
    pub(super) fn with(self, other: Self) -> Self {
        Self { left: self.left + other.left, seen: Seen(self.seen.0 | other.seen.0) }
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

/// Decides for a task. The first matching line of a rule counts, as in Airflow:
/// a failure above shows as soon as it is certain.
pub(super) fn decide(rule: TriggerRule, tally: Tally) -> Decision {
    use Decision::{End, Run, Wait};
    const SKIP: Decision = End(State::Skipped);
    const BLOCK: Decision = End(State::UpstreamFailed);

    let seen = tally.seen;
    let all_done = tally.left == 0;
    let (success, skipped) = (seen.any(Seen::SUCCESS), seen.any(Seen::SKIPPED));
    let (failures, removed) = (seen.any(Seen::FAILURES), seen.any(Seen::REMOVED));
    let all_skipped = all_done && seen.0 & !Seen::SETUPS.0 == Seen::SKIPPED.0;
    if all_done && seen == Seen::default() {
        // There are no upstreams.
        return Run;
    }
    match rule {
        TriggerRule::Always => Run,
        TriggerRule::AllSuccess if failures => BLOCK,
        TriggerRule::AllSuccess if skipped => SKIP,
        TriggerRule::AllFailed if success || skipped => SKIP,
        TriggerRule::AllDoneMinOneSuccess if skipped => SKIP,
        TriggerRule::AllDoneMinOneSuccess if all_done && !success => BLOCK,
        TriggerRule::AllSkipped if success || failures => SKIP,
        // In Airflow it would wait for ever.
        TriggerRule::AllSkipped if all_done && removed => SKIP,
        TriggerRule::OneSuccess if success => Run,
        TriggerRule::OneSuccess if all_skipped => SKIP,
        TriggerRule::OneSuccess if all_done => BLOCK,
        TriggerRule::OneFailed if failures => Run,
        TriggerRule::OneFailed if all_done => SKIP,
        TriggerRule::OneDone if success || seen.any(Seen::FAILED) => Run,
        TriggerRule::OneDone if all_done => SKIP,
        TriggerRule::NoneFailed if failures => BLOCK,
        TriggerRule::NoneFailedMinOneSuccess if failures => BLOCK,
        TriggerRule::NoneFailedMinOneSuccess if all_skipped => SKIP,
        TriggerRule::NoneFailedMinOneSuccess if all_done && !success => BLOCK,
        TriggerRule::NoneSkipped if skipped => SKIP,
        TriggerRule::AllDoneSetupSuccess if all_done && seen.any(Seen::SETUPS) => match seen {
            _ if seen.any(Seen::SETUP_SUCCESS) => Run,
            _ if seen.any(Seen::SETUP_FAILED) => BLOCK,
            _ => SKIP,
        },
        // Nothing speaks against it, and everything is known.
        _ if all_done => Run,
        _ => Wait,
    }
}

/// Decides for a task of this role that is bound to others beside its upstreams: to setups further above,
/// or, where it is a teardown, to all that stands between it and its setups.
pub(super) fn decide_bound(rule: TriggerRule, role: Role, tally: Tally, bound: Tally) -> Decision {
    let seen = bound.seen;
    match role {
        Role::Work | Role::Setup if seen.any(Seen::FAILURES) => Decision::End(State::UpstreamFailed),
        Role::Work | Role::Setup if seen.any(Seen::SKIPPED) => Decision::End(State::Skipped),
        // Its rule may end it meanwhile, not let it run.
        _ => match decide(rule, tally) {
            Decision::Run if bound.left > 0 => Decision::Wait,
            decision => decision,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{End, Run, Wait};

    /// `s` success, `f` failed, `u` upstream_failed, `k` skipped, of three upstreams.
    /// In capitals where the upstream is a setup.
    fn of_three(rule: TriggerRule, ends: &str) -> Decision {
        decide(rule, tally(3, ends))
    }

    fn tally(upstreams: usize, ends: &str) -> Tally {
        let mut tally = Tally::of(upstreams);
        for end in ends.chars() {
            let role = if end.is_uppercase() { Role::Setup } else { Role::Work };
            let end = match end.to_ascii_lowercase() {
                's' => State::Success,
                'f' => State::Failed,
                'u' => State::UpstreamFailed,
                'k' => State::Skipped,
                'r' => State::Removed,
                _ => unreachable!(),
            };
            tally.count(end, role);
        }
        tally
    }

    #[test]
    fn every_rule_on_telling_tallies() {
        let skip = End(State::Skipped);
        let block = End(State::UpstreamFailed);
        #[rustfmt::skip]
        let table = [
            // rule                               ""    "s"   "f"    "k"   "sss" "sfk"  "kkk" "fuf" "ssk"
            (TriggerRule::AllDoneSetupSuccess,    [Wait, Wait, Wait,  Wait, Run,  Run,   Run,  Run,   Run]),
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
    fn one_setup_has_to_succeed_where_there_are_any() {
        let decided = ["fkS", "sFK", "sKU", "sKK", "sK", "FS", "Sfk", "Kkk"]
            .map(|ends| of_three(TriggerRule::AllDoneSetupSuccess, ends));
        let (skip, block) = (End(State::Skipped), End(State::UpstreamFailed));
        assert_eq!(decided, [Run, block, block, skip, Wait, Wait, Run, skip]);
    }

    #[test]
    fn a_setup_that_was_skipped_is_skipped_for_every_rule() {
        assert_eq!(of_three(TriggerRule::OneSuccess, "KKK"), End(State::Skipped));
        assert_eq!(of_three(TriggerRule::NoneFailedMinOneSuccess, "KkK"), End(State::Skipped));
    }

    #[test]
    fn a_removed_upstream_is_asked_for_nothing() {
        assert_eq!(of_three(TriggerRule::AllSuccess, "ssr"), Run);
        assert_eq!(of_three(TriggerRule::AllFailed, "ffr"), Run);
        assert_eq!(of_three(TriggerRule::AllSkipped, "kkr"), End(State::Skipped));
        assert_eq!(of_three(TriggerRule::AllDone, "rrr"), Run);
        assert_eq!(of_three(TriggerRule::NoneFailedMinOneSuccess, "krr"), End(State::UpstreamFailed));
    }

    #[test]
    fn what_two_tallies_have_both_seen_their_sum_has_seen() {
        for (one, other, both) in
            [("f", "f", "ff"), ("sU", "Uk", "sUUk"), ("s", "", "s"), ("ks", "sS", "kssS")]
        {
            let all = tally(5, one).with(tally(3, other));
            assert_eq!(all, tally(8, both), "{one} and {other}");
        }
    }

    #[test]
    fn without_upstreams_every_rule_runs() {
        assert_eq!(decide(TriggerRule::OneFailed, Tally::default()), Run);
    }
}
