use coworks_biz::prelude::*;

struct Order;

#[biz]
fn extractors() {
    #[task]
    async fn orders() -> Result<u32> {
        Ok(1)
    }

    #[task]
    async fn bill(order: Order) -> Result<()> {
        let _ = order;
        Ok(())
    }
}

struct NotABiz {}

coworks_biz::main![extractors, NotABiz];
