use coworks_biz::prelude::*;

#[biz]
fn calls() {
    let a: String = tech!(GOT "/", api_id = "x", no_auth);
    let b: String = tech!(GET "path", api_id = "x", no_auth);
    let c: String = tech!(GET "/path?query", api_id = "x", no_auth);
    let d: String = tech!(GET "/", no_auth);
    let e: String = tech!(GET "/", api_id = "x");
    let f: String = tech!(GET "/", api_id = "x", url = "https://y", no_auth);
    let g: String = tech!(GET "/", api_id = "x", token = "t", no_auth);
    let h: String = tech!(GET "/", api_id = "x", no_auth, timeout = "5m");
    let i: String = tech!(GET "/", url = "ftp://y", no_auth);
    let j: String = tech!(GET "/", url = "https://y", stage = "dev", no_auth);
    let k: String = tech!(GET "/", api_id = "x", no_auth = true);
    let l: String = tech!(GET "/", api_id = "x", tokn = "t");
    let m: String = tech!(async GET "/", api_id = "x", no_auth, keep, bukcet = "b");
    let n: String = tech!("/");
    let o: String = tech!(GET);
    let p: String = tech!(GET "/", api_id = "x", token = 3);
    let q: String = tech!(GET "/" api_id = "x");
    let r: String = tech!(GET "/", api_id = "x y", no_auth);

    let s: String = tech!(GET "/", url = "https://user:password@y", no_auth);
    let t: String = tech!(GET "/#a", url = "https://y/?a=b", no_auth);

    let untyped = tech!(GET "/", api_id = "x", no_auth);

    #[task]
    async fn takes(untyped: String) -> Result<()> {
        let _ = untyped;
        Ok(())
    }
}

tech!(GET "/", api_id = "x", no_auth);

#[task]
async fn outside() {}

fn main() {}
