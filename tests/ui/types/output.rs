use coworks_biz::prelude::*;

struct Opaque;

#[biz]
fn outputs() {
    let answer: Opaque = tech!(GET "/", api_id = "x", no_auth);

    #[task]
    async fn make() -> Result<Opaque> {
        Ok(Opaque)
    }

    #[task]
    async fn number() -> u32 {
        3
    }
}

fn main() {}
