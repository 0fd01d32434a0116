//! The members of an asynchronous call: `call > wait > read`, which are one
//! logical call. The member that finds the answer missing or refused asks again.

use std::sync::atomic::Ordering;

use super::attempt::{Attempt, Awaited, Outcome, Resume, Side, Wait};
use super::upstream::inputs;
use super::{Context, Member};
use crate::clock::later;
use crate::error::{Error, Result};
use crate::tech::{
    Answer, Arguments, Asked, AsyncCall, Body, Client, Found, Look, Unread, Wanted, read_envelope,
};
use crate::value::{Json, Object};

pub(super) struct Group<'a> {
    pub(super) call: &'static AsyncCall,
    pub(super) arguments: Option<fn(&Context) -> Result<Arguments>>,
    /// The index of the member that sends.
    pub(super) submit: u32,
    pub(super) attempt: &'a Attempt,
    pub(super) context: Context,
    pub(super) side: &'a Side,
}

impl Group<'_> {
    pub(super) async fn perform(&self, member: Member) -> Result<Outcome> {
        match member {
            Member::Submit => self.submit().await,
            Member::Wait => self.wait().await,
            Member::Read => self.read().await,
        }
    }

    async fn submit(&self) -> Result<Outcome> {
        if let Some(later) = Outcome::later(self.services(), &self.call.call.service) {
            return Ok(later);
        }
        let bucket = self.call.bucket.unwrap_or(self.services().bucket());
        let call =
            self.attempt.run.call_name(self.submit_id(), self.attempt.map_index, self.attempt.generation);
        let object = Object::of_call(bucket, self.context.host.engine_id(), &call);
        self.services().results().await.check(bucket).await?;
        self.send(&object).await?;
        let mut outcome = Outcome::default();
        outcome.push("cws_name", Json::encode(&self.call.call.service.name())?);
        outcome.push("bucket", Json::encode(&object.bucket)?);
        outcome.push("key", Json::encode(&object.key)?);
        Ok(outcome)
    }

    async fn wait(&self) -> Result<Outcome> {
        let object = self.result().await?;
        match self.attempt.resume {
            Some(Resume::Arrived) => Ok(Outcome::default()),
            Some(Resume::Interrupted) => Ok(self.defer(object)),
            Some(Resume::Overdue) => {
                self.look_late(&object).await?;
                Ok(Outcome::default())
            }
            None => {
                if self.attempt.nth() > 1 {
                    // It may have come since the last try gave up.
                    if self.services().results().await.look(&object).await? == Look::There {
                        return Ok(Outcome::default());
                    }
                    // Sent again under the same name and to the same key: if the
                    // first one is only slow, its answer serves.
                    self.send(&object).await?;
                }
                Ok(self.defer(object))
            }
        }
    }

    async fn read(&self) -> Result<Outcome> {
        let first = self.result().await?;
        let asked_now = first.asked_by(self.attempt.nth());
        let refused = match self.attempt.resume {
            Some(Resume::Interrupted) => return Ok(self.defer(asked_now)),
            Some(resume) => {
                if resume == Resume::Overdue {
                    self.look_late(&asked_now).await?;
                }
                let bytes = self.fetch(&asked_now).await?.ok_or_else(|| gone(&asked_now))?;
                let answer = self.answer(&first, &asked_now, bytes, self.attempt.last_try)?;
                return self.done(&first, answer);
            }
            None => match self.newest(&first).await? {
                // What an earlier try was refused is the last word only where this one cannot ask.
                Some((object, bytes)) => {
                    match self.answer(&first, &object, bytes, self.attempt.last_try && !self.can_ask()) {
                        Ok(answer) => return self.done(&first, answer),
                        Err(refused) => refused,
                    }
                }
                None => gone(&first),
            },
        };
        if !self.can_ask() || refused.is_fatal() {
            return Err(refused);
        }
        tracing::warn!("{refused}; asking again");
        self.send(&asked_now).await?;
        Ok(self.defer(asked_now))
    }

    /// The answer that was asked for last, of those that are there. An earlier
    /// try may have failed to read it for reasons of its own.
    async fn newest(&self, first: &Object) -> Result<Option<(Object, Body)>> {
        for asked in (1..self.attempt.nth().max(2)).rev() {
            let object = first.asked_by(asked);
            if let Some(bytes) = self.fetch(&object).await? {
                return Ok(Some((object, bytes)));
            }
        }
        Ok(None)
    }

    async fn fetch(&self, object: &Object) -> Result<Option<Body>> {
        match self.services().results().await.read(object, self.call.call.output.as_ref()).await? {
            Found::Body(body) => Ok(Some(body)),
            Found::Missing => Ok(None),
            Found::Unfit(error) => {
                self.side.kept.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Whether this try of `read` asks again. Before the first one, `call` has asked.
    fn can_ask(&self) -> bool {
        self.attempt.nth() > 1
    }

    fn answer(&self, first: &Object, object: &Object, body: Body, last_try: bool) -> Result<Answer> {
        tracing::info!("{} bytes from {object}", body.size());
        let (call, secrets) = (&self.call.call, self.context.host.secrets());
        let asked = &Asked::stored(call, secrets);
        let log = call.log_response.then_some(&**secrets);
        let wanted = Wanted { output: call.output.as_ref(), last_try, asked, stored: Some(object), log };
        match read_envelope(body, &wanted) {
            Ok(answer) => Ok(answer),
            Err(Unread::Unfit(error)) => {
                self.side.kept.store(true, Ordering::Relaxed);
                Err(error)
            }
            Err(Unread::Refused(error)) => {
                *self.side.refused.lock().unwrap_or_else(|e| e.into_inner()) = self.served(first);
                Err(error)
            }
        }
    }

    fn done(&self, first: &Object, answer: Answer) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        outcome.answer(answer)?;
        outcome.delete = self.served(first);
        Ok(outcome)
    }

    /// The objects that are not needed once this task is over: all that were asked for.
    fn served(&self, first: &Object) -> Vec<Object> {
        match self.call.keep {
            true => Vec::new(),
            false => (1..=self.attempt.nth()).map(|asked| first.asked_by(asked)).collect(),
        }
    }

    fn defer(&self, object: Object) -> Outcome {
        let until = later(self.attempt.started, self.call.timeout);
        tracing::debug!("waits for {object}");
        Outcome {
            wait: Some(Wait { what: Awaited::Object(object), until: Some(until) }),
            ..Outcome::default()
        }
    }

    /// The last look, after the deadline: no wait gives up without one.
    async fn look_late(&self, object: &Object) -> Result<()> {
        let hint = match self.services().results().await.look(object).await? {
            Look::There => return Ok(()),
            Look::Missing => "",
            Look::Forbidden => {
                "; S3 answers 403, so that the key may be missing, or not to be read with these credentials"
            }
        };
        let timeout = humantime::format_duration(self.call.timeout);
        Err(Error::msg(format!("no answer at {object} within its timeout of {timeout}{hint}")))
    }

    /// Where the answer of the first asking is: what `call` pushed.
    async fn result(&self) -> Result<Object> {
        let submit = self.submit_id();
        Ok(Object {
            bucket: self.context.xcom_pull_key(submit, "bucket").await?,
            key: self.context.xcom_pull_key(submit, "key").await?,
        })
    }

    async fn send(&self, object: &Object) -> Result<()> {
        let arguments = match self.arguments {
            Some(make) => {
                // Whoever asks again, what is sent is made of the inputs of `call`.
                let inputs = inputs(&self.context.host, self.attempt, self.submit).await?;
                make(&Context { inputs, ..self.context.clone() })?
            }
            None => Arguments::default(),
        };
        let who = self.attempt.run.identity(self.submit_id(), self.attempt);
        // Who asks again waited in the queue for a service that wants to be left alone, until a moment ago.
        self.services().wait_for(&self.call.call.service.address()).await?;
        self.services().submit(&self.call.call, &arguments, &who, object).await
    }

    fn submit_id(&self) -> &'static str {
        self.attempt.definition.dag.tasks[self.submit as usize].task_id
    }

    fn services(&self) -> &Client {
        self.context.host.services()
    }
}

fn gone(object: &Object) -> Error {
    Error::msg(format!("there is no answer at {object} any more: it was deleted before it was read"))
}
