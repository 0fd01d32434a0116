//! Synchronous calls, and typed values that pass on from them.
//!
//! `cargo run --example invoice -- run --local`
use coworks_biz::local::axum::{Json, Router, routing::get};
use coworks_biz::local::{Service, Services};
use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Customer {
    name: String,
    discount: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    article: String,
    price: f64,
}

/// Adds up what a customer owes.
#[biz(tags = ["billing"], retries = 2, retry_delay = "1s")]
fn invoice() {
    let customer: Customer = tech!(GET "/customers/7", api_id = "directory", token = "directory-token");
    let lines: Vec<Line> = tech!(GET "/orders/open", api_id = "orders", no_auth, request_timeout = "5s");

    #[task]
    async fn total(customer: Customer, lines: Vec<Line>) -> Result<f64> {
        if lines.is_empty() {
            return Err(Error::fatal(format!("{} has ordered nothing", customer.name)));
        }
        let sum: f64 = lines.iter().map(|line| line.price).sum();
        Ok(sum * (1.0 - customer.discount))
    }

    /// Runs on a thread that may block: it is not `async`.
    #[task(execution_timeout = "30s")]
    fn print(customer: Customer, total: f64, ctx: Context) -> Result<()> {
        info!(logical_date = %ctx.logical_date, "{} owes {total:.2} €", customer.name);
        Ok(())
    }
}

/// The technical microservices that `invoice` calls.
fn services() -> Services {
    let directory = Router::new()
        .route("/customers/{id}", get(|| async { Json(Customer { name: "Ada".into(), discount: 0.15 }) }));
    let orders = Router::new().route(
        "/orders/open",
        get(|| async {
            let line = |article: &str, price| Line { article: article.into(), price };
            Json(vec![line("mask", 20.0), line("tube", 50.0)])
        }),
    );
    Services::new()
        .with(Service::new("directory").token("directory-token").entries(directory))
        .with(Service::new("orders").entries(orders))
}

coworks_biz::main![invoice; local = services];
