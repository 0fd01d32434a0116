pub mod config;
pub mod dag;
pub mod error;
pub mod run;
pub mod schedule;
pub mod store;
pub mod value;
