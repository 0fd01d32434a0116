//! What a trigger says that cannot be.

use coworks_biz::prelude::*;

#[biz]
fn invoicing() {}

#[biz]
fn triggers() {
    let a = trigger!();
    let b = trigger!("invoicing");
    let c = trigger!(conf = 3);
    let d: u32 = trigger!(invoicing);
    let e = trigger!(invoicing conf = 3);
    let f = trigger!(invoicing, timeout = "5m");
    let g = trigger!(invoicing, wait_for_completion = true, timeout = "0s");
    let h = trigger!(invoicing, wait, poke_interval = "5s", retries = 3, trigger_dag_id = "x");
    let i = trigger!(invoicing, conf, cnof = 3);
    let j = trigger!(invoicing, conf = 3, conf = 4);
    let k = trigger!(invoicing, conf = j, wait_for_completion).await?;
    let l = trigger!(invoicing, conf = l);
    let m = trigger!(invoicing, conf = ctx.run_id);
    let n = step();
    let o = trigger!(invoicing, conf = step());
    let p = trigger!(invoicing, conf = { "a": 1 });
    trigger_invoicing >> n;
    trigger!(invoicing);
    a >> trigger_invoicing;
}

async fn step() {}

trigger!(invoicing);

fn main() {}
