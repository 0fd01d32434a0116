//! The real binary against real servers on loopback.

mod arguments;
mod branches;
mod calls;
mod database;
mod disk;
mod faults;
mod guarded;
mod harness;
mod kill;
mod limits;
mod loops;
mod lost;
mod mixed;
mod names;
mod quickstart;
mod recovery;
mod refusals;
mod sensors;
mod serving;
mod setups;
mod sizes;
mod wire;
