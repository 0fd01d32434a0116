//! The CoWorks Biz quickstart.
//!
//! `cargo run --example first -- run --local` runs it with the service below
//! and an S3 server, both in the same process. Without `--local` it talks to AWS.
use coworks_biz::local::axum::{Router, routing::get};
use coworks_biz::local::{Service, Services};
use coworks_biz::prelude::*;

/// Greets once a day.
#[biz(
    schedule = "@daily",
    start_date = "2023-01-01",
    catchup = false,
    tags = ["air-et-sante", "send", "orders"],
    retries = 1,
    retry_delay = "5m",
    email = "gdoumenc@neorezo.io",
    email_on_failure = true,
    email_on_retry = false,
)]
fn first() {
    let simple: String = tech!(async GET "/", api_id = "xxxx", stage = "dev", token = "token");

    #[task]
    async fn print_result(simple: String, ctx: Context) -> Result<()> {
        info!("run {}: {simple}", ctx.run_id);
        Ok(())
    }

    simple >> print_result;
}

/// The technical microservice that `first` calls.
fn services() -> Services {
    let simple = Router::new().route("/", get(|| async { "Hello from a technical microservice!" }));
    Services::new().with(Service::new("xxxx").token("token").entries(simple))
}

coworks_biz::main![first; local = services];
