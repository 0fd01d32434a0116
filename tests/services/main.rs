//! Business services in a world of their own: what services do to them, and what time does.

mod asynchronous;
mod clockwork;
mod sandbox;
mod sensing;
