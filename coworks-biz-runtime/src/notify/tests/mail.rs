use std::sync::Arc;
use std::time::Duration;

use mail_parser::MessageParser;

use super::server::{Encrypts, Mail, Manners, Server};
use super::*;
use crate::config::{Environment, Secret, Secrets, Smtp, SmtpTls};

fn secrets() -> Arc<Secrets> {
    Arc::new(Secrets::new(Environment::from(|_| None)))
}

fn smtp(server: &Server, tls: SmtpTls) -> Smtp {
    let login = None;
    // The certificate is of this name.
    Smtp { host: "localhost".into(), port: server.port, tls, login, from: "Biz é <biz@example.com>".into() }
}

fn mailer(server: &Server, smtp: &Smtp) -> Mailer {
    Mailer::to(smtp, secrets(), Duration::from_secs(20), Some(server.root.clone())).unwrap()
}

/// A mailer without encryption.
fn plain(server: &Server) -> Mailer {
    mailer(server, &smtp(server, SmtpTls::Never))
}

/// The headers, and the text.
fn read(mail: &Mail) -> (String, String, String) {
    let message = MessageParser::default().parse(&mail.data).unwrap();
    let text = message.body_text(0).unwrap().replace("\r\n", "\n");
    (message.subject().unwrap().to_owned(), message.message_id().unwrap().to_owned(), text)
}

fn failure() -> Notice {
    notice(Subject::Failure(task()))
}

#[tokio::test]
async fn a_failure_is_told_with_why_and_how_to_look() {
    let server = Server::start(Manners::default()).await;
    let sent = plain(&server).send(&failure(), &["a@example.com", "B é <b@example.com>"]).await.unwrap();
    assert_eq!(sent.refused, []);
    let [mail] = &server.mails()[..] else { panic!("{:?}", server.mails()) };
    assert_eq!((&*mail.from, &*mail.to.join(" ")), ("biz@example.com", "a@example.com b@example.com"));
    let (subject, id, text) = read(mail);
    assert_eq!(subject, "[first] print_result failed (try 2 of 2)");
    assert_eq!(id, format!("{}@example.com", failure().id()));
    assert_eq!(
        text.trim_end(),
        "\
The task print_result of first has failed, and is not tried again.

Exception:
    the printer is on fire
    again

The end of its log:
    06:00:07 error   no paper

DAG           first
Run           scheduled__2026-01-31T06:00:00+00:00
Logical date  2026-01-31 06:00:00 UTC
At            2026-01-31 06:00:07 UTC
Host          machine
Task          print_result
Try           2 of 2
State         failed

To look closer:
    first show scheduled__2026-01-31T06:00:00+00:00 --biz first
    first logs scheduled__2026-01-31T06:00:00+00:00 --biz first --task print_result --try 2"
    );
    assert!(mail.data.contains("Auto-Submitted: auto-generated\r\n"), "{}", mail.data);
    assert!(mail.data.contains("Date: Sat, 31 Jan 2026 06:00:07 +0000\r\n"), "{}", mail.data);
}

#[tokio::test]
async fn a_retry_a_success_and_a_run_have_their_own_words_also_beyond_ascii() {
    let server = Server::start(Manners::default()).await;
    let mailer = plain(&server);
    let of_retry = TaskNotice {
        task_id: "prépare".into(),
        map_index: 3,
        state: State::UpForRetry,
        try_number: 1,
        next_try_at: Some(at("2026-01-31T06:05:00Z")),
        exception: Some("wörter: 言葉".into()),
        ..task()
    };
    for subject in [
        Subject::Retry(of_retry),
        Subject::Success(TaskNotice {
            state: State::Success,
            exception: None,
            log_excerpt: String::new(),
            ..task()
        }),
        run_failed(22),
    ] {
        let _ = mailer.send(&notice(subject), &["a@example.com"]).await.unwrap();
    }
    let read: Vec<_> = server.mails().iter().map(read).collect();
    let (subject, _, text) = &read[0];
    assert_eq!(subject, "[first] prépare[3] failed and is tried again (try 1 of 2)");
    assert!(text.contains("    wörter: 言葉\n") && text.contains("Next try      2026-01-31 06:05:00 UTC\n"));
    assert!(text.contains("--task 'prépare[3]' --try 1"), "{text}");
    let (subject, _, text) = &read[1];
    assert_eq!(subject, "[first] print_result succeeded");
    assert!(!text.contains("Exception") && !text.contains("log:"), "{text}");
    let (subject, _, text) = &read[2];
    assert_eq!(subject, "[first] run scheduled__2026-01-31T06:00:00+00:00 failed");
    let list = "    send[0]: no such address\n    send[1]\n";
    assert!(text.contains(list) && text.contains("    send[19]\n    and 2 more\n"), "{text}");
}

#[tokio::test]
async fn many_mails_go_over_one_connection_and_the_same_notice_has_the_same_id() {
    let server = Server::start(Manners::default()).await;
    let mailer = plain(&server);
    for _ in 0..3 {
        let _ = mailer.send(&failure(), &["a@example.com"]).await.unwrap();
        // The connection goes back by a task of its own, which is next on this thread.
        tokio::task::yield_now().await;
    }
    let mails = server.mails();
    assert_eq!((mails.len(), server.connections()), (3, 1));
    assert!(mails.iter().all(|mail| mail.data == mails[0].data), "{mails:?}");
}

#[tokio::test]
async fn no_secret_is_in_a_mail() {
    let server = Server::start(Manners::default()).await;
    let mailer = plain(&server);
    mailer.hide("very-secret");
    let subject = Subject::Failure(TaskNotice {
        task_id: "very-secret".into(),
        exception: Some("`very-secret` is wrong".into()),
        log_excerpt: "with very-secret".into(),
        ..task()
    });
    let _ = mailer.send(&notice(subject), &["a@example.com"]).await.unwrap();
    let (subject, _, text) = read(&server.mails()[0]);
    assert!(text.contains("    `***` is wrong\n") && text.contains("    with ***\n"), "{text}");
    assert!(!text.contains("secret") && !subject.contains("secret"), "{subject} {text}");
}

#[tokio::test]
async fn the_password_goes_over_tls_from_the_start_or_when_asked() {
    for (encrypts, tls) in
        [(Encrypts::FromTheStart, SmtpTls::Wrapper), (Encrypts::WhenAsked, SmtpTls::Required)]
    {
        let server =
            Server::start(Manners { encrypts, login: Some(("me", "hunter22")), ..Manners::default() }).await;
        let login = |word: &str| Smtp { login: Some(("me".into(), Secret::new(word))), ..smtp(&server, tls) };
        let _ = mailer(&server, &login("hunter22")).send(&failure(), &["a@example.com"]).await.unwrap();
        let mail = &server.mails()[0];
        assert_eq!((mail.user.as_deref(), mail.encrypted), (Some("me"), true));

        let error = mailer(&server, &login("other")).send(&failure(), &["a@example.com"]).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("does not let us in, see COWORKS_SMTP_URL: "), "{text}");
        assert!(text.contains("wrong password") && !error.is_fatal(), "{text}");
        let error =
            mailer(&server, &smtp(&server, tls)).send(&failure(), &["a@example.com"]).await.unwrap_err();
        assert!(error.to_string().contains("log in first") && !error.is_fatal(), "{error}");
        assert_eq!(server.mails().len(), 1);
    }
}

#[tokio::test]
async fn tls_that_cannot_be_trusted_or_is_not_there_keeps_the_mail_back() {
    let server = Server::start(Manners { encrypts: Encrypts::WhenAsked, ..Manners::default() }).await;
    let stranger =
        Mailer::to(&smtp(&server, SmtpTls::Required), secrets(), Duration::from_secs(20), None).unwrap();
    let error = stranger.send(&failure(), &["a@example.com"]).await.unwrap_err();
    assert!(!error.is_fatal() && error.to_string().contains("certificate"), "{error}");

    let clear = Server::start(Manners::default()).await;
    let error = mailer(&clear, &smtp(&clear, SmtpTls::Required))
        .send(&failure(), &["a@example.com"])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("STARTTLS"), "{error}");
    assert_eq!(clear.mails().len() + server.mails().len(), 0);

    let opportunistic = smtp(&clear, SmtpTls::Opportunistic);
    let _ = mailer(&clear, &opportunistic).send(&failure(), &["a@example.com"]).await.unwrap();
    let opportunistic = smtp(&server, SmtpTls::Opportunistic);
    let _ = mailer(&server, &opportunistic).send(&failure(), &["a@example.com"]).await.unwrap();
    assert_eq!((clear.mails()[0].encrypted, server.mails()[0].encrypted), (false, true));
}

#[tokio::test]
async fn an_address_that_is_refused_does_not_keep_the_mail_from_the_others() {
    let refuses = &[("gone@x.org", "550 5.1.1 no such user"), ("busy@x.org", "450 4.2.0 greylisted")];
    let server = Server::start(Manners { refuses, ..Manners::default() }).await;
    let mailer = plain(&server);
    let to = ["gone@x.org", "a@x.org", "no address", "busy@x.org", "b@x.org"];
    let sent = mailer.send(&failure(), &to).await.unwrap();
    let told: Vec<_> = sent.refused.iter().map(|r| (&*r.to, r.may_pass)).collect();
    assert_eq!(told, [("no address", false), ("gone@x.org", false), ("busy@x.org", true)]);
    assert!(sent.refused[1].reason.contains("no such user"), "{sent:?}");
    let got: Vec<_> = server.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(got, [["a@x.org"], ["b@x.org"]]);

    let error = mailer.send(&failure(), &["gone@x.org"]).await.unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("no such user"), "{error}");
    let error = mailer.send(&failure(), &["busy@x.org", "gone@x.org"]).await.unwrap_err();
    assert!(!error.is_fatal() && error.to_string().contains("greylisted"), "{error}");
    let error = mailer.send(&failure(), &["nobody"]).await.unwrap_err();
    assert!(error.is_fatal() && error.to_string().starts_with("nobody: it is no e-mail address"), "{error}");
    let error = mailer.send(&failure(), &[]).await.unwrap_err();
    assert!(error.is_fatal(), "{error}");
}

#[tokio::test]
async fn a_mail_that_is_not_taken_says_so_and_whether_it_may_be_later() {
    for (taken, fatal) in [("451 4.3.0 disk full", false), ("554 5.7.1 looks like spam", true)] {
        let server = Server::start(Manners { taken, ..Manners::default() }).await;
        let error = plain(&server).send(&failure(), &["a@example.com"]).await.unwrap_err();
        let said = taken.split_once(' ').unwrap().1;
        assert!(error.is_fatal() == fatal && error.to_string().contains(said), "{error}");
        assert!(error.to_string().starts_with("the SMTP server localhost:"), "{error}");
    }
    // A port at which nobody listens any more.
    let server = Server::start(Manners::default()).await;
    let mailer = plain(&server);
    drop(server);
    let error = mailer.send(&failure(), &["a@example.com"]).await.unwrap_err();
    assert!(!error.is_fatal(), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    for verb in ["EHLO", "RCPT", "DATA"] {
        let server = Server::start(Manners { silent_after: Some(verb), ..Manners::default() }).await;
        let limit = Duration::from_millis(100);
        let mailer = Mailer::to(&smtp(&server, SmtpTls::Never), secrets(), limit, None).unwrap();
        let error = mailer.send(&failure(), &["a@example.com", "b@example.com"]).await.unwrap_err();
        assert!(!error.is_fatal(), "{error}");
        assert_eq!(server.mails().len(), 0);
    }
}

#[test]
fn a_sender_that_is_no_address_is_named_with_its_setting() {
    let smtp =
        Smtp { host: "localhost".into(), port: 25, tls: SmtpTls::Never, login: None, from: "the biz".into() };
    let error = Mailer::to(&smtp, secrets(), Duration::from_secs(1), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "COWORKS_SMTP_FROM is `the biz`; it must be an address such as `biz@example.com` or \
         `Biz <biz@example.com>`"
    );
}
