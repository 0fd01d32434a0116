//! The results of asynchronous calls, in S3.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::DEFAULT_REGION;
use super::intake::{Body, Intake, Want};
use crate::config::S3;
use crate::error::{Error, Result, chain};
use crate::value::{Object, Type};

/// A connection to S3.
#[derive(Debug)]
pub struct Results {
    client: aws_sdk_s3::Client,
    /// The buckets that are known to exist.
    checked: Mutex<HashSet<String>>,
    /// Whether it was told that S3 does not say which objects are missing.
    forbidden: AtomicBool,
}

/// What a look for an object found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is there.
    There,
    /// It is not.
    Missing,
    /// S3 does not say: a missing key answers 403 to who may not list the bucket.
    Forbidden,
}

/// What is at a key.
#[derive(Debug)]
pub enum Found {
    /// This.
    Body(Body),
    /// Nothing, as far as S3 says.
    Missing,
    /// Something that cannot be taken, and stays for who has to find out why.
    Unfit(Error),
}

/// A page of the keys of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// These, in their order.
    Keys {
        /// The keys.
        keys: Vec<String>,
        /// Whether there are more behind them.
        more: bool,
    },
    /// Who asks may not list the bucket.
    Forbidden,
}

impl Results {
    /// Connects to the server that is configured, else to the one that the environment's `AWS_*` names.
    pub async fn connect(s3: &S3) -> Self {
        // A request without an end would hold up whoever waits for what it looks for.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(Duration::from_secs(15))
            .operation_timeout(Duration::from_secs(40))
            .build();
        let config = match &s3.server {
            Some(server) => {
                let (key, secret) = (&server.access_key, server.secret_key.expose());
                // On this machine: never through a proxy, and nothing of the environment concerns it.
                aws_sdk_s3::config::Builder::new()
                    .behavior_version(BehaviorVersion::latest())
                    .timeout_config(timeouts)
                    .http_client(aws_smithy_http_client::Builder::new().build_http())
                    .endpoint_url(&server.endpoint)
                    .credentials_provider(Credentials::new(key, secret, None, None, "by hand"))
                    .region(Region::new(DEFAULT_REGION))
            }
            None => {
                let loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
                let region = RegionProviderChain::default_provider().or_else(DEFAULT_REGION);
                aws_sdk_s3::config::Builder::from(&loader.region(region).load().await)
            }
        };
        let config = config.force_path_style(s3.path_style || s3.server.is_some());
        Self {
            client: aws_sdk_s3::Client::from_conf(config.build()),
            checked: Mutex::default(),
            forbidden: AtomicBool::new(false),
        }
    }

    /// Refuses a bucket that does not exist, before a call asks for an answer there. Asks once.
    pub async fn check(&self, bucket: &str) -> Result<()> {
        if self.checked.lock().unwrap_or_else(|e| e.into_inner()).contains(bucket) {
            return Ok(());
        }
        match self.client.head_bucket().bucket(bucket).send().await {
            Ok(_) => {}
            // Who may not ask about the bucket may still read from it.
            Err(e) if status(&e) == Some(403) => {}
            Err(e) if status(&e) == Some(404) => {
                return Err(Error::fatal(format!(
                    "there is no bucket `{bucket}`: create it, or name another with COWORKS_BUCKET or `bucket = ..`"
                )));
            }
            Err(e) => return Err(fault(&format!("the bucket `{bucket}`"), &e)),
        }
        self.checked.lock().unwrap_or_else(|e| e.into_inner()).insert(bucket.to_owned());
        Ok(())
    }

    /// Whether the object is there.
    pub async fn look(&self, object: &Object) -> Result<Look> {
        match self.client.head_object().bucket(&object.bucket).key(&object.key).send().await {
            Ok(_) => Ok(Look::There),
            Err(e) => match status(&e) {
                Some(404) => Ok(Look::Missing),
                Some(403) => {
                    self.warn_of_forbidden(object);
                    Ok(Look::Forbidden)
                }
                _ => Err(fault(&object.to_string(), &e)),
            },
        }
    }

    /// The keys with this beginning that come behind `after`: a thousand of them.
    pub async fn page(&self, bucket: &str, prefix: &str, after: &str) -> Result<Page> {
        let list = self.client.list_objects_v2().bucket(bucket).prefix(prefix).start_after(after);
        match list.send().await {
            Ok(page) => {
                let more = page.is_truncated().unwrap_or(false);
                let keys = page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key);
                Ok(Page::Keys { keys: keys.collect(), more })
            }
            Err(e) if status(&e) == Some(403) => {
                tracing::warn!(
                    "S3 answers 403 to a listing of the bucket `{bucket}`: each result is looked for by itself. The \
                     right `s3:ListBucket` on it makes waiting for many results faster and cheaper"
                );
                Ok(Page::Forbidden)
            }
            Err(e) => Err(fault(&format!("the bucket `{bucket}`"), &e)),
        }
    }

    fn warn_of_forbidden(&self, object: &Object) {
        if !self.forbidden.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "S3 answers 403 for {object}: without the right `s3:ListBucket` that is also its answer for what is \
                 missing; waiting on, for a wrong key or wrong credentials cannot be told from that"
            );
        }
    }

    /// What the object holds, for an output of this type.
    pub async fn read(&self, object: &Object, output: Option<&Type>) -> Result<Found> {
        let mut got = match self.client.get_object().bucket(&object.bucket).key(&object.key).send().await {
            Ok(got) => got,
            Err(e) if status(&e) == Some(404) => return Ok(Found::Missing),
            // That is also its answer for what is missing, but to who may list the bucket.
            Err(e) if status(&e) == Some(403) && self.is_listed(object).await => {
                let fault = fault(&object.to_string(), &e);
                return Ok(Found::Unfit(Error::fatal(format!(
                    "{fault}; it is there, and these credentials may not read it (`s3:GetObject`, or its key). \
                     The object is kept"
                ))));
            }
            Err(e) if status(&e) == Some(403) => {
                self.warn_of_forbidden(object);
                return Ok(Found::Missing);
            }
            Err(e) => return Err(fault(&object.to_string(), &e)),
        };
        let too_large = |e| Ok(Found::Unfit(Error::fatal(format!("{object} holds {e}. The object is kept"))));
        let size = got.content_length().and_then(|size| u64::try_from(size).ok());
        let mut body = match Intake::new(Want::of_object(output), size) {
            Ok(body) => body,
            Err(e) => return too_large(e),
        };
        let mut taken = 0;
        while let Some(piece) = got.body.next().await {
            let piece = piece.map_err(|e| {
                let of = size.map(|size| format!(" of {size}")).unwrap_or_default();
                Error::msg(format!("{object} broke off after {taken}{of} bytes: {}", chain(&e)))
            })?;
            taken += piece.len();
            if let Err(e) = body.push(&piece) {
                return too_large(e);
            }
        }
        Ok(Found::Body(body.finish()))
    }

    /// Whether a listing has the object. Who may not list learns nothing.
    async fn is_listed(&self, object: &Object) -> bool {
        let list = self.client.list_objects_v2().bucket(&object.bucket).prefix(&object.key).max_keys(1);
        let listed = list.send().await.ok().and_then(|page| page.contents).unwrap_or_default();
        listed.iter().any(|found| found.key.as_deref() == Some(&object.key))
    }

    /// Stores an object: what a service does with its answer.
    #[cfg(feature = "local")]
    pub async fn write(&self, object: &Object, bytes: Vec<u8>) -> Result<()> {
        let put = self.client.put_object().bucket(&object.bucket).key(&object.key).body(bytes.into());
        put.send().await.map(drop).map_err(|e| fault(&object.to_string(), &e))
    }

    /// Deletes up to a thousand objects, and says of each why not; one that is gone already is no error.
    pub async fn delete(&self, objects: &[&Object]) -> Vec<Result<(), String>> {
        let mut results = vec![Ok(()); objects.len()];
        let mut of_bucket: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, object) in objects.iter().enumerate() {
            of_bucket.entry(&object.bucket).or_default().push(place);
        }
        for (bucket, places) in of_bucket {
            let failed = match places.as_slice() {
                &[place] => match self.delete_one(objects[place]).await {
                    Ok(()) => Vec::new(),
                    Err(error) => vec![(place, error.to_string())],
                },
                _ => self.delete_many(bucket, objects, &places).await,
            };
            for (place, error) in failed {
                results[place] = Err(error);
            }
        }
        results
    }

    async fn delete_one(&self, object: &Object) -> Result<()> {
        match self.client.delete_object().bucket(&object.bucket).key(&object.key).send().await {
            Ok(_) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            Err(e) => Err(fault(&object.to_string(), &e)),
        }
    }

    /// In one request; those that could not be, with why.
    async fn delete_many(&self, bucket: &str, objects: &[&Object], places: &[usize]) -> Vec<(usize, String)> {
        let all =
            |why: &dyn std::fmt::Display| places.iter().map(|&place| (place, why.to_string())).collect();
        let ids = places.iter().map(|&place| ObjectIdentifier::builder().key(&objects[place].key).build());
        let delete = ids
            .collect::<Result<Vec<_>, _>>()
            .and_then(|ids| Delete::builder().quiet(true).set_objects(Some(ids)).build());
        let delete = match delete {
            Ok(delete) => delete,
            Err(error) => return all(&error),
        };
        match self.client.delete_objects().bucket(bucket).delete(delete).send().await {
            Err(e) if status(&e) == Some(404) => Vec::new(),
            Err(e) => all(&fault(&format!("the bucket `{bucket}`"), &e)),
            Ok(answer) => {
                let place = |key: &str| places.iter().copied().find(|&place| objects[place].key == key);
                let failed = answer.errors().iter().filter(|error| error.code() != Some("NoSuchKey"));
                let told = failed.filter_map(|error| {
                    let place = place(error.key()?)?;
                    let (code, message) =
                        (error.code().unwrap_or_default(), error.message().unwrap_or_default());
                    Some((place, format!("{}: S3 answered {code}: {message}", objects[place])))
                });
                told.collect()
            }
        }
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn fault<E>(what: &str, error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let text = match (status(error), error.code()) {
        (Some(301), _) => format!("{what}: S3 answered 301: it is in another region, which AWS_REGION names"),
        (Some(status), Some(code)) => {
            let message = error.message().map(|m| format!(": {m}")).unwrap_or_default();
            format!("{what}: S3 answered {status} {code}{message}")
        }
        (Some(status), None) => format!("{what}: S3 answered {status}"),
        (None, _) => {
            let why = chain(error);
            // Nobody has any: no retry can mend that.
            if why.contains("credentials") {
                let how = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";
                return Error::fatal(format!("{what}: there are no AWS credentials ({how}): {why}"));
            }
            format!(
                "{what}: S3 is not reachable, where the AWS settings (AWS_ENDPOINT_URL_S3, AWS_REGION) say that it is: {why}"
            )
        }
    };
    Error::msg(text)
}
