//! The DAGs of this program: what is remembered of each, and which of its runs wait to begin.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::schedule::Timetable;
use crate::store::{BackfillRecord, DagRecord, RunRecord, RunType};
use crate::task::Definition;

/// How many scheduled runs of a DAG are under way at once, where it does not say. What somebody
/// triggers has no such limit: a run that waits is a row, and costs nothing.
const SCHEDULED_AT_ONCE: usize = 16;

/// The runs that wait to begin: that of the earliest moment first.
type Queue = BTreeSet<(DateTime<Utc>, i64)>;

/// A DAG of this program.
#[derive(Debug)]
pub(super) struct DagState {
    pub(super) definition: &'static Definition,
    /// The fingerprint of its structure.
    pub(super) version: String,
    /// Whether the structure is in the database.
    pub(super) known: bool,
    pub(super) record: DagRecord,
    /// Where it runs by itself.
    pub(super) timetable: Option<Timetable>,
    /// When its ticks are looked at next.
    pub(super) look: Option<DateTime<Utc>>,
    /// Whether there has been a scheduled run; known of `@once`, which asks.
    pub(super) has_ticked: bool,
    /// Its scheduled runs that wait until somebody decides.
    held: HashSet<i64>,
    scheduled: Lane,
    manual: Lane,
    backfill: Option<(BackfillRecord, Lane)>,
}

/// Runs that share a limit.
#[derive(Debug, Default)]
struct Lane {
    queued: Queue,
    active: usize,
}

/// Which runs share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scheduled,
    Manual,
    Backfill,
}

impl DagState {
    /// A run of a backfill that is over, and was cleared, is one that somebody has asked for.
    fn kind(&self, run_type: RunType, backfill: Option<i64>) -> Kind {
        let is_of_backfill = |(record, _): &(BackfillRecord, Lane)| backfill == Some(record.id);
        match run_type {
            RunType::Scheduled => Kind::Scheduled,
            RunType::Backfill if self.backfill.as_ref().is_some_and(is_of_backfill) => Kind::Backfill,
            RunType::Manual | RunType::Backfill => Kind::Manual,
        }
    }

    fn lane(&mut self, run: &RunRecord) -> &mut Lane {
        match (self.kind(run.run_type, run.backfill), &mut self.backfill) {
            (Kind::Backfill, Some((_, lane))) => lane,
            (Kind::Scheduled, _) => &mut self.scheduled,
            (Kind::Manual | Kind::Backfill, _) => &mut self.manual,
        }
    }

    /// Takes in a run that waits to begin.
    pub(super) fn queue(&mut self, run: &RunRecord) {
        let place = (run.logical_date, run.number);
        self.lane(run).queued.insert(place);
    }

    /// A run does not wait any more.
    pub(super) fn forget(&mut self, run: &RunRecord) {
        let place = (run.logical_date, run.number);
        self.lane(run).queued.remove(&place);
        self.held.remove(&run.number);
    }

    /// A run waits until somebody decides.
    pub(super) fn hold(&mut self, run: &RunRecord) {
        self.forget(run);
        if run.run_type == RunType::Scheduled {
            self.held.insert(run.number);
        }
    }

    /// A run is under way.
    pub(super) fn began(&mut self, run: &RunRecord) {
        self.forget(run);
        self.lane(run).active += 1;
    }

    /// A run has ended.
    pub(super) fn ended(&mut self, run: &RunRecord) {
        let lane = self.lane(run);
        lane.active = lane.active.saturating_sub(1);
    }

    /// Whether a new run may begin at once: there is room, and nobody waits for it.
    pub(super) fn may_begin(&self, run_type: RunType, backfill: Option<i64>) -> bool {
        let kind = self.kind(run_type, backfill);
        let waits = match (kind, &self.backfill) {
            (Kind::Scheduled, _) => !self.scheduled.queued.is_empty(),
            (Kind::Backfill, Some((_, lane))) => !lane.queued.is_empty(),
            (Kind::Manual | Kind::Backfill, _) => !self.manual.queued.is_empty(),
        };
        !waits && self.has_room(kind)
    }

    fn has_room(&self, kind: Kind) -> bool {
        if self.record.paused {
            return false;
        }
        let (scheduled, manual) = (self.scheduled.active, self.manual.active);
        match (kind, &self.backfill, self.definition.dag.max_active_runs) {
            (Kind::Backfill, Some((backfill, lane)), _) => lane.active < backfill.max_active_runs as usize,
            (_, _, Some(limit)) => scheduled + manual < limit as usize,
            (Kind::Scheduled, _, None) => scheduled < SCHEDULED_AT_ONCE,
            (Kind::Manual | Kind::Backfill, _, None) => true,
        }
    }

    /// The next of its runs that may begin.
    pub(super) fn next(&self) -> Option<i64> {
        let manual = self.manual.queued.first().filter(|_| self.has_room(Kind::Manual));
        let scheduled = self.scheduled.queued.first().filter(|_| self.has_room(Kind::Scheduled));
        let backfill = self.backfill.as_ref().and_then(|(_, lane)| lane.queued.first());
        let backfill = backfill.filter(|_| self.has_room(Kind::Backfill));
        // What somebody waits for goes before what was missed long ago.
        manual.or(scheduled).or(backfill).map(|&(_, number)| number)
    }

    /// Whether a scheduled run is under way, waits to begin, or is held.
    pub(super) fn is_scheduled_busy(&self) -> bool {
        self.scheduled.active > 0 || !self.scheduled.queued.is_empty() || !self.held.is_empty()
    }

    /// Begins a backfill, whose runs are taken in by [`DagState::queue`].
    pub(super) fn begin_backfill(&mut self, record: BackfillRecord) {
        self.backfill = Some((record, Lane::default()));
    }

    /// The backfill that is under way.
    pub(super) fn backfill(&self) -> Option<&BackfillRecord> {
        self.backfill.as_ref().map(|(record, _)| record)
    }

    /// The backfill, where the last of its runs has ended.
    pub(super) fn end_backfill(&mut self) -> Option<BackfillRecord> {
        let (_, lane) = self.backfill.as_ref()?;
        match lane.active == 0 && lane.queued.is_empty() {
            true => self.backfill.take().map(|(record, _)| record),
            false => None,
        }
    }
}

/// All of them, in the order of the program.
#[derive(Debug)]
pub(super) struct Dags {
    all: Vec<DagState>,
    by_id: HashMap<&'static str, usize>,
}

impl Dags {
    pub(super) fn new(definitions: &[&'static Definition], remembered: Vec<DagRecord>) -> Self {
        let mut remembered: HashMap<_, _> =
            remembered.into_iter().map(|record| (record.dag_id.clone(), record)).collect();
        let all = definitions.iter().map(|definition| {
            let dag_id = definition.dag.dag_id;
            let record = remembered.remove(dag_id).unwrap_or_else(|| DagRecord {
                dag_id: dag_id.to_owned(),
                paused: false,
                schedule: None,
                schedule_since: None,
                ticked: None,
            });
            DagState {
                definition,
                version: definition.dag.version(),
                known: false,
                record,
                timetable: None,
                look: None,
                has_ticked: false,
                held: HashSet::new(),
                scheduled: Lane::default(),
                manual: Lane::default(),
                backfill: None,
            }
        });
        let by_id =
            (0..).zip(definitions).map(|(place, definition)| (definition.dag.dag_id, place)).collect();
        Self { all: all.collect(), by_id }
    }

    pub(super) fn place(&self, dag_id: &str) -> Option<usize> {
        self.by_id.get(dag_id).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

impl std::ops::Index<usize> for Dags {
    type Output = DagState;

    fn index(&self, place: usize) -> &DagState {
        &self.all[place]
    }
}

impl std::ops::IndexMut<usize> for Dags {
    fn index_mut(&mut self, place: usize) -> &mut DagState {
        &mut self.all[place]
    }
}
