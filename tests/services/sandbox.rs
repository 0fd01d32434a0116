//! The sandbox itself: what it lets out, and how it meets slips.

use std::time::Duration;

use coworks_biz::local::State::{Failed, Success};
use coworks_biz::local::axum::Json;
use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::{Fault, Sandbox, Service, Services};
use coworks_biz::prelude::*;

#[biz]
fn outside() {
    let page: String = tech!(GET "/status", url = "https://status.example.com/v1/", no_auth);
}

#[biz]
fn looping(conf: Vec<u32>) {
    for n in conf {
        let doubled: u32 = tech!(GET "/double/{n}", api_id = "numbers", no_auth);
    }
}

#[biz(schedule = "@daily")]
fn daily() {
    let two: u32 = tech!(GET "/double/1", api_id = "numbers", no_auth);
}

fn numbers() -> Services {
    let double = |Path(n): Path<u32>| async move { Json(2 * n) };
    Services::new().with(Service::new("numbers").get("/double/{n}", double))
}

#[tokio::test]
async fn nothing_beyond_this_machine_is_called_but_a_service_may_stand_in_for_it() -> Result<()> {
    let sandbox = Sandbox::new(Services::new()).await?;
    let run = sandbox.run::<outside>(()).await?;
    let error = run.error_of("page").unwrap();
    assert!(error.contains(r#"`Service::new(..).at("https://status.example.com/v1/")`"#), "{error}");

    let status =
        Service::new("status").at("https://status.example.com/v1").get("/status", || async { "fine" });
    let sandbox = Sandbox::new(Services::new().with(status)).await?;
    let run = sandbox.run::<outside>(()).await?;
    assert_eq!(run.output::<String>("page")?, "fine", "{run}");
    assert_eq!(sandbox.calls("status")[0].path, "/status");
    Ok(())
}

#[tokio::test]
async fn an_instance_of_a_loop_has_a_name_and_the_table_is_in_the_order_of_the_plan() -> Result<()> {
    let sandbox = Sandbox::new(numbers()).await?;
    sandbox.faults("numbers", [Fault::none(), Fault::status(404)]);
    let run = sandbox.run::<looping>(vec![5, 5, 5]).await?;
    let states = run.states_of("doubled");
    let failed = states.iter().position(|state| *state == Some(Failed)).unwrap();
    let other = (failed + 1) % 3;
    assert_eq!(run.state_of(&format!("doubled[{failed}]")), Some(Failed));
    assert_eq!(run.state_of(&format!("doubled[{other}]")), Some(Success));
    assert_eq!(run.output::<u32>(&format!("doubled[{other}]"))?, 10);
    assert!(run.error_of(&format!("doubled[{failed}]")).unwrap().contains("404"));
    let table = run.to_string();
    assert!(table.find("map_conf") < table.find("doubled[0]"), "{table}");
    assert!(table.find("doubled[0]") < table.find("doubled[2]"), "{table}");
    Ok(())
}

#[tokio::test]
async fn a_log_has_what_concerns_the_task() -> Result<()> {
    let sandbox = Sandbox::new(numbers()).await?;
    let run = sandbox.run::<looping>(vec![5]).await?;
    let log = run.log("doubled");
    assert!(log[0].starts_with("GET http://127.0.0.1:") && log.len() == 2, "{log:?}");
    Ok(())
}

#[tokio::test]
async fn a_hundred_days_are_a_hundred_runs() -> Result<()> {
    let sandbox = Sandbox::new(numbers()).await?.with::<daily>();
    let runs = sandbox.pass(Duration::from_secs(100 * 24 * 3600)).await?;
    assert_eq!(runs.len(), 100);
    assert!(runs.iter().all(|run| run.is_success()));
    Ok(())
}

#[tokio::test]
async fn two_runs_take_turns() -> Result<()> {
    let sandbox = Sandbox::new(numbers()).await?;
    let (one, two) = tokio::join!(sandbox.run::<looping>(vec![1]), sandbox.run::<looping>(vec![2, 3]));
    assert_eq!((one?.outputs::<u32>("doubled")?, two?.outputs::<u32>("doubled")?), (vec![2], vec![4, 6]));
    Ok(())
}

#[tokio::test]
async fn faults_that_have_not_come_about_are_counted() -> Result<()> {
    let sandbox = Sandbox::new(numbers()).await?;
    sandbox.faults("numbers", [Fault::none(), Fault::reset(), Fault::reset()]);
    sandbox.run::<looping>(vec![1]).await?;
    assert_eq!(sandbox.faults_left("numbers"), 2);
    Ok(())
}

#[tokio::test]
#[should_panic(expected = "no service `nubmers` in this sandbox: `numbers`")]
async fn a_slip_in_the_name_of_a_service_is_told() {
    Sandbox::new(numbers()).await.unwrap().fault("nubmers", Fault::reset());
}

#[tokio::test]
#[should_panic(expected = "no task `duobled` in `looping`: there is map_conf, doubled")]
async fn a_slip_in_the_name_of_a_task_is_told() {
    let sandbox = Sandbox::new(numbers()).await.unwrap();
    let run = sandbox.run::<looping>(vec![1]).await.unwrap();
    assert_eq!(run.tries_of("duobled"), 0);
}

#[tokio::test]
async fn two_services_in_one_place_are_refused() {
    let twice = Services::new().with(Service::new("a")).with(Service::new("a"));
    let error = Sandbox::new(twice).await.unwrap_err().to_string();
    assert!(error.contains("two services `a` in the stage `dev`"), "{error}");
}
