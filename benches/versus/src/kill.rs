//! The same small kill test on each: a process is killed at random moments while runs of five steps, each
//! with an effect on a server, are under way. In the end each run that was acknowledged must have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::effect::request;
use crate::{command, folder, server};

/// How many runs are begun in each round.
const RUNS: usize = 20;
/// How long an effect takes.
const EFFECT: Duration = Duration::from_millis(10);

type Counts = Arc<Mutex<BTreeMap<String, u32>>>;

/// Effects that were asked for and are not answered.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// What an effect is answered, from how often it was had.
type Answer = fn(u32) -> Option<u16>;

/// Records each effect with its key when it is asked for.
fn serve(answer: Answer) -> (String, Counts) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let counts = Counts::default();
    let recorded = counts.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let recorded = recorded.clone();
            std::thread::spawn(move || had(stream, &recorded, answer));
        }
    });
    (address, counts)
}

fn had(mut stream: TcpStream, counts: &Counts, answer: Answer) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let key = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let times = {
        let mut counts = counts.lock().expect("counts");
        let times = counts.entry(key).or_default();
        *times += 1;
        *times
    };
    UNDER_WAY.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(EFFECT);
    UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    let Some(status) = answer(times) else {
        // Until the one who asks is gone.
        let _ = stream.read(&mut byte);
        return;
    };
    let _ = write!(stream, "HTTP/1.1 {status} so\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

/// A step of a generator that needs no crate; the seed is printed.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A process, and the lines it says.
struct Talking {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Talking {
    fn start(program: &str, words: &[&str]) -> Self {
        let mut child = command(program)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a program");
        let out = BufReader::new(child.stdout.take().expect("its words"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// `kill -9`; what it had said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
        self.lines.iter().collect()
    }
}

fn of<'a>(lines: &'a [String], word: &'a str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
}

/// What became of the runs of one system.
struct Outcome {
    kills: usize,
    /// Effects that were under way when it was killed, together.
    cut: usize,
    acked: BTreeSet<String>,
    succeeded: BTreeSet<String>,
    failed: Vec<String>,
}

/// One whose engine is in the process that is killed.
fn embedded(program: &str, rounds: usize, server: &str, seed: &mut u64) -> Outcome {
    let dir = folder();
    let dir = dir.path().to_str().expect("a name");
    let (mut acked, mut cut) = (BTreeSet::new(), 0);
    for round in 0..rounds {
        let ids: Vec<String> = (0..RUNS).map(|run| format!("r{round}-{run}")).collect();
        let words: Vec<&str> =
            ["work", dir, server].into_iter().chain(ids.iter().map(String::as_str)).collect();
        let process = Talking::start(program, &words);
        std::thread::sleep(Duration::from_millis(30 + random(seed) % 300));
        cut += UNDER_WAY.load(Ordering::Relaxed);
        acked.extend(of(&process.kill(), "acked").map(str::to_owned));
    }
    let words: Vec<&str> =
        ["finish", dir, server].into_iter().chain(acked.iter().map(String::as_str)).collect();
    let last = Talking::start(program, &words);
    let (begin, mut lines) = (Instant::now(), vec![]);
    while lines.last().is_none_or(|line| line != "done") && begin.elapsed() < Duration::from_secs(120) {
        lines.extend(last.lines.recv_timeout(Duration::from_secs(1)).ok());
    }
    drop(last.kill());
    // One that was lost would have been made anew, and ended well.
    let kept: BTreeSet<&str> = of(&lines, "kept").collect();
    let succeeded = of(&lines, "ended").filter_map(|line| line.strip_suffix(" true"));
    let succeeded = succeeded.filter(|id| kept.contains(id)).map(str::to_owned).collect();
    let failed = of(&lines, "ended").filter(|line| !line.ends_with(" true")).map(str::to_owned);
    let lost = acked.iter().filter(|id| !kept.contains(id.as_str())).map(|id| format!("{id} is gone"));
    let failed = failed.chain(lost).collect();
    Outcome { kills: rounds, cut, acked, succeeded, failed }
}

/// Restate's server and its service, each of which can be killed.
struct Restate {
    ports: [u16; 4],
    server: Option<Child>,
    service: Option<Child>,
    runtime: tokio::runtime::Runtime,
}

impl Restate {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        Self { ports: server::ports(), server: None, service: None, runtime }
    }

    fn start(&mut self, dir: &Path, effects: &str) {
        let [ingress, admin, node, service] = self.ports;
        if self.server.is_none() {
            self.server = Some(server::start(dir, [ingress, admin, node]).expect("a server"));
        }
        if self.service.is_none() {
            let mut command = command("versus-restate");
            command.args(["serve", &format!("127.0.0.1:{service}"), effects]).stderr(Stdio::null());
            self.service = Some(command.spawn().expect("a service"));
        }
    }

    fn kill(which: &mut Option<Child>) {
        if let Some(mut child) = which.take() {
            child.kill().expect("a child");
            child.wait().expect("a child");
        }
    }

    fn ask(&self, port: usize, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let server = format!("127.0.0.1:{}", self.ports[port]);
        let asked = request(&server, method, path, body);
        let answer =
            self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), asked).await });
        answer.ok()?.ok()
    }

    fn register(&self) {
        let body = format!(r#"{{"uri":"http://127.0.0.1:{}"}}"#, self.ports[3]);
        let begin = Instant::now();
        while !matches!(self.ask(1, "POST", "/deployments", &body), Some((200 | 201, _))) {
            assert!(begin.elapsed() < Duration::from_secs(60), "the server does not take the service");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Restate {
    fn drop(&mut self) {
        Self::kill(&mut self.server);
        Self::kill(&mut self.service);
    }
}

/// The service is killed in two rounds of three, the server in the third.
fn restate(rounds: usize, effects: &str, seed: &mut u64) -> Outcome {
    let dir = folder();
    let mut restate = Restate::new();
    restate.start(dir.path(), effects);
    restate.register();
    let mut outcome =
        Outcome { kills: rounds, cut: 0, acked: BTreeSet::new(), succeeded: BTreeSet::new(), failed: vec![] };
    for round in 0..rounds {
        for run in 0..RUNS {
            let id = format!("r{round}-{run}");
            let answer = restate.ask(0, "POST", &format!("/Effects/{id}/run/send"), &format!("\"{id}\""));
            if matches!(answer, Some((200 | 202, _))) {
                outcome.acked.insert(id);
            }
        }
        std::thread::sleep(Duration::from_millis(random(seed) % 100));
        outcome.cut += UNDER_WAY.load(Ordering::Relaxed);
        if round % 3 == 2 {
            Restate::kill(&mut restate.server);
        } else {
            Restate::kill(&mut restate.service);
        }
        restate.start(dir.path(), effects);
        let begin = Instant::now();
        while restate.ask(0, "GET", "/restate/health", "").is_none_or(|(status, _)| status != 200) {
            assert!(begin.elapsed() < Duration::from_secs(60), "the server does not come back");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    for id in outcome.acked.clone() {
        match restate.ask(0, "GET", &format!("/restate/workflow/Effects/{id}/attach"), "") {
            Some((200, _)) => drop(outcome.succeeded.insert(id)),
            answer => outcome.failed.push(format!("{id} {answer:?}")),
        }
    }
    outcome
}

/// With another seed each time, where none is given: it decides the moments of the kills.
pub fn rounds(rounds: usize, seed: Option<u64>) {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let given = seed.unwrap_or_else(|| now().as_nanos() as u64 % 1_000_000_007);
    println!("seed {given}, {rounds} kills each, {RUNS} runs of 5 effects before each");
    println!(
        "| | Runs acknowledged | Ended well | Lost | Effects missing | Under way at a kill | Had again | Most often |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for name in ["coworks-biz", "durare", "Restate"] {
        // Of 0 this generator makes nothing else, and of a small number small ones; and each has the same moments,
        // whatever came before it.
        let mut seed = given.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (address, counts) = serve(|_| Some(200));
        let outcome = match name {
            "coworks-biz" => embedded("versus", rounds, &address, &mut seed),
            "durare" => embedded("versus-durare", rounds, &address, &mut seed),
            _ => restate(rounds, &address, &mut seed),
        };
        let counts = counts.lock().expect("counts");
        let effects: Vec<u32> = outcome
            .acked
            .iter()
            .flat_map(|id| (1..=5).map(move |number| format!("{id}/{number}")))
            .map(|key| counts.get(&key).copied().unwrap_or(0))
            .collect();
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            outcome.acked.len(),
            outcome.succeeded.len(),
            outcome.acked.len() - outcome.succeeded.len(),
            effects.iter().filter(|times| **times == 0).count(),
            outcome.cut,
            effects.iter().filter(|times| **times > 1).count(),
            effects.iter().max().unwrap_or(&0),
        );
        for failed in outcome.failed.iter().take(5) {
            eprintln!("{name} after {} kills: {failed}", outcome.kills);
        }
    }
}

/// The first try is cut off by a kill, the second fails, the third would succeed: it comes only where
/// the one that was cut off does not count.
pub fn tries() {
    let answer: Answer = |times| match times {
        1 => None,
        2 => Some(500),
        _ => Some(200),
    };
    let seen = |counts: &Counts| counts.lock().expect("counts").get("tries").copied().unwrap_or(0);
    let wait = |counts: &Counts| {
        let begin = Instant::now();
        while seen(counts) == 0 && begin.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    for program in ["versus", "versus-durare"] {
        let (address, counts) = serve(answer);
        let dir = folder();
        let words = ["tries", dir.path().to_str().expect("a name"), &address];
        let first = Talking::start(program, &words);
        wait(&counts);
        first.kill();
        let second = Talking::start(program, &words);
        let ended = second.lines.iter().find(|line| line.starts_with("ended"));
        println!("{program}: the step ran {} times; {}", seen(&counts), ended.unwrap_or_default());
        second.kill();
    }
    let (address, counts) = serve(answer);
    let dir = folder();
    let mut restate = Restate::new();
    restate.start(dir.path(), &address);
    restate.register();
    let sent = restate.ask(0, "POST", "/Effects/one/tries/send", "").expect("an answer").1;
    let id = sent.split('"').find(|word| word.starts_with("inv_")).expect("its id").to_owned();
    wait(&counts);
    Restate::kill(&mut restate.service);
    restate.start(dir.path(), &address);
    let ended = restate.ask(0, "GET", &format!("/restate/invocation/{id}/attach"), "");
    println!("versus-restate: the step ran {} times; ended {ended:?}", seen(&counts));
}
