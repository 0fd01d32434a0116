//! Asynchronous calls in a loop: each item has a call of its own.

use axum::Router;
use axum::routing::post;

use super::shapes::{EACH, conf, list, value, with};
use super::*;
use crate::dag::Kind;
use crate::local::{Service as Stand, Services};
use crate::task::Member;
use crate::tech::{Arguments, AsyncCall, Call, Method, Service, Token};
use crate::value::Type;

const CALL: AsyncCall = AsyncCall {
    call: Call {
        method: Method::Post,
        path: "/double",
        service: Service::Api { api_id: "math", stage: "dev", region: "eu-west-1" },
        token: Token::None,
        accept: "application/json",
        request_timeout: std::time::Duration::from_secs(5),
        log_response: false,
        output: Some(Type::of::<u32>()),
    },
    timeout: std::time::Duration::from_secs(60),
    bucket: None,
    keep: false,
};

#[tokio::test(flavor = "multi_thread")]
async fn each_item_has_an_asynchronous_call_of_its_own() {
    fn item(context: &Context) -> Result<Arguments> {
        let item: u32 = context.input(0)?;
        Arguments::new().json(&item)
    }
    let member = |member| Body::Group { member, call: &CALL, arguments: Some(item), submit: 1 };
    let each = |task_id, kind, upstream| Task { task_id, kind, upstream, inputs: &[0], ..EACH };
    let definition = define(
        "calls",
        [
            (list(&[1, 2, 3]), Body::Map(conf)),
            (each("x.call", Kind::Submit, &[]), member(Member::Submit)),
            (Task { shares: &[1], ..each("x.wait", Kind::Wait, &[1]) }, member(Member::Wait)),
            (Task { shares: &[1, 2], ..each("x.read", Kind::Read, &[2]) }, member(Member::Read)),
        ],
    );
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), 4);
    let double = post(|body: String| async move { axum::Json(2 * body.parse::<u32>().unwrap()) });
    let services = Services::new().with(Stand::new("math").entries(Router::new().route("/double", double)));
    let local = services.start(&dir.path().join("s3"), &config.bucket).await.unwrap();
    local.configure(&mut config);
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let mut run = engine.trigger(definition, with(&[1, 20, 300])).await.unwrap();
    let state = run.ended().await.unwrap();
    let tasks = Reader::open(&config.db).unwrap().tasks(run.run.number).unwrap();
    assert_eq!(state, RunState::Success, "{tasks:?}");
    let value = |task, index, key| value(dir.path(), run.run.number, task, index, key).unwrap();
    assert_eq!([0, 1, 2].map(|index| value("x.read", index, "return_value")), ["2", "40", "600"]);
    for index in [0, 1, 2] {
        let key = value("x.call", index, "key");
        assert!(key.ends_with(&format!("/{}/x.call.{index}.0\"", run.run.uuid)), "{key}");
    }
}
