//! A scheduled run brings no conf.

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Order {
    id: u32,
}

#[biz(schedule = "@daily")]
fn scheduled(conf: Order) {
    #[task]
    async fn print(conf: Order) -> Result<()> {
        info!("{}", conf.id);
        Ok(())
    }
}

pub struct Opaque;

#[biz]
fn triggered(conf: Opaque) {}

fn main() {}
