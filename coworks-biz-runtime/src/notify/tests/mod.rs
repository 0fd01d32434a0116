#[cfg(feature = "email")]
mod mail;
#[cfg(feature = "email")]
pub(crate) mod server;
mod webhook;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::*;
use crate::run::{RunState, State};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn notice(subject: Subject) -> Notice {
    Notice {
        at: at("2026-01-31T06:00:07.5Z"),
        host: "machine".into(),
        program: "first".into(),
        dag_id: "first".into(),
        run_id: "scheduled__2026-01-31T06:00:00+00:00".into(),
        run_uuid: "0190c5d2-0000-7000-8000-000000000001".into(),
        logical_date: at("2026-01-31T06:00:00Z"),
        subject,
    }
}

fn task() -> TaskNotice {
    TaskNotice {
        task_id: "print_result".into(),
        map_index: -1,
        state: State::Failed,
        try_number: 2,
        max_tries: 2,
        next_try_at: None,
        exception: Some("the printer is on fire\nagain".into()),
        log_excerpt: "06:00:07 error   no paper".into(),
    }
}

fn run_failed(tasks: usize) -> Subject {
    let failed = |index| FailedTask {
        task_id: "send".into(),
        map_index: index as i32,
        exception: (index == 0).then(|| "no such address\nat all".into()),
    };
    Subject::RunFailed(RunFailed { state: RunState::Failed, failed_tasks: (0..tasks).map(failed).collect() })
}

#[test]
fn a_notice_is_one_flat_object_and_read_back() {
    let retry = TaskNotice {
        state: State::UpForRetry,
        try_number: 1,
        next_try_at: Some(at("2026-01-31T06:05:00Z")),
        ..task()
    };
    let notice_of_retry = notice(Subject::Retry(retry));
    let json = serde_json::to_value(&notice_of_retry).unwrap();
    assert_eq!(
        json,
        json!({
            "kind": "retry",
            "at": "2026-01-31T06:00:07.500Z",
            "host": "machine",
            "program": "first",
            "dag_id": "first",
            "run_id": "scheduled__2026-01-31T06:00:00+00:00",
            "run_uuid": "0190c5d2-0000-7000-8000-000000000001",
            "logical_date": "2026-01-31T06:00:00Z",
            "task_id": "print_result",
            "map_index": -1,
            "state": "up_for_retry",
            "try_number": 1,
            "max_tries": 2,
            "next_try_at": "2026-01-31T06:05:00Z",
            "exception": "the printer is on fire\nagain",
            "log_excerpt": "06:00:07 error   no paper",
        })
    );
    assert_eq!(serde_json::from_value::<Notice>(json).unwrap(), notice_of_retry);
    let of_run = notice(run_failed(1));
    let json = serde_json::to_value(&of_run).unwrap();
    assert_eq!((&json["kind"], &json["state"]), (&json!("run_failed"), &json!("failed")));
    assert_eq!(
        json["failed_tasks"],
        json!([{ "task_id": "send", "map_index": 0, "exception": "no such address\nat all" }])
    );
    assert_eq!(serde_json::from_value::<Notice>(json).unwrap(), of_run);
}

#[test]
fn the_id_is_of_one_notice_alone_and_the_same_each_time() {
    let mapped = |map_index| TaskNotice { map_index, ..task() };
    let later = |subject| Notice { at: at("2026-01-31T06:00:08Z"), ..notice(subject) };
    let all = [
        notice(Subject::Failure(task())),
        notice(Subject::Retry(task())),
        notice(Subject::Success(task())),
        notice(Subject::Failure(mapped(1))),
        notice(Subject::Failure(mapped(2))),
        notice(Subject::Failure(TaskNotice { try_number: 1, ..task() })),
        notice(Subject::Failure(TaskNotice { task_id: "other".into(), ..task() })),
        Notice { run_uuid: "another".into(), ..notice(Subject::Failure(task())) },
        later(Subject::Failure(task())),
        notice(run_failed(1)),
        // Of a run that was cleared, and has failed once more.
        later(run_failed(1)),
    ];
    let ids: std::collections::HashSet<_> = all.iter().map(Notice::id).collect();
    assert_eq!(ids.len(), all.len());
    assert_eq!(notice(Subject::Failure(task())).id(), all[0].id());
    let stored = serde_json::to_string(&all[0]).unwrap();
    assert_eq!(serde_json::from_str::<Notice>(&stored).unwrap().id(), all[0].id());
}

#[test]
fn of_a_log_the_end_is_told() {
    let record = |n: usize, event: &str| {
        format!(
            r#"{{"timestamp":"2026-01-31T06:00:{n:02}.123456Z","level":"info","event":"{event}","logger":"x","orders":{n}}}"#
        )
    };
    let records: String = (0..30).map(|n| record(n, "sent") + "\n").collect();
    let text = excerpt(&records);
    assert_eq!(text.lines().count(), 20);
    assert_eq!(text.lines().next(), Some("06:00:10 info    sent orders=10"));
    assert_eq!(text.lines().last(), Some("06:00:29 info    sent orders=29"));

    let long: String = (0..30).map(|n| record(n, &"é".repeat(1000)) + "\n").collect();
    assert!(excerpt(&long).len() <= 8 * 1024 && excerpt(&long).ends_with("orders=29"));
    let endless = excerpt(&record(1, &"é".repeat(100_000)));
    assert!(endless.len() < 8 * 1024 + 8 && endless.ends_with('…'), "{}", endless.len());
    assert_eq!((excerpt(""), excerpt("no record")), (String::new(), "no record".into()));
}
