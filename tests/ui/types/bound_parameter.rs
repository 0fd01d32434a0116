use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Invoice;

#[biz]
fn types() {
    let simple: String = tech!(async GET "/", api_id = "xxxx", token = "token");

    #[task]
    async fn print_result(simple: Invoice) -> Result<()> {
        let _ = simple;
        Ok(())
    }

    #[task]
    async fn count() -> Result<u32> {
        Ok(3)
    }

    #[task]
    fn show(count: Option<u32>) -> Result<()> {
        let _ = count;
        Ok(())
    }
}

fn main() {}
