//! Invoices an order: services of a directory, a refusal as a value, branches, a loop, and a task that always runs.
//!
//! `cargo run --example invoicing -- run --local --conf '{"customer": 7, "lines": [{"article": "mask", "price": 20.0}]}'`
//! runs it with the services below, a directory that knows them by their names, and an S3 server,
//! all in the same process. Try it with no lines, and with customer 13, whom billing refuses.
use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::{IntoResponse, Response};
use coworks_biz::local::axum::{Json, Router, routing::get, routing::post};
use coworks_biz::local::{Service, Services};
use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

/// What a run is triggered with.
#[derive(Serialize, Deserialize)]
pub struct Order {
    customer: u32,
    lines: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
pub struct Line {
    article: String,
    price: f64,
}

#[derive(Serialize, Deserialize)]
pub struct Customer {
    id: u32,
    name: String,
    contacts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub struct Invoice {
    number: String,
    total: f64,
}

#[derive(Serialize, Deserialize)]
pub struct Document {
    title: String,
    pages: u32,
}

/// Bills an order, renders the invoice, and sends it to every contact of the customer.
#[biz(tags = ["billing"], retries = 2, retry_delay = "1m")]
fn invoicing(conf: Order) {
    let customer: Customer = tech!(GET "/customers/{conf.customer}", cws_name = "neorezo-directory");
    let invoice: Reply<Invoice> = tech!(POST "/invoice", cws_name = "neorezo-billing_invoice-eshop",
        json = json!({ "customer": customer.id, "lines": conf.lines }), request_timeout = "30s");

    match invoice {
        Reply::Success(billed) => {
            let document: Document = tech!(async POST "/render", cws_name = "neorezo-pdf",
                transformer = layout(customer, billed), timeout = "15m");
            for contact in customer.contacts {
                send(contact, document);
            }
        }
        Reply::NoContent => nothing_to_bill(conf),
        Reply::Failure(failure) => mail_error(failure, customer),
    }

    #[task(trigger_rule = all_done)]
    async fn cleanup(ctx: Context, invoice: Option<Reply<Invoice>>) -> Result<()> {
        let billed = invoice.is_some_and(|invoice| invoice.ok().is_some());
        info!(billed, "run {} is over", ctx.run_id);
        Ok(())
    }

    [send, nothing_to_bill, mail_error] >> cleanup;
}

/// What the renderer is asked for.
async fn layout(customer: Customer, billed: Invoice) -> Result<Value> {
    Ok(
        json!({ "template": "invoice", "title": format!("{} for {}", billed.number, customer.name), "total": billed.total }),
    )
}

async fn send(contact: String, document: Document) -> Result<()> {
    info!("{} ({} pages) goes to {contact}", document.title, document.pages);
    Ok(())
}

async fn nothing_to_bill(order: Order) -> Result<()> {
    info!("nothing to bill to customer {}", order.customer);
    Ok(())
}

async fn mail_error(failure: Failure, customer: Customer) -> Result<()> {
    warn!("{} is not billed: {failure}", customer.name);
    Ok(())
}

/// The technical microservices that `invoicing` calls.
fn services() -> Services {
    let customers = Router::new().route(
        "/customers/{id}",
        get(|Path(id): Path<u32>| async move {
            let contacts = ["accounts", "purchase"].map(|who| format!("{who}@customer-{id}.example"));
            Json(Customer { id, name: format!("Customer {id}"), contacts: contacts.into() })
        }),
    );
    let billing = Router::new().route("/invoice", post(bill));
    let pdf = Router::new().route(
        "/render",
        post(|Json(page): Json<Value>| async move {
            Json(Document { title: page["title"].as_str().unwrap_or_default().to_owned(), pages: 1 })
        }),
    );
    Services::new()
        .with(
            Service::new("directory1").named("neorezo-directory").token("customers-7Qd2").entries(customers),
        )
        .with(
            Service::new("billing1")
                .named("neorezo-billing_invoice-eshop")
                .token("billing-x81P")
                .entries(billing),
        )
        .with(Service::new("pdf1").named("neorezo-pdf").token("pdf-44mZ").entries(pdf))
}

async fn bill(Json(order): Json<Order>) -> Response {
    match (order.customer, order.lines.as_slice()) {
        (13, _) => (StatusCode::CONFLICT, "customer 13 has not paid").into_response(),
        (_, []) => StatusCode::NO_CONTENT.into_response(),
        (customer, lines) => {
            let total = lines.iter().map(|line| line.price).sum();
            Json(Invoice { number: format!("2026-{customer}"), total }).into_response()
        }
    }
}

coworks_biz::main![invoicing; local = services];

/// How a business service is tested: run as it is by the real engine, in a world and a time of the test's.
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coworks_biz::local::State::{Success, UpstreamFailed};
    use coworks_biz::local::{Fault, Sandbox};

    use super::*;

    fn order(customer: u32) -> Order {
        Order { customer, lines: vec![Line { article: "mask".into(), price: 20.0 }] }
    }

    #[tokio::test]
    async fn every_contact_gets_the_document() -> Result<()> {
        let sandbox = Sandbox::new(services()).await?;
        let run = sandbox.run::<invoicing>(order(7)).await?;
        assert!(run.is_success(), "{run}");
        assert_eq!(run.output::<Document>("document")?.title, "2026-7 for Customer 7");
        assert_eq!(run.states_of("send").len(), 2);
        // What the renderer was sent.
        let [render] = &*sandbox.calls("neorezo-pdf") else { panic!("one call") };
        assert_eq!(render.json::<Value>()?["total"], 20.0);
        Ok(())
    }

    #[tokio::test]
    async fn a_busy_service_is_asked_again_and_the_same_invoice_is_meant() -> Result<()> {
        let sandbox = Sandbox::new(services()).await?;
        // The second try is lost on its way back, when the invoice is written already.
        let busy = Fault::status(503).retry_after(Duration::from_secs(3600));
        sandbox.faults("neorezo-billing_invoice-eshop", [busy, Fault::drop()]);
        let run = sandbox.run::<invoicing>(order(7)).await?;
        assert!(run.is_success(), "{run}");
        assert_eq!(run.tries_of("invoice"), 3);
        let calls = sandbox.calls("neorezo-billing_invoice-eshop");
        let keys: Vec<_> = calls.iter().map(|call| call.header("Idempotency-Key")).collect();
        assert!(keys[0].is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        // It was left alone for the hour, which took no time.
        assert!((calls[1].at - calls[0].at).num_minutes() >= 60);
        Ok(())
    }

    #[tokio::test]
    async fn who_is_not_billed_gets_a_mail_and_no_document() -> Result<()> {
        let sandbox = Sandbox::new(services()).await?;
        let run = sandbox.run::<invoicing>(order(13)).await?;
        assert!(run.is_success(), "{run}");
        assert!(run.log("mail_error")[0].contains("customer 13 has not paid"), "{:?}", run.log("mail_error"));
        assert_eq!(sandbox.calls("neorezo-pdf").len(), 0);
        Ok(())
    }

    #[tokio::test]
    async fn a_document_that_never_comes_is_waited_for_as_long_as_it_says() -> Result<()> {
        let sandbox = Sandbox::new(services()).await?;
        sandbox.faults("neorezo-pdf", [Fault::drop(), Fault::drop(), Fault::drop()]);
        let run = sandbox.run::<invoicing>(order(7)).await?;
        // The run itself has done what it could: its last task has run.
        assert_eq!(
            (run.state_of("cleanup"), run.state_of("send")),
            (Some(Success), Some(UpstreamFailed)),
            "{run}"
        );
        let error = run.error_of("document.wait").unwrap_or_default();
        assert!(error.contains("within its timeout of 15m"), "{error}");
        Ok(())
    }
}
