//! Random programs: some DAGs of every form, and what limits them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use super::random::Random;
use crate::dag::{Arm, DEFAULT_POOL, Dag, Gate, Kind, Options, Role, Schedule, Task, TriggerRule};
use crate::error::{Error, Result};
use crate::task::{Body, Callbacks, Context, Definition, Member, TriggerCall, Work};
use crate::tech::{AsyncCall, Call, Method, SensorCall, Service, Token};

/// So many programs there are: each stays in memory for good, as a `Definition` is static.
const PROGRAMS: u64 = 1 << 13;

/// When time begins, in seconds since the epoch.
pub(super) const BEGIN: i64 = 1_800_000_000;

/// A program, and how it is set up.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) definitions: Vec<&'static Definition>,
    /// By DAG and task: the DAG that the task triggers.
    pub(super) targets: Vec<BTreeMap<u32, usize>>,
    pub(super) parallelism: usize,
    pub(super) pools: BTreeMap<String, usize>,
    pub(super) concurrency: Option<usize>,
    pub(super) rate: Option<&'static str>,
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { definitions, targets, parallelism, pools, concurrency, rate } = self;
        write!(f, "{parallelism} slots, pools {pools:?}, concurrency {concurrency:?}, rate {rate:?}")?;
        for (definition, targets) in definitions.iter().zip(targets) {
            let dag = definition.dag;
            write!(
                f,
                "\n{} {:?} from {:?} to {:?} catchup {} runs {:?} tasks {:?} timeout {:?} past {}",
                dag.dag_id,
                dag.schedule,
                dag.start_date,
                dag.end_date,
                dag.catchup,
                dag.max_active_runs,
                dag.max_active_tasks,
                dag.dagrun_timeout,
                dag.depends_on_past
            )?;
            for (task, index) in dag.tasks.iter().zip(0..) {
                let Task { task_id, kind, upstream, gate, map, role, options, .. } = task;
                write!(
                    f,
                    "\n  {index} {task_id} {} {upstream:?} {gate:?} {map:?} {role:?} {:?} retries {} every {:?} pool {} tis {:?} {:?}",
                    kind.word(),
                    options.trigger_rule,
                    options.retries,
                    options.retry_delay,
                    options.pool,
                    options.max_active_tis_per_dag,
                    targets.get(&index)
                )?;
            }
        }
        Ok(())
    }
}

/// The program of this seed.
pub(super) fn program(seed: u64) -> &'static Program {
    static ALL: Mutex<Option<HashMap<u64, &'static Program>>> = Mutex::new(None);
    let number = Random::new(seed).next() % PROGRAMS;
    let mut all = ALL.lock().unwrap_or_else(|e| e.into_inner());
    let all = all.get_or_insert_default();
    all.entry(number).or_insert_with(|| Box::leak(Box::new(draw(&mut Random::new(number)))))
}

fn draw(random: &mut Random) -> Program {
    let count = 1 + random.below(3) as usize;
    let drawn: Vec<_> = (0..count).map(|place| draw_dag(random, place, count)).collect();
    let (definitions, targets) = drawn.into_iter().unzip();
    Program {
        definitions,
        targets,
        parallelism: 1 + random.below(6) as usize,
        pools: (0..2).map(|n| (format!("pool{n}"), 1 + random.below(3) as usize)).collect(),
        concurrency: random.chance(40).then(|| 1 + random.below(3) as usize),
        rate: random.chance(20).then_some("30/m"),
    }
}

fn never(_: &Context) -> Result<Work> {
    Err(Error::fatal("nobody runs in a simulation"))
}

const fn call(service: usize) -> Call {
    Call {
        method: Method::Post,
        path: "/",
        service: match service {
            0 => Service::Api { api_id: "one", stage: "dev", region: "eu-west-1" },
            _ => Service::Api { api_id: "two", stage: "dev", region: "eu-west-1" },
        },
        token: Token::None,
        accept: "application/json",
        request_timeout: Duration::from_secs(5),
        log_response: false,
        output: None,
    }
}

const fn group(service: usize, minutes: u64) -> AsyncCall {
    AsyncCall { call: call(service), timeout: Duration::from_secs(60 * minutes), bucket: None, keep: false }
}

const fn sensor(service: usize) -> SensorCall {
    let (poke_interval, timeout) = (Duration::from_secs(20), Duration::from_secs(300));
    SensorCall { call: call(service), poke_interval, timeout, until: None }
}

static CALLS: [Call; 2] = [call(0), call(1)];
pub(super) static GROUPS: [AsyncCall; 3] =
    [group(0, 2), group(1, 15), AsyncCall { keep: true, ..group(1, 5) }];
static SENSORS: [SensorCall; 2] = [sensor(0), sensor(1)];

fn nobody() -> &'static Definition {
    &Definition::EMPTY
}

static TRIGGERS: [TriggerCall; 3] = [
    TriggerCall { definition: nobody, wait_for_completion: false, timeout: None },
    TriggerCall { definition: nobody, wait_for_completion: true, timeout: None },
    TriggerCall { definition: nobody, wait_for_completion: true, timeout: Some(Duration::from_secs(120)) },
];

/// A task before it is known what comes below it.
struct Draft {
    task: Task,
    body: Body,
    /// How many arms, where it is a branch.
    arms: u32,
    options: Options,
}

struct Drafts<'a> {
    random: &'a mut Random,
    all: Vec<Draft>,
    targets: BTreeMap<u32, usize>,
    /// The DAG, and how many there are: those behind it may be triggered.
    place: usize,
    count: usize,
    rules: bool,
    roles: bool,
}

fn draw_dag(random: &mut Random, place: usize, count: usize) -> (&'static Definition, BTreeMap<u32, usize>) {
    let (rules, roles) = (random.chance(50), random.chance(30));
    let mut drafts = Drafts { random, all: Vec::new(), targets: BTreeMap::new(), place, count, rules, roles };
    drafts.scope(2, None, None);
    let Drafts { all, targets, .. } = drafts;
    let mut downstream = vec![Vec::new(); all.len()];
    let mut members = vec![Vec::new(); all.len()];
    for (index, draft) in (0..).zip(&all) {
        draft.task.upstream.iter().for_each(|&above| downstream[above as usize].push(index));
        if let Some(Gate { task, arm }) = draft.task.gate {
            members[task as usize].push((arm, index));
        }
    }
    let order: Vec<u32> = (0..all.len() as u32).collect();
    let (mut tasks, mut bodies) = (Vec::new(), Vec::new());
    for ((draft, downstream), members) in all.into_iter().zip(downstream).zip(members) {
        let of_arm = |arm| -> &'static [u32] {
            members.iter().filter(|(of, _)| *of == arm).map(|(_, task)| *task).collect::<Vec<_>>().leak()
        };
        let kind = match draft.task.kind {
            Kind::Map { .. } => Kind::Map { members: of_arm(0) },
            Kind::Branch { .. } => {
                let arms: Vec<_> =
                    (0..draft.arms).map(|arm| Arm { label: "", members: of_arm(arm) }).collect();
                Kind::Branch { arms: arms.leak() }
            }
            kind => kind,
        };
        let options = Box::leak(Box::new(draft.options));
        tasks.push(Task { kind, downstream: downstream.leak(), options, ..draft.task });
        bodies.push(draft.body);
    }
    let schedule = match random.below(6) {
        0 => Some(Schedule::Every(Duration::from_secs(60 * (7 + random.below(50))))),
        1 => Some(Schedule::Cron("*/20 * * * *")),
        2 if random.chance(30) => Some(Schedule::Once),
        _ => None,
    };
    let dag = Dag {
        dag_id: format!("dag{place}").leak(),
        schedule,
        start_date: Some(BEGIN - 60 * random.below(150) as i64),
        end_date: Some(BEGIN + 60 * random.below(150) as i64),
        catchup: random.chance(50),
        max_active_runs: random.chance(30).then(|| 1 + random.below(2) as u32),
        max_active_tasks: random.chance(30).then(|| 1 + random.below(2) as u32),
        dagrun_timeout: random.chance(15).then(|| Duration::from_secs(60 + random.below(1200))),
        depends_on_past: random.chance(15),
        tasks: tasks.leak(),
        order: order.leak(),
        ..Dag::EMPTY
    };
    let some = random.chance(20);
    let callbacks: &[Callbacks] = match some {
        true => {
            let each = Callbacks { on_failure: Some(never), on_retry: Some(never), on_success: None };
            vec![each; dag.tasks.len()].leak()
        }
        false => &[],
    };
    let dag = Box::leak(Box::new(dag));
    let definition = Definition { dag, bodies: bodies.leak(), callbacks, ..Definition::EMPTY };
    (Box::leak(Box::new(definition)), targets)
}

impl Drafts<'_> {
    /// The tasks of an arm, a loop, or the whole.
    fn scope(&mut self, depth: u32, gate: Option<Gate>, map: Option<u32>) {
        let pieces = if depth == 2 { 1 + self.random.below(6) } else { self.random.below(4) };
        for _ in 0..pieces {
            // There is enough to go wrong with so many.
            if self.all.len() > 14 {
                return;
            }
            match self.random.below(20) {
                0..=1 if depth > 0 => self.branch(depth, gate, map),
                2..=4 if depth > 0 && map.is_none() => self.list(depth, gate),
                5..=6 => self.call(gate, map),
                7..=9 => self.group(gate, map),
                10 => self.sensor(gate, map),
                11..=12 if self.place + 1 < self.count => self.trigger(gate, map),
                _ => drop(self.add(Kind::Function, Body::Function(never), gate, map)),
            }
        }
    }

    fn options(&mut self) -> Options {
        use TriggerRule::*;
        const RULES: [TriggerRule; 12] = [
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
        let random = &mut *self.random;
        let rule = match self.rules && random.chance(30) {
            true => *random.pick(&RULES).unwrap_or(&AllSuccess),
            false => AllSuccess,
        };
        Options {
            retries: random.below(4) as u32,
            retry_delay: Duration::from_secs(random.below(90)),
            retry_exponential_backoff: random.chance(30),
            max_retry_delay: random.chance(30).then_some(Duration::from_secs(100)),
            trigger_rule: rule,
            pool: match random.below(4) {
                0 => "pool0",
                1 => "pool1",
                _ => DEFAULT_POOL,
            },
            priority_weight: random.below(3) as i32,
            max_active_tis_per_dag: random.chance(15).then(|| 1 + random.below(2) as u32),
            wait_for_downstream: random.chance(5),
            ..Options::DEFAULT
        }
    }

    /// Any of those above, but for the branch or list that it is in.
    fn above(&mut self, gate: Option<Gate>) -> Vec<u32> {
        let all = 0..self.all.len() as u32;
        let sparse = 1 + self.random.below(5);
        let may = |task: &u32| gate.is_none_or(|gate| gate.task != *task);
        all.filter(may).filter(|_| self.random.below(2 + sparse) == 0).collect()
    }

    fn push(&mut self, task: Task, body: Body, options: Options) -> u32 {
        self.all.push(Draft { task, body, arms: 0, options });
        self.all.len() as u32 - 1
    }

    fn add(&mut self, kind: Kind, body: Body, gate: Option<Gate>, map: Option<u32>) -> u32 {
        let (upstream, options) = (self.above(gate).leak(), self.options());
        let task_id = format!("t{}", self.all.len()).leak();
        let role = match self.random.below(8) {
            0 if self.roles && kind == Kind::Function => Role::Setup,
            1 if self.roles && kind == Kind::Function => Role::Teardown,
            _ => Role::Work,
        };
        // Its value is taken where it is there for certain.
        let inputs = if options.trigger_rule == TriggerRule::AllSuccess { &*upstream } else { &[] };
        let task = Task { task_id, kind, upstream, inputs, gate, map, role, ..Task::FUNCTION };
        self.push(task, body, options)
    }

    fn call(&mut self, gate: Option<Gate>, map: Option<u32>) {
        let call = &CALLS[self.random.below(2) as usize];
        self.add(Kind::Call, Body::Call { call, arguments: None }, gate, map);
    }

    fn sensor(&mut self, gate: Option<Gate>, map: Option<u32>) {
        let call = &SENSORS[self.random.below(2) as usize];
        self.add(Kind::Sensor, Body::Sensor { call, arguments: None }, gate, map);
    }

    fn trigger(&mut self, gate: Option<Gate>, map: Option<u32>) {
        let call = &TRIGGERS[self.random.below(3) as usize];
        let target = self.place + 1 + self.random.below((self.count - self.place - 1) as u64) as usize;
        let task = self.add(Kind::Trigger, Body::Trigger { call, conf: None }, gate, map);
        self.targets.insert(task, target);
    }

    fn group(&mut self, gate: Option<Gate>, map: Option<u32>) {
        let call = &GROUPS[self.random.below(3) as usize];
        let submit = self.all.len() as u32;
        let body = |member| Body::Group { member, call, arguments: None, submit };
        let name = |member| -> &'static str { format!("t{submit}.{member}").leak() };
        let first = self.add(Kind::Submit, body(Member::Submit), gate, map);
        self.all[first as usize].task.task_id = name("call");
        let options = Options { trigger_rule: TriggerRule::AllSuccess, ..self.all[first as usize].options };
        let wait = Task {
            task_id: name("wait"),
            kind: Kind::Wait,
            upstream: vec![submit].leak(),
            shares: vec![submit].leak(),
            gate,
            map,
            ..Task::FUNCTION
        };
        let read = Task {
            task_id: name("read"),
            kind: Kind::Read,
            upstream: vec![submit + 1].leak(),
            shares: vec![submit, submit + 1].leak(),
            ..wait
        };
        self.push(wait, body(Member::Wait), options);
        self.push(read, body(Member::Read), options);
    }

    fn branch(&mut self, depth: u32, gate: Option<Gate>, map: Option<u32>) {
        let index = self.add(Kind::Branch { arms: &[] }, Body::Branch(|_| Err(Error::fatal(""))), gate, map);
        let arms = 1 + self.random.below(3) as u32;
        self.all[index as usize].arms = arms;
        let mut ends = Vec::new();
        for arm in 0..arms {
            let before = self.all.len();
            self.scope(depth - 1, Some(Gate { task: index, arm }), map);
            ends.extend((self.all.len() > before).then_some(self.all.len() as u32 - 1));
        }
        if self.random.chance(50) {
            let task = self.add(Kind::Join, Body::Join { branch: index }, gate, map);
            let draft = &mut self.all[task as usize];
            (draft.task.upstream, draft.task.inputs) = (ends.leak(), &[]);
            draft.options.trigger_rule = TriggerRule::NoneFailedMinOneSuccess;
        }
    }

    fn list(&mut self, depth: u32, gate: Option<Gate>) {
        let index = self.add(Kind::Map { members: &[] }, Body::Map(|_| Err(Error::fatal(""))), gate, None);
        self.scope(depth - 1, Some(Gate { task: index, arm: 0 }), Some(index));
    }
}
