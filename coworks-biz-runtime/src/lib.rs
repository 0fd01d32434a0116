//! The engine of `coworks-biz`: use it through that crate.
//!
//! The modules are rooms of one house, the lower ones first; a room imports
//! only from rooms below it:
//! [`error`], [`clock`], [`dag`], [`value`], [`config`], [`schedule`], [`run`], [`store`],
//! [`tech`], [`notify`], [`task`], [`engine`], [`control`], `local`, [`cli`].
//!
//! Two seams matter most: [`run`] is pure, so that it can be simulated by the
//! million, and [`task`] knows only a [`task::Host`], so that another host can
//! run the very same task code.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
mod abuse;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod dag;
pub mod engine;
pub mod error;
#[cfg(feature = "local")]
pub mod local;
pub mod notify;
pub mod run;
pub mod schedule;
pub mod store;
pub mod task;
pub mod tech;
pub mod value;
