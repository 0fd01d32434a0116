//! Groups, and what tasks reach by name.

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct Wish {
    who: String,
    count: u32,
}

/// The day that the run stands for.
struct Day(String);

impl FromContext for Day {
    fn from_context(context: &Context) -> Result<Self> {
        Ok(Day(context.logical_date.format("%F").to_string()))
    }
}

/// Who wishes; nobody may be nameless.
struct Who(String);

impl FromContext for Who {
    fn from_context(context: &Context) -> Result<Self> {
        let Wish { who, .. } = context.conf()?;
        if who.is_empty() { Err(Error::fatal("nobody wishes")) } else { Ok(Who(who)) }
    }
}

async fn count(n: u32, ctx: Context) -> Result<u32> {
    ctx.xcom_push("from", &ctx.task_id).await?;
    Ok(n)
}

async fn describe(ctx: Context) -> Result<Value> {
    let wish: Wish = ctx.conf()?;
    Ok(json!({
        "dag": ctx.dag_id,
        "task": ctx.task_id,
        "map": ctx.map_index,
        "try": ctx.try_number,
        "run": [&*ctx.dag_run.run_id, ctx.dag_run.run_type, ctx.dag_run.dag_id],
        "same": ctx.run_id == ctx.dag_run.run_id && ctx.logical_date == ctx.dag_run.logical_date,
        "interval": [ctx.data_interval.start, ctx.data_interval.end],
        "conf": wish.who,
    }))
}

/// Groups, labels, and values by their names.
#[biz]
pub fn by_name(conf: Wish, ctx: Context) {
    let prep = {
        let one = count(conf.count, ctx);
        let inner = {
            let two = count(one + 1, ctx);
            two
        };
        count(inner + 1, ctx)
    };
    let after = {
        let sum = count(prep + 10, ctx);
        let sent: u32 = tech!(async POST "/sent", api_id = "test", no_auth, json = json!({ "prep": prep }));
        sum >> sent;
    };
    let context = describe(ctx);

    #[task]
    async fn by_id(
        ctx: Context,
        Conf(wish): Conf<Wish>,
        day: Day,
        Who(who): Who,
        conf: Wish,
    ) -> Result<Value> {
        let two: u32 = ctx.xcom_pull("prep.inner.two").await?;
        let sent: u32 = ctx.xcom_pull("after.sent.read").await?;
        let status: u16 = ctx.xcom_pull_key("after.sent.read", "status_code").await?;
        let from: String = ctx.xcom_pull_key("prep.one", "from").await?;
        let none: Option<u32> = ctx.xcom_pull("prep.nothing").await?;
        Ok(json!([two, sent, status, from, none, wish.count, day.0, who, conf.who]))
    }
    #[task]
    async fn missing(ctx: Context) -> Result<u32> {
        ctx.xcom_pull_key("prep.one", "nothing").await
    }

    prep.inner.two >> "told" >> after.sent;
    after >> "at last" >> [by_id, missing];
}
