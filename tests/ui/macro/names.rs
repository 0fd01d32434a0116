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

    simple >> print_reslt;
    simple >> something_else;
    simple.cal >> print_result.call;
    simple + print_result;
    simple >> 3;
}

fn main() {}
