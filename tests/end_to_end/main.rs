//! The real binary against real servers on loopback.

mod calls;
mod faults;
mod harness;
mod quickstart;
mod recovery;
mod refusals;
