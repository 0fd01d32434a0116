use coworks_biz::prelude::*;

#[biz]
fn round() {
    #[task]
    async fn simple() {}
    #[task]
    async fn read() {}
    #[task]
    async fn print() {}

    simple >> read >> print;
    print >> simple;
}

#[biz]
fn by_a_parameter() {
    #[task]
    async fn first(second: u32) -> Result<u32> {
        Ok(second)
    }
    #[task]
    async fn second() -> Result<u32> {
        Ok(1)
    }

    first >> second;
}

#[biz]
fn with_itself() {
    #[task]
    async fn alone() {}
    #[task]
    async fn selfish(selfish: u32) -> Result<u32> {
        Ok(selfish)
    }

    alone >> alone;
}

fn main() {}
