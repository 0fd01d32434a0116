//! `serve`: makes a run of every tick, goes on with all there is, and stays.

use std::sync::Arc;

use super::output::say;
use super::process::{Signals, runtime};
use super::run::host_locally;
use super::{App, Exit, Failure, ServeArguments};
use crate::config::Config;
use crate::control::{ControlError, Server};
use crate::engine::{Engine, EngineError, Mode};
use crate::store::{StoreError, wait_for_lock};

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match error {
            ControlError::Refused(_) => Exit::Refused,
            ControlError::Failed(_) | ControlError::Silent | ControlError::Io { .. } => Exit::Engine,
        };
        Self { exit, message: error.to_string() }
    }
}

pub(super) fn serve(app: &App, config: Config, arguments: &ServeArguments) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let mut config = config;
        let mut signals = Signals::listen()?;
        let _local = match arguments.local {
            true => Some(host_locally(app, &mut config).await?),
            false => None,
        };
        let engine = match arguments.standby {
            false => start(app, &config)?,
            true => tokio::select! {
                engine = stand_by(app, &config) => engine?,
                () = signals.next() => return Ok(Exit::Done),
            },
        };
        let engine = Arc::new(engine);
        let control = Server::start(Arc::clone(&engine), &config.db)?;
        let names = app.names().join(", ");
        tracing::info!("serving {names} from {}", config.db.display());
        tokio::select! {
            error = engine.failed() => return Err(error.into()),
            () = signals.next() => {}
        }
        tracing::warn!("stopping: what runs comes to its end, nothing new starts; once more stops at once");
        tokio::select! {
            drained = engine.drain() => drained?,
            () = signals.next() => {
                say("stopped at once: what was cut off is tried again by the next `serve`");
                std::process::exit(Exit::Interrupted as i32)
            }
        }
        drop(control);
        Ok(Exit::Done)
    });
    // A thread that a task left behind must not hold up the end.
    runtime.shutdown_background();
    exit
}

fn start(app: &App, config: &Config) -> Result<Engine, EngineError> {
    Engine::start(config, &app.definitions, Mode::Serve)
}

/// Waits until the process that has the database is gone, and takes its place.
async fn stand_by(app: &App, config: &Config) -> Result<Engine, Failure> {
    let mut told = false;
    loop {
        match start(app, config) {
            Err(EngineError::Store(StoreError::Locked { pid, .. })) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!("standing by: process {pid} has {}", config.db.display());
                }
                let db = config.db.clone();
                let waited = tokio::task::spawn_blocking(move || wait_for_lock(&db)).await;
                waited.map_err(|e| Failure {
                    exit: Exit::Engine,
                    message: format!("no thread to wait on: {e}"),
                })??;
            }
            engine => return Ok(engine?),
        }
    }
}
