//! What newcomers write first.

use coworks_biz::prelude::*;

async fn num(n: u32) -> Result<u32> {
    Ok(n)
}

#[biz]
fn slips(conf: Option<String>) {
    let a = num(num(3));
    let b = num(num(4).await?);
    let c = num(5).await?;
    let d = a;
    let e = a + 1;
    let f = conf.unwrap_or_default();
    let g = format!("{a}");
    while a > 3 {}
    for n in conf.iter() {
        let h = num(n.len() as u32);
    }
    if let Some(text) = &conf {
        let i = num(text.len() as u32);
    }
    match conf.as_deref() {
        Some(text) => {
            let j = num(text.len() as u32);
        }
        None => {}
    }
    let k = if a > 3 { num(6) } else { 0 };
    let l: Value = tech!(GETT "/", retry = 3, params = [("a", 1)], retries = 3);
    let m: Value = tech!(POST "/", api_id = "x", no_auth, json = { "a": a });
    let n: Value = tech!(GET "/", url = "https://x/{a}", no_auth, headers = { "X": "y" });
}

#[biz]
fn semicolon(conf: u32) {
    let y = num(conf)

    #[task]
    async fn other(y: u32) -> Result<()> {
        Ok(())
    }
}

fn main() {}
