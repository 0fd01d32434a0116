use coworks_biz::prelude::*;

#[biz]
fn names() {
    let simple: String = tech!(async GET "/", api_id = "xxxx", token = "token");

    #[task]
    async fn print_result(simple: String) -> Result<()> {
        let _ = simple;
        Ok(())
    }

    #[task]
    async fn simple() {}

    #[task]
    async fn slip(simpel: String) -> Result<()> {
        let _ = simpel;
        Ok(())
    }

    #[task]
    async fn conf() {}

    #[task(trigger_rule = all_done)]
    async fn cleanup(simple: String) -> Result<()> {
        let _ = simple;
        Ok(())
    }

    #[task]
    async fn maybe() -> Result<Option<u32>> {
        Ok(None)
    }

    #[task(trigger_rule = none_failed)]
    async fn either(maybe: Option<u32>) -> Result<()> {
        let _ = maybe;
        Ok(())
    }

    for n in 0..3 {
        let mapped: u32 = tech!(GET "/{n}", api_id = "x", no_auth);
    }

    #[task(trigger_rule = all_done)]
    async fn some(mapped: Vec<u32>) -> Result<()> {
        let _ = mapped;
        Ok(())
    }

    simple >> print_reslt;
    simple >> something_else;
    simple.cal >> print_result.call;
    simple + print_result;
    simple >> 3;
}

fn main() {}
