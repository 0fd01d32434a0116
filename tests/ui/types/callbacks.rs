//! What is called once an attempt has ended takes a context, and gives nothing.

use coworks_biz::prelude::*;

async fn nothing() -> Result<()> {
    Ok(())
}

async fn more(ctx: Context, text: String) -> Result<()> {
    let _ = (ctx, text);
    Ok(())
}

async fn other(text: String) -> Result<()> {
    let _ = text;
    Ok(())
}

async fn gives(ctx: Context) -> Result<u32> {
    Ok(ctx.try_number)
}

async fn plain(ctx: Context) -> u32 {
    ctx.try_number
}

fn blocking(ctx: Context) -> Result<()> {
    let _ = ctx;
    Ok(())
}

const NUMBER: u32 = 3;

#[biz(on_failure_callback = nothing, on_retry_callback = missing)]
fn callbacks() {
    #[task(on_failure_callback = more, on_retry_callback = other, on_success_callback = gives)]
    async fn a() {}

    #[task(on_failure_callback = plain, on_retry_callback = blocking, on_success_callback = NUMBER)]
    async fn b() {}
}

fn main() {}
