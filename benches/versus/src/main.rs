//! coworks-biz beside others: how fast, and what a `kill -9` costs.
//!
//! `table ROUNDS` measures all of them and prints a table; `killed ROUNDS [SEED]` kills each of them so often
//! and prints what became of their runs; `tries` kills each in the middle of a step that may be tried
//! twice. `measure`, `work`, `finish` and `tries DIR SERVER` are coworks-biz itself, as the others have them.

mod coworks;
#[path = "../effect.rs"]
mod effect;
mod kill;
#[path = "../../engine/measure.rs"]
#[allow(dead_code, reason = "other benches measure memory")]
mod measure;
#[path = "../server.rs"]
mod server;
#[path = "../../engine/shapes.rs"]
#[allow(dead_code, reason = "its steps log a line, and these do not")]
mod shapes;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

/// One of those that are held beside each other.
struct System {
    name: &'static str,
    program: &'static str,
    variant: &'static str,
}

const SYSTEMS: &[System] = &[
    System { name: "coworks-biz, `step`", program: "versus", variant: "step" },
    System { name: "coworks-biz, `run`", program: "versus", variant: "run" },
    System { name: "durare, `FULL`", program: "versus-durare", variant: "full" },
    System { name: "durare, as it comes", program: "versus-durare", variant: "normal" },
    System { name: "apalis-workflow, `FULL`", program: "versus-apalis", variant: "full" },
    System { name: "apalis-workflow, as it comes", program: "versus-apalis", variant: "setup" },
    System { name: "Restate", program: "versus-restate", variant: "run" },
];

/// A program that was built beside this one.
fn program(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("its own name");
    path.set_file_name(name);
    path
}

fn command(name: &str) -> Command {
    Command::new(program(name))
}

/// A folder on the disk that is measured.
fn folder() -> tempfile::TempDir {
    let place = std::env::var_os("COWORKS_BENCH_DIR").map_or(PathBuf::from("."), PathBuf::from);
    tempfile::tempdir_in(place).expect("a folder")
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["table", rounds] => table::print(rounds.parse().expect("a number")),
        ["killed", rounds] => kill::rounds(rounds.parse().expect("a number"), None),
        ["killed", rounds, seed] => {
            kill::rounds(rounds.parse().expect("a number"), Some(seed.parse().expect("a number")))
        }
        ["tries"] => kill::tries(),
        ["measure", variant, shape, dir] => coworks::measure(Path::new(dir), variant, shape),
        words @ (["work" | "finish", _, _, ..] | ["tries", _, _]) => coworks::killed(words),
        _ => panic!("table ROUNDS, killed ROUNDS or tries"),
    }
}
