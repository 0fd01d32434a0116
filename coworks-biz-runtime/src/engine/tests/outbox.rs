//! Who is told of what, by a real SMTP server.

use super::*;
use crate::config::{Smtp, SmtpTls};
use crate::dag::Options;
use crate::notify::tests::server::{Manners, Server};

const OPTIONS: Options = Options {
    retries: 1,
    retry_delay: std::time::Duration::ZERO,
    email: &["ops@example.com"],
    ..Options::DEFAULT
};

fn fails(_: &Context) -> Result<Work> {
    Ok(finish(async {
        tracing::info!("on my way");
        Err::<(), _>(Error::msg("the printer is on fire"))
    }))
}

fn failing() -> &'static Definition {
    let task = Task { task_id: "print", options: &OPTIONS, ..Task::FUNCTION };
    define("office", [(task, Body::Function(fails))])
}

fn with_mail(mut config: Config, port: u16) -> Config {
    let (host, from) = ("127.0.0.1".to_owned(), "biz@example.com".to_owned());
    config.smtp = Some(Smtp { host, port, tls: SmtpTls::Never, login: None, from });
    config
}

fn subjects(server: &Server) -> Vec<String> {
    let subject =
        |data: &str| data.lines().find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned));
    let mut subjects: Vec<_> = server.mails().iter().filter_map(|mail| subject(&mail.data)).collect();
    subjects.sort_unstable();
    subjects
}

async fn run(engine: &Engine, definition: &'static Definition) {
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Failed);
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_and_a_failure_are_mailed() {
    let server = Server::start(Manners::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let definition = failing();
    let engine =
        Engine::start(&with_mail(config(dir.path(), 1), server.port), &[definition], Mode::OneRun).unwrap();
    run(&engine, definition).await;
    assert_eq!(
        subjects(&server),
        ["[office] print failed (try 2 of 2)", "[office] print failed and is tried again (try 1 of 2)"]
    );
    let mails = server.mails();
    assert!(mails.iter().all(|mail| mail.to == ["ops@example.com"]), "{mails:?}");
    drop(engine);
    let writer = crate::store::Writer::open(&dir.path().join("biz.db"), Default::default()).unwrap();
    assert!(writer.notices().unwrap().is_empty(), "all are told");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_mailed_fails_no_run_and_is_told_by_a_later_process() {
    let busy = Server::start(Manners { taken: "451 come back later", ..Manners::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    let definition = failing();
    let engine =
        Engine::start(&with_mail(config(dir.path(), 1), busy.port), &[definition], Mode::OneRun).unwrap();
    run(&engine, definition).await;
    drop(engine);
    let path = dir.path().join("biz.db");
    let mut writer = crate::store::Writer::open(&path, Default::default()).unwrap();
    let notices = writer.notices().unwrap();
    assert_eq!(notices.iter().map(|notice| notice.tries).collect::<Vec<_>>(), [1, 1]);
    assert!(notices.iter().all(|notice| notice.due_at > Utc::now()));
    // Time passes.
    let due = notices.into_iter().map(|notice| {
        crate::store::Write::Notice(crate::store::NoticeRecord { due_at: DateTime::UNIX_EPOCH, ..notice })
    });
    writer.commit(&due.collect::<Vec<_>>()).unwrap();
    drop(writer);

    let server = Server::start(Manners::default()).await;
    let engine =
        Engine::start(&with_mail(config(dir.path(), 1), server.port), &[definition], Mode::OneRun).unwrap();
    until(async || (server.mails().len() == 2).then_some(())).await;
    engine.drain().await.unwrap();
    drop(engine);
    let writer = crate::store::Writer::open(&path, Default::default()).unwrap();
    assert!(writer.notices().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_nobody_takes_is_given_up() {
    let server = Server::start(Manners { taken: "550 no such thing", ..Manners::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    let definition = failing();
    let engine =
        Engine::start(&with_mail(config(dir.path(), 1), server.port), &[definition], Mode::OneRun).unwrap();
    run(&engine, definition).await;
    drop(engine);
    let writer = crate::store::Writer::open(&dir.path().join("biz.db"), Default::default()).unwrap();
    assert!(writer.notices().unwrap().is_empty());
}
