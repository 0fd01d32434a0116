use coworks_biz::prelude::*;

#[biz]
fn statements(order: u32) {
    let x = 3;
    let y;
    let (a, b): (u32, u32) = tech!(GET "/", api_id = "x", no_auth);
    println!("never");
    return;
    x += 1;
    #[task]
    async fn borrowed(text: &str) -> Result<usize> {
        Ok(text.len())
    }
    #[task]
    async fn generic<T>() -> Result<()> {
        Ok(())
    }
    #[task = "no"]
    async fn attribute() {}
    #[task(retries = 5)]
    let retried: u32 = tech!(GET "/", api_id = "x", no_auth);
    #[cfg(unix)]
    tech!(DELETE "/", api_id = "x", no_auth);
    #[allow(unused)]
    retried >> attribute;
    let Ok(refutable) = tech!(GET "/", api_id = "x", no_auth) else { return };
    let awaited: u32 = tech!(GET "/", api_id = "x", no_auth).await?;
    tech!(GET "/", api_id = "x", no_auth)?;
    async fn forgotten() {}
    forgotten >> retried;
    #[task]
    #[task]
    async fn doubled() {}
    Ok(());
    let facturé: u32 = tech!(GET "/", api_id = "x", no_auth);
    #[cfg(unix)]
    #[task]
    async fn sometimes() {}
}

#[biz]
async fn awaits() -> u32 {}

#[biz]
struct NoFunction;

fn main() {}
