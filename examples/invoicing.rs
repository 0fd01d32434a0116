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
