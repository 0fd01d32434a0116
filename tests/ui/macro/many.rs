//! One body with many mistakes gets all of its errors at once, and breaks nothing else.

use coworks_biz::prelude::*;

#[biz(shedule = "@daily", retry_delay = "soon")]
pub fn many() {
    let a: String = tech!(GET "a", api_id = "x", no_auth);
    let x = 3;

    #[task]
    async fn one() -> Result<u32> {
        Ok(helper())
    }

    #[task]
    async fn one(onne: u32) {}

    #[task]
    async fn two(onne: u32) {
        let _ = onne;
    }

    fn helper() -> u32 {
        3
    }

    one >> tow;
    one + one;
    println!();
}

coworks_biz::main![many];
