//! Hostile inputs for tests: real ones, mutated by a seed, for a target that says what has to hold of each.
//!
//! The samples of a target are lines of `tests/abuse/<target>.txt`. What was found joins them, so that it is
//! tried first ever after. `ABUSE_SECONDS` has each target go on for so long instead of its few thousand cases,
//! `ABUSE_SEED` begins elsewhere. A long run leaves the case it is at in `target/abuse/<target>`, for what no
//! test can tell: a stack or a memory that is used up.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Nothing grows longer.
const LONGEST: usize = 200_000;

/// So many cases are kept for what came of them that came of none before.
const MOST: usize = 4000;

/// What is fed with hostile inputs.
pub(crate) struct Abuse<'a> {
    /// Its name, and that of the file of its samples.
    pub(crate) target: &'a str,
    /// What means something to it.
    pub(crate) words: &'a [&'a str],
    /// How many cases there are where nobody asks for more.
    pub(crate) cases: u64,
}

impl Abuse<'_> {
    /// Feeds each sample, and what is made of them, to `holds`, which panics where something does not hold
    /// that has to. What it answers tells kinds of cases apart: of each new kind, more are made.
    pub(crate) fn of(&self, holds: impl Fn(&[u8]) -> String) {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let kept = root.join("tests/abuse").join(self.target).with_extension("txt");
        let text = std::fs::read_to_string(&kept).unwrap_or_else(|e| panic!("{}: {e}", kept.display()));
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut samples: Vec<Vec<u8>> = lines.map(unescape).collect();
        let (mut kinds, mut dice) = (HashSet::new(), Dice(number("ABUSE_SEED").unwrap_or(1)));
        for sample in &samples {
            kinds.insert(self.case(sample, None, &holds));
        }
        let until = number("ABUSE_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let trace = until.map(|_| root.join("target/abuse").join(self.target));
        let mut count = 0;
        while until.map_or(count < self.cases, |until| Instant::now() < until) {
            let mut case = samples[dice.below(samples.len())].clone();
            for _ in 0..1 + dice.below(4) {
                let other = &samples[dice.below(samples.len())];
                dice.mutate(&mut case, other, self.words);
            }
            case.truncate(LONGEST);
            let kind = self.case(&case, trace.as_ref(), &holds);
            if samples.len() < MOST && kinds.insert(kind) {
                samples.push(case);
            }
            count += 1;
        }
        println!("{}: {count} cases of {} kinds", self.target, kinds.len());
    }

    fn case(&self, case: &[u8], trace: Option<&PathBuf>, holds: &impl Fn(&[u8]) -> String) -> String {
        if let Some(trace) = trace {
            let written = std::fs::create_dir_all(trace.parent().unwrap_or(trace));
            written.and_then(|()| std::fs::write(trace, case.escape_ascii().to_string())).unwrap();
        }
        let fails = |case: &[u8]| catch_unwind(AssertUnwindSafe(|| holds(case))).is_err();
        match catch_unwind(AssertUnwindSafe(|| holds(case))) {
            Ok(kind) => kind.chars().filter(|c| !c.is_numeric()).take(100).collect(),
            Err(_) => {
                let case = smaller(case.to_vec(), fails);
                panic!("a line for tests/abuse/{}.txt:\n{}", self.target, case.escape_ascii());
            }
        }
    }
}

/// The least of a case that fails too, of what leaving out pieces finds.
fn smaller(mut case: Vec<u8>, fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let (mut piece, mut left) = (case.len() / 2, 500);
    while piece > 0 {
        let mut at = 0;
        while at < case.len() && left > 0 {
            let without = [&case[..at], &case[(at + piece).min(case.len())..]].concat();
            left -= 1;
            if fails(&without) { case = without } else { at += piece }
        }
        piece /= 2;
    }
    case
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`; it must be a whole number")))
}

/// The bytes of a line that `escape_ascii` has written.
fn unescape(line: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), line.bytes());
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'x') => {
                let digit = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                high.zip(low).map_or(b'?', |(high, low)| (high * 16 + low) as u8)
            }
            Some(other) => other,
        });
    }
    bytes
}

/// Numbers at which something ends.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "7",
    "59",
    "60",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "0.1",
    "99999999999999999999999999",
];

/// What is no plain text.
const CHARACTERS: &[&str] = &[
    "\0", "\n", "\r\n", "\t", " ", "é", "ß", "İ", "\u{202e}", "\u{feff}", "🌍", "\u{a0}", "٣", "\\", "\"",
    "%",
];

/// Chance that is the same for the same seed (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..bound`; 0 where there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound.max(1) as u64) as usize
    }

    pub(crate) fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> Option<&'t T> {
        let at = self.below(of.len());
        of.get(at).copied()
    }

    /// A piece of these bytes, most often a short one.
    fn piece(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let from = self.below(bytes.len() + 1);
        let left = bytes.len() - from;
        let most = if self.below(4) == 0 { left } else { left.min(8) };
        from..from + self.below(most + 1)
    }

    fn mutate(&mut self, case: &mut Vec<u8>, other: &[u8], words: &[&str]) {
        let at = self.below(case.len() + 1);
        let piece = self.piece(case);
        match self.below(14) {
            0 if at < case.len() => case[at] ^= 1 << self.below(8),
            1 if at < case.len() => case[at] = self.roll() as u8,
            2 => drop(case.drain(piece)),
            3 => case.truncate(at),
            4 | 5 => drop(case.splice(at..at, self.pick(words).unwrap_or("").bytes())),
            6 => drop(case.splice(piece, self.pick(words).unwrap_or("").bytes())),
            7 => drop(case.splice(at..at, self.pick(CHARACTERS).unwrap_or("").bytes())),
            8 => drop(case.splice(piece, other[self.piece(other)].to_vec())),
            9 => {
                let end = self.below(other.len() + 1);
                case.truncate(at);
                case.extend_from_slice(&other[end..]);
            }
            10 => {
                let times = if self.below(8) == 0 { 2 + self.below(2000) } else { 2 + self.below(4) };
                let repeated = case[piece.clone()].repeat(times.min(LONGEST / piece.len().max(1)));
                case.splice(piece, repeated);
            }
            11 => {
                let moved: Vec<u8> = case.drain(piece).collect();
                let at = self.below(case.len() + 1);
                case.splice(at..at, moved);
            }
            12 if at < case.len() => case[at] ^= 0x20,
            // Of a number another one.
            _ => {
                let Some(from) = (at..case.len()).find(|&at| case[at].is_ascii_digit()) else { return };
                let end = (from..case.len()).find(|&at| !case[at].is_ascii_digit()).unwrap_or(case.len());
                let number = match self.below(2) {
                    0 => self.pick(NUMBERS).unwrap_or("").to_owned(),
                    _ => self.below(100).to_string(),
                };
                case.splice(from..end, number.bytes());
            }
        }
    }
}

#[test]
fn a_line_of_samples_is_what_a_finding_prints() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(unescape(&bytes.escape_ascii().to_string()), bytes);
}

#[test]
fn a_finding_is_told_as_small_as_it_gets() {
    let fails = |case: &[u8]| case.contains(&b'x') && case.contains(&b'y');
    assert_eq!(smaller(b"aaaaaxbbbbbbbybbbbb".to_vec(), fails), b"xy");
}
