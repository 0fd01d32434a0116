//! Loops, and what comes behind them.

use std::collections::HashMap;

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

async fn numbers(count: u32) -> Result<Vec<u32>> {
    Ok((0..count).collect())
}

async fn double(number: u32, ctx: Context) -> Result<u32> {
    if ctx.map_index != number as i32 {
        return Err(Error::fatal(format!("item {number} at {}", ctx.map_index)));
    }
    Ok(number * 2)
}

/// As many items as it is told.
#[biz]
pub fn counted(conf: u32, ctx: Context) {
    let list = numbers(conf);

    for number in list {
        let doubled = double(number, ctx);
    }

    #[task]
    async fn total(doubled: Vec<u32>) -> Result<(usize, u32)> {
        let in_order = doubled.iter().zip(0..).all(|(&given, number)| given == number * 2);
        if !in_order {
            return Err(Error::fatal(format!("not in order: {doubled:?}")));
        }
        Ok((doubled.len(), doubled.iter().sum()))
    }

    #[task(trigger_rule = none_failed)]
    async fn whatever(doubled: Vec<Option<u32>>) -> Result<usize> {
        Ok(doubled.len())
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Basket {
    customer: String,
    lines: Vec<Line>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Line {
    article: String,
    count: u32,
}

async fn price(article: String, count: u32, of: String) -> Result<u32> {
    match article.as_str() {
        "poison" => Err(Error::fatal(format!("{of} may not have {article}"))),
        _ => Ok(article.len() as u32 * count),
    }
}

async fn label(price: u32, line: Line, index: i32) -> Result<String> {
    Ok(format!("{index}: {} x {} = {price}", line.count, line.article))
}

async fn sort(text: String) -> Result<String> {
    Ok(text)
}

/// Several tasks for each item, one behind the other; an arm, a join and a value from outside in it.
#[biz]
pub fn baskets(conf: Basket, ctx: Context) {
    let rate = rates();

    for line in conf.lines {
        let priced = price(line.article, line.count * rate, conf.customer);
        let labelled = label(priced, line, ctx.map_index);
        let sorted = match line.count {
            0 => sort("none".into()),
            n if n > 2 => {
                let bulk = sort(format!("bulk of {n} {}", line.article));
                bulk
            }
            _ => labelled,
        };
        #[task]
        async fn pulled(ctx: Context, sorted: String) -> Result<Value> {
            let priced: u32 = ctx.xcom_pull("priced").await?;
            let line: Line = ctx.xcom_pull("map_lines").await?;
            let rate: u32 = ctx.xcom_pull("rate").await?;
            ctx.xcom_push("note", &format!("{} {sorted}", line.article)).await?;
            Ok(json!([ctx.map_index, priced, rate]))
        }
        #[task]
        async fn noted(ctx: Context, pulled: Value) -> Result<String> {
            let note: String = ctx.xcom_pull_key("pulled", "note").await?;
            Ok(format!("{note} {pulled}"))
        }
    }

    #[task(trigger_rule = all_done)]
    async fn bill(priced: Vec<Option<u32>>, bulk: Vec<Option<String>>, ctx: Context) -> Result<Value> {
        let notes: Vec<Option<String>> = ctx.xcom_pull_key("pulled", "note").await?;
        let all: Vec<Option<u32>> = ctx.xcom_pull("priced").await?;
        let lines: Vec<Line> = ctx.xcom_pull("map_lines").await?;
        let articles: Vec<_> = lines.into_iter().map(|line| line.article).collect();
        Ok(json!({ "priced": priced, "all": all, "bulk": bulk, "notes": notes, "articles": articles }))
    }

    noted >> bill;
}

async fn rates() -> Result<u32> {
    Ok(10)
}

/// A map has no order that two processes agree on.
#[biz]
pub fn effects(conf: HashMap<String, u32>) {
    for (key, value) in conf {
        let effect: Value = tech!(POST "/effects/{key}", api_id = "test", no_auth, json = json!(value));
    }

    #[task]
    async fn count(effect: Vec<Value>) -> Result<usize> {
        Ok(effect.len())
    }
}

/// The list is in an arm that may not be taken.
#[biz]
pub fn listless(conf: bool) {
    if conf {
        let list = numbers(2);
    }
    for (index, number) in list.into_iter().enumerate() {
        let sum = add(index, number);
    }

    #[task]
    async fn total(sum: Vec<u32>) -> Result<u32> {
        Ok(sum.iter().sum())
    }
    #[task(trigger_rule = all_done)]
    async fn last(sum: Vec<Option<u32>>) -> Result<usize> {
        Ok(sum.len())
    }
}

async fn add(index: usize, number: u32) -> Result<u32> {
    Ok(index as u32 + number)
}

/// An asynchronous call for each item, which fails at first.
#[biz(retries = 2, retry_delay = "10ms")]
pub fn renders(conf: Vec<String>, ctx: Context) {
    for name in conf {
        let page: String =
            tech!(async POST "/render", api_id = "test", no_auth, transformer = layout(name, ctx.map_index));
        let length = measure(page, name);
    }

    #[task]
    async fn pages(page: Vec<String>, length: Vec<usize>) -> Result<Value> {
        Ok(json!([page, length]))
    }
}

async fn layout(name: String, index: i32) -> Result<Value> {
    Ok(json!({ "name": name, "index": index }))
}

async fn measure(page: String, name: String) -> Result<usize> {
    Ok(page.len() - name.len())
}

/// Each item is tried again by itself.
#[biz(retries = 1, retry_delay = "10ms")]
pub fn stubborn() {
    for n in 0..3 {
        #[task]
        async fn stumbles(n: i32, ctx: Context) -> Result<i32> {
            match (n, ctx.try_number) {
                (1, 1) => Err(Error::msg("at first")),
                (2, _) => Err(Error::msg("always")),
                _ => Ok(n),
            }
        }
        let next = follow(stumbles);
    }

    #[task(trigger_rule = all_done)]
    async fn list(stumbles: Vec<Option<i32>>) -> Result<Vec<Option<i32>>> {
        Ok(stumbles)
    }
    #[task]
    async fn strict(stumbles: Vec<i32>) -> Result<Vec<i32>> {
        Ok(stumbles)
    }
}

async fn follow(n: i32) -> Result<i32> {
    Ok(n)
}
