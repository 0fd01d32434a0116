//! Arguments of calls are held against what the function takes, under the argument.

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Invoice {
    lines: Vec<String>,
}

async fn bill() -> Result<Invoice> {
    Ok(Invoice { lines: vec![] })
}

async fn send(text: String, count: usize) -> Result<u32> {
    Ok(text.len() as u32 + count as u32)
}

fn blocking(text: String) -> Result<String> {
    Ok(text)
}

async fn first<T>(list: Vec<T>) -> Result<Option<T>> {
    Ok(list.into_iter().next())
}

async fn maybe(number: Option<u32>) -> Result<()> {
    info!("{number:?}");
    Ok(())
}

#[biz]
fn arguments() {
    let invoice = bill();
    let wrong = send(invoice, 3);
    let fewer = send("x".into());
    let field = send(invoice.nothing, 3);
    let moved = send(invoice.lines.concat(), invoice.lines.into_iter().chain(invoice.lines).count());
    let unknown = send(invioce, 3);
    let annotated: String = send("x".into(), 1);
    let sync = blocking("x".into());
    let takes_sync = send(sync, 3);
    let generic = first(invoice.lines);
    let reads_generic = maybe(generic);
}

fn main() {}
