//! What a biz costs to compile: user CPU time and memory of rustc, by the number and kind of its tasks.
//!
//! `cargo bench --bench compile` builds the dependencies once, and then checks and builds a
//! generated biz of each kind and size. `cargo bench --bench compile -- linear 1000` only those of this kind and size.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Set where this program runs in front of rustc, to the file that gets the measurement.
const MEASURE: &str = "COWORKS_BIZ_MEASURE";

const HEAD: &str = "#![allow(unused)]
use coworks_biz::prelude::*;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Order { pub id: u32, pub name: String, pub lines: Vec<u32>, pub state: Option<u32> }

async fn step(order: Order, n: u32) -> Result<Order> { Ok(Order { id: n, ..order }) }

";

fn main() -> ExitCode {
    match env::var_os(MEASURE) {
        Some(file) => in_front_of_rustc(Path::new(&file)),
        None => bench(),
    }
}

/// Runs rustc and notes what it took.
fn in_front_of_rustc(file: &Path) -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let rustc = arguments.next().expect("cargo gives the path of rustc");
    let status = Command::new(rustc).args(arguments).status().expect("rustc starts");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage of children");
    let seconds = usage.user_time().num_milliseconds() as f64 / 1000.0;
    // The last one is the generated crate: what it depends on comes before it.
    fs::write(file, format!("{seconds} {}", usage.max_rss() / 1024)).expect("the file is writable");
    ExitCode::from(status.code().map_or(1, |code| code as u8))
}

fn bench() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let sizes: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let kinds: Vec<_> =
        arguments.iter().filter(|argument| KINDS.iter().any(|(kind, _)| kind == argument)).collect();
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compile");
    println!(
        "{:<10} {:>6} {:>14} {:>14} {:>10}",
        "biz", "tasks", "check, CPU s", "build, CPU s", "rustc MiB"
    );
    for (kind, write) in KINDS {
        if !kinds.is_empty() && !kinds.iter().any(|only| *only == kind) {
            continue;
        }
        let base = measure(&dir, kind, &format!("{HEAD}#[biz]\nfn many() {{}}\n"));
        for size in [10, 100, 1000, 5000] {
            if !sizes.is_empty() && !sizes.contains(&size) {
                continue;
            }
            let mut source = format!("{HEAD}#[biz]\nfn many(conf: Order) {{\n");
            let mut tasks = 0;
            let mut step = 0;
            while tasks < size {
                tasks += write(&mut source, step);
                step += 1;
            }
            source.push_str("}\n");
            let [check, build] = measure(&dir, kind, &source);
            println!(
                "{kind:<10} {tasks:>6} {:>14.2} {:>14.2} {:>10}",
                check.0 - base[0].0,
                build.0 - base[1].0,
                build.1
            );
        }
    }
    ExitCode::SUCCESS
}

/// CPU seconds and MiB of `cargo check` and `cargo build` of a crate of this source.
fn measure(dir: &Path, kind: &str, source: &str) -> [(f64, u64); 2] {
    let root = env!("CARGO_MANIFEST_DIR");
    let krate = dir.join(kind);
    fs::create_dir_all(krate.join("src")).expect("the folder of the crate");
    let manifest = format!(
        "[package]\nname = \"compile-{kind}\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         coworks-biz = {{ path = {root:?}, default-features = false }}\n\
         serde = {{ version = \"1\", features = [\"derive\"] }}\n\
         [profile.dev]\nincremental = false\ndebug = \"line-tables-only\"\n"
    );
    fs::write(krate.join("Cargo.toml"), manifest).expect("the manifest");
    fs::copy(Path::new(root).join("Cargo.lock"), krate.join("Cargo.lock")).expect("the lock file");
    fs::write(krate.join("src/lib.rs"), source).expect("the source");
    ["check", "build"].map(|verb| {
        let file = dir.join("measured");
        let done = Command::new(env!("CARGO"))
            .args([verb, "--quiet", "--target-dir"])
            .arg(dir.join("target"))
            .current_dir(&krate)
            .env("RUSTC_WORKSPACE_WRAPPER", env::current_exe().expect("this program"))
            .env(MEASURE, &file)
            .status()
            .expect("cargo starts");
        assert!(done.success(), "the generated biz does not compile: {}", krate.display());
        let measured = fs::read_to_string(file).expect("what the wrapper noted");
        let (seconds, mib) = measured.split_once(' ').expect("two numbers");
        (seconds.parse().expect("seconds"), mib.parse().expect("MiB"))
    })
}

/// Writes one more piece of a biz; answers with the number of its tasks.
type Write = fn(&mut String, usize) -> usize;

const KINDS: [(&str, Write); 5] =
    [("linear", linear), ("calls", calls), ("lazy", lazy), ("branches", branches), ("loops", loops)];

/// Half calls of services, half functions that take their answers, one after the other.
fn linear(source: &mut String, n: usize) -> usize {
    let last = n.checked_sub(1).map(|last| format!("    f{last} >> s{n};\n")).unwrap_or_default();
    let _ = write!(
        source,
        "    let s{n}: Order = tech!(GET \"/{n}\", api_id = \"x\", no_auth);\n\
         \x20   #[task]\n    async fn f{n}(s{n}: Order) -> Result<u32> {{ Ok(s{n}.id) }}\n{last}"
    );
    2
}

/// Calls of functions with the output of the last one, whose type nobody has written.
fn calls(source: &mut String, n: usize) -> usize {
    let from = n.checked_sub(1).map_or_else(|| "conf".to_owned(), |last| format!("a{last}"));
    let _ = writeln!(source, "    let a{n} = step({from}, {n});");
    1
}

/// Calls of services with arguments that are evaluated when they are sent.
fn lazy(source: &mut String, n: usize) -> usize {
    let from = n.checked_sub(1).map_or_else(|| "conf".to_owned(), |last| format!("a{last}"));
    let _ = writeln!(
        source,
        "    let a{n}: Order = tech!(POST \"/orders/{{{from}.id}}\", api_id = \"x\", no_auth, \
         json = json!({{ \"name\": {from}.name, \"n\": {n} }}));"
    );
    1
}

/// Branches with a variable that their tasks take, and joins of their arms.
fn branches(source: &mut String, n: usize) -> usize {
    let from = n.checked_sub(1).map_or_else(|| "conf".to_owned(), |last| format!("a{last}"));
    let _ = write!(
        source,
        "    let b{n} = step({from}, {n});\n    let a{n} = match b{n}.state {{\n        \
         Some(n) => {{ let x{n} = step(b{n}, n); x{n} }}\n        None => {{ let y{n} = step(b{n}, {n}); y{n} }}\n    }};\n"
    );
    5
}

/// Loops over the lines of an order, whose tasks take the line.
fn loops(source: &mut String, n: usize) -> usize {
    let from = n.checked_sub(1).map_or_else(|| "conf".to_owned(), |last| format!("b{last}"));
    let _ = write!(
        source,
        "    let b{n} = step({from}.clone(), {n});\n    for line in b{n}.lines {{\n        \
         let x{n} = step(conf, line);\n        let y{n} = step(x{n}, line);\n    }}\n"
    );
    4
}
