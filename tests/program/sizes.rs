//! What is large: values, logs, confs.

use coworks_biz::prelude::*;

async fn text(size: usize) -> Result<String> {
    Ok("x".repeat(size))
}

/// Texts of these lengths.
#[biz]
pub fn weighty(conf: Vec<usize>) {
    for size in conf {
        let made = text(size);
    }
}

/// Says so many lines.
#[biz]
pub fn noisy(conf: u64) {
    #[task]
    async fn says(conf: u64) -> Result<()> {
        for n in 0..conf {
            info!("line {n} {}", "x".repeat(100));
        }
        Ok(())
    }
}

/// Pushes so many values by name.
#[biz]
pub fn chatty(conf: u64) {
    #[task]
    async fn pushes(conf: u64, ctx: Context) -> Result<()> {
        for n in 0..conf {
            ctx.xcom_push(&format!("key {n}"), &n).await?;
        }
        Ok(())
    }

    #[task]
    async fn pulls(conf: u64, ctx: Context) -> Result<u64> {
        ctx.xcom_pull_key("pushes", &format!("key {}", conf - 1)).await
    }

    pushes >> pulls;
}

/// Says how large its conf is.
#[biz]
pub fn weighed(conf: String) {
    #[task]
    async fn length(conf: String) -> Result<usize> {
        Ok(conf.len())
    }
}
