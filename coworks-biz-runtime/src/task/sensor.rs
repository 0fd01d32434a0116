//! A sensor: one call for each attempt, and nothing held from one to the next.

use chrono::{DateTime, TimeDelta, Utc};

use super::attempt::{Attempt, Awaited, Outcome, Wait};
use crate::clock::{Clock, later};
use crate::error::{Error, Result, Retry};
use crate::tech::{Answer, Arguments, Client, SensorCall};
use crate::value::{self, Json, Type};

/// Calls once. It is what was waited for, or it is not yet and is deferred, or it has been too long.
pub(super) async fn poke(
    sensor: &SensorCall,
    arguments: &Arguments,
    attempt: &Attempt,
    services: &Client,
    clock: &Clock,
) -> Result<Outcome> {
    // A service that wants to be left alone is, but for the last look: it is not waited beyond the time.
    let end = end(sensor, attempt.started);
    if let Some(until) = services.left_alone(&sensor.call.service).filter(|_| clock.now() < end) {
        tracing::info!("`{}` asked to be left alone until {until}", sensor.call.service.name());
        let wait = Wait { what: Awaited::Moment, until: Some(until.min(end)) };
        return Ok(Outcome { wait: Some(wait), ..Outcome::default() });
    }
    let mut who = attempt.run.identity(attempt.node().task_id, attempt);
    // Each is a question of its own: a service that knows the key would give the old answer again.
    who.idempotency_key.push_str(&format!(".{}", clock.now().timestamp_micros()));
    // What looks at the answer wants it, also where nobody takes it.
    let any = Type::of::<serde_json::Value>();
    let output = sensor.call.output.as_ref().or(sensor.until.is_some().then_some(&any));
    let answer = services.call_for(output, &sensor.call, arguments, &who, false).await;
    let (reason, not_before) = match judge(sensor, answer)? {
        Verdict::Yes(answer) => {
            let mut outcome = Outcome::default();
            outcome.push("cws_name", Json::encode(&sensor.call.service.name())?);
            outcome.answer(answer)?;
            return Ok(outcome);
        }
        Verdict::NotYet(reason, not_before) => (reason, not_before),
    };
    let until = next(sensor, not_before, attempt.started, clock.now()).ok_or_else(|| {
        let timeout = humantime::format_duration(sensor.timeout);
        // As in Airflow: it has had its time, and its retries are for other failures.
        Error::fatal(format!("not there within its timeout of {timeout}: {reason}"))
    })?;
    tracing::info!("not yet: {reason}");
    let wait = Wait { what: Awaited::Moment, until: Some(until) };
    Ok(Outcome { wait: Some(wait), ..Outcome::default() })
}

/// What a call says.
#[derive(Debug)]
enum Verdict {
    Yes(Answer),
    /// Why not, and how long the service wants to be left alone.
    NotYet(String, TimeDelta),
}

fn judge(sensor: &SensorCall, answer: Result<Answer>) -> Result<Verdict> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return match (error.status(), error.retry()) {
                // Who is not let in today is not let in tomorrow.
                (Some(401 | 403), _) => Err(error),
                // Not an answer: the address, a secret, or the type of what came is wrong.
                (None, Retry::Never) => Err(error),
                (_, Retry::After(delay)) => Ok(Verdict::NotYet(error.to_string(), delta(delay))),
                _ => Ok(Verdict::NotYet(error.to_string(), TimeDelta::zero())),
            };
        }
    };
    let value = match sensor.call.output.as_ref().is_some_and(Type::is_reply) {
        true => value::assemble(answer.status, answer.value.as_ref(), answer.headers.as_ref()),
        false => answer.value.clone().unwrap_or_else(|| Json::from_stored("null")),
    };
    let good = match sensor.until {
        Some(until) => until(&value)?,
        // A reply may be a refusal. Who is not let in today is not let in tomorrow.
        None if matches!(answer.status, 401 | 403) => {
            return Err(Error::fatal(format!("the service answered {}", answer.status)));
        }
        None => answer.status < 400,
    };
    match good {
        false => {
            let reason = format!("it answered {}, and not what is waited for", answer.status);
            Ok(Verdict::NotYet(reason, TimeDelta::zero()))
        }
        true => Ok(Verdict::Yes(answer)),
    }
}

/// When to call again; `None` where the time is over. The last call is at the very end.
fn next(
    sensor: &SensorCall,
    not_before: TimeDelta,
    started: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let end = end(sensor, started);
    let again = now.checked_add_signed(delta(sensor.poke_interval).max(not_before));
    (now < end).then(|| again.unwrap_or(end).min(end))
}

/// When it has had its time.
fn end(sensor: &SensorCall, started: DateTime<Utc>) -> DateTime<Utc> {
    later(started, sensor.timeout)
}

fn delta(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tech::{Call, Method, Service, Token};

    fn sensor(until: Option<fn(&Json) -> Result<bool>>) -> SensorCall {
        let call = Call {
            method: Method::Get,
            path: "/",
            service: Service::Url("http://x"),
            token: Token::None,
            accept: "*/*",
            request_timeout: Duration::from_secs(1),
            log_response: false,
            output: None,
        };
        SensorCall { call, poke_interval: Duration::from_secs(60), timeout: Duration::from_secs(600), until }
    }

    #[test]
    fn only_who_is_not_let_in_and_what_cannot_be_asked_fail_at_once() {
        let not_yet = |error: Error| match judge(&sensor(None), Err(error)) {
            Ok(Verdict::NotYet(_, delay)) => Some(delay.num_seconds()),
            Ok(Verdict::Yes(_)) => panic!("an error is no success"),
            Err(_) => None,
        };
        for status in [400, 404, 410, 500] {
            assert_eq!(not_yet(Error::fatal("no").answered(status)), Some(0), "{status}");
        }
        for status in [401, 403] {
            assert_eq!(not_yet(Error::fatal("no").answered(status)), None, "{status}");
        }
        assert_eq!(not_yet(Error::msg("no route")), Some(0));
        assert_eq!(not_yet(Error::msg("busy").retry_after(Duration::from_secs(9)).answered(503)), Some(9));
        assert_eq!(not_yet(Error::fatal("no such secret")), None);
    }

    #[test]
    fn an_answer_is_judged_by_until() {
        let answer =
            |value: &str| Ok(Answer { status: 200, value: Some(Json::from_stored(value)), headers: None });
        let done = |until, value| matches!(judge(&sensor(until), answer(value)), Ok(Verdict::Yes(_)));
        assert!(done(None, "false"));
        assert!(done(Some(|json| json.decode()), "true"));
        assert!(!done(Some(|json| json.decode()), "false"));
        assert!(judge(&sensor(Some(|json| json.decode())), answer("7")).is_err());
        let dropped = Ok(Answer { status: 204, value: None, headers: None });
        assert!(matches!(judge(&sensor(Some(|j| Ok(j.as_str() == "null"))), dropped), Ok(Verdict::Yes(_))));
    }

    #[test]
    fn the_last_call_is_at_the_end_of_the_time() {
        let at = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap();
        let next = |not_before: i64, now: i64| {
            next(&sensor(None), TimeDelta::seconds(not_before), at(0), at(now)).map(|at| at.timestamp())
        };
        assert_eq!(next(0, 10), Some(70));
        assert_eq!(next(100, 10), Some(110));
        assert_eq!(next(0, 570), Some(600));
        assert_eq!(next(0, 600), None);
    }
}
