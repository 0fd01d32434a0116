//! Calls of functions as tasks, and the options of tasks.

use coworks_biz::prelude::*;

async fn send(text: String) -> Result<String> {
    Ok(text)
}

#[biz(id = "x", setup)]
fn calls() {
    let a = send("a".into());
    send("b".into());
    send("c".into());
    let d = send("d".into()).await?;
    let e = send("e".into()).await;
    send("f".into())?;
    let g = (send)("g".into());
    let h = "h".to_owned().into();
    let i = send(conf);
    let lent = send(&a.to_string());
    let context = send(ctx.run_id.to_string());
    let j = send(json!({ "conf": conf }).to_string());
    send >> send(a);
    #[task(id = "a")]
    let k = send(a);
    #[task(id = "not an id", setup = true, teardown = 3)]
    let l = send(a);
    let db = send("db".into());
    let cache = send("cache".into());
    #[task(teardown = db)]
    let closed = send(db);
    #[task(teardown = cache)]
    let cleared = send(cache);
    cache >> closed;
    #[task(teardown = nothing)]
    let m = send(a);
    #[task(retires = 1)]
    let n = send(a);
    #[inline]
    let o = send(a);
    let a = send("again".into());

    #[task]
    async fn called(text: &str) -> Result<()> {
        Ok(())
    }
    called("x".into());
    let twice = called("y".into());
    #[task]
    async fn bound(called: (), generic: String) -> Result<()> {
        Ok(())
    }
    #[task]
    async fn generic<T>() -> Result<String> {
        Ok(String::new())
    }
    #[task]
    async fn late(a: Option<u8>, bound: ()) -> Result<()> {
        Ok(())
    }
    #[task(trigger_rule = all_done)]
    async fn tolerant(a: String) -> Result<()> {
        Ok(())
    }
}

fn main() {}
