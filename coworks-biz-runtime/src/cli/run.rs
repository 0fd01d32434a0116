//! `run`: one run in this process.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;

use super::orders::conf;
use super::output::say;
use super::process::{Signals, runtime};
use super::{App, Exit, Failure, RunArguments, show};
use crate::config::Config;
use crate::engine::{Answer, Engine, Mode, Order, RunHandle, Trigger};
use crate::run::RunState;
use crate::task::DagRun;
use crate::value::Json;

/// How long results that were read may take to be deleted from S3; those that are left are at the next start.
const SWEEP: Duration = Duration::from_secs(5);

pub(super) fn run(
    app: &App,
    config: Config,
    arguments: RunArguments,
    db: Option<&Path>,
) -> Result<Exit, Failure> {
    // Everything that can be refused is refused before anything is touched.
    let definition = match (&arguments.resume, &arguments.biz) {
        (Some(_), None) => None,
        (_, biz) => Some(app.biz(biz.as_deref())?),
    };
    let conf = arguments.conf.as_deref().map(conf).transpose()?;
    let encode = |conf| Json::encode(&conf).map_err(|e| Failure::usage(e.to_string()));
    let conf = conf.map(encode).transpose()?;
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let mut config = config;
        // From before anything begins, so that nothing is cut off.
        let mut signals = Signals::listen()?;
        let _local = match arguments.local {
            true => Some(host_locally(app, &mut config).await?),
            false => None,
        };
        let engine = Engine::start(&config, &app.definitions, Mode::OneRun)?;
        let handle = match (&arguments.resume, definition) {
            (Some(run_id), biz) => engine.resume(biz.map(|biz| biz.dag.dag_id), run_id).await?,
            (None, Some(definition)) => {
                let logical_date = arguments.logical_date.map(|date| date.of(definition.dag));
                let trigger = Trigger { conf, logical_date, idempotency_key: None };
                engine.trigger(definition, trigger).await?
            }
            (None, None) => unreachable!("a biz is there where no run is resumed"),
        };
        let run = Arc::clone(&handle.run);
        let again = again(app, &run, &arguments, db);
        let exit = watch(&engine, handle, &mut signals, arguments.timeout, &again).await?;
        drop(engine);
        match show::finished(app, &config, &run, arguments.output.output) {
            // Who read the output had enough; the run ended as it did.
            Ok(()) | Err(Failure { exit: Exit::Done, .. }) => {}
            Err(failure) => return Err(failure),
        }
        match exit {
            Exit::Interrupted => say(format!("stopped before the end; go on with: {again}")),
            Exit::TimedOut => say(format!("not done in time; go on with: {again}")),
            _ => {}
        }
        Ok(exit)
    });
    // A thread that a task left behind must not hold up the end.
    runtime.shutdown_background();
    exit
}

/// The command that goes on with the run, in the same place and with the same services.
fn again(app: &App, run: &DagRun, arguments: &RunArguments, db: Option<&Path>) -> String {
    let mut command = format!("{} run", show::program());
    if app.definitions.len() > 1 {
        let _ = write!(command, " {}", run.dag_id);
    }
    let _ = write!(command, " --resume '{}'", run.run_id);
    if arguments.local {
        command.push_str(" --local");
    }
    if let Some(db) = db {
        let _ = write!(command, " --db '{}'", db.display());
    }
    command
}

/// Waits for the run. The first signal and the timeout let what runs come to its end; the second signal does not.
async fn watch(
    engine: &Engine,
    mut handle: RunHandle,
    signals: &mut Signals,
    timeout: Option<Duration>,
    again: &str,
) -> Result<Exit, Failure> {
    let late = OptionFuture::from(timeout.map(tokio::time::sleep));
    let exit = tokio::select! {
        state = handle.ended() => {
            let exit = match state? {
                RunState::Success => Exit::Done,
                RunState::Failed | RunState::Running | RunState::Queued => Exit::RunFailed,
            };
            if let Answer::Status { runs: left @ 1.., .. } = engine.order(Order::Status).await? {
                say(format!("{left} runs that it has triggered have not ended: `{} serve` goes on with them", show::program()));
            }
            // The run is done and recorded, so that this is only for tidiness.
            let _ = tokio::time::timeout(SWEEP, engine.drain()).await;
            return Ok(exit);
        }
        Some(()) = late => Exit::TimedOut,
        () = signals.next() => Exit::Interrupted,
    };
    tracing::warn!("stopping: what runs comes to its end, nothing new starts; once more stops at once");
    tokio::select! {
        drained = engine.drain() => drained?,
        () = signals.next() => stop_at_once(again),
    }
    // What was running may have been the last of it.
    match tokio::time::timeout(Duration::ZERO, handle.ended()).await {
        Ok(Ok(RunState::Success)) => Ok(Exit::Done),
        Ok(Ok(RunState::Failed)) => Ok(Exit::RunFailed),
        _ => Ok(exit),
    }
}

fn stop_at_once(again: &str) -> ! {
    say(format!("stopped at once; go on with: {again}"));
    std::process::exit(Exit::Interrupted as i32)
}

#[cfg(feature = "local")]
pub(super) async fn host_locally(app: &App, config: &mut Config) -> Result<crate::local::Local, Failure> {
    let Some(services) = app.local else {
        return Err(Failure::usage(
            "this program brings no services for --local: `main![..; local = services]` names a function that does",
        ));
    };
    let dir = config.db.with_added_extension("local-s3");
    let local = services().start(&dir, &config.bucket).await.map_err(|e| Failure {
        exit: Exit::Engine,
        message: format!("the local services cannot be started with S3 in {}: {e}", dir.display()),
    })?;
    local.configure(config);
    tracing::info!("local services at {}, S3 at {}", local.gateway_url(), local.s3().endpoint);
    Ok(local)
}

#[cfg(not(feature = "local"))]
pub(super) async fn host_locally(_: &App, _: &mut Config) -> Result<std::convert::Infallible, Failure> {
    Err(Failure::usage(
        "this program was built without the feature `local` of coworks-biz, which --local needs",
    ))
}
