//! Shapes inside shapes, and values that are not plain.

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct Line {
    article: String,
    count: u32,
}

async fn text(text: String) -> Result<String> {
    Ok(text)
}

async fn number(number: u32) -> Result<u32> {
    Ok(number)
}

async fn complain(failure: Failure, article: String) -> Result<String> {
    Ok(format!("{article} {failure}"))
}

/// A reply for each item, decided for each; lists of replies behind the loop; and a loop over a loop.
#[biz(retries = 1, retry_delay = "10ms")]
pub fn stock(conf: Vec<Line>) {
    let usual = text("usual".into());

    for Line { article, count } in conf {
        let stock: Reply<u32> = tech!(GET "/stock/{article}", api_id = "test", no_auth);
        let said = match stock {
            Reply::Success(there) if there >= count => text(format!("{there} {article}")),
            Reply::Success(_) => usual,
            Reply::NoContent => {
                tech!(POST "/orders/{article}", api_id = "test", no_auth, json = count);
                let ordered = text(format!("ordered {count} {article}"));
                ordered
            }
            Reply::Failure(failure) => complain(failure, article),
        };
        #[task(trigger_rule = all_done)]
        async fn seen(said: Option<String>, article: String, ctx: Context) -> Result<usize> {
            let pulled: Reply<u32> = ctx.xcom_pull("stock").await?;
            info!("{article}: {pulled:?}");
            Ok(said.map_or(0, |said| said.len()))
        }
    }

    for (index, said) in said.into_iter().enumerate() {
        let shout = text(format!("{index} {} of {}", said.to_uppercase(), seen.len()));
    }

    if shout.len() > 2 {
        let many = number(shout.len() as u32);
    } else {
        let few = text(shout.join(", "));
    }

    #[task]
    async fn replies(stock: Vec<Reply<u32>>, ctx: Context) -> Result<Vec<Option<u32>>> {
        let pulled: Vec<Reply<u32>> = ctx.xcom_pull("stock").await?;
        assert_eq!(stock, pulled);
        Ok(stock.into_iter().map(Reply::ok).collect())
    }
}

async fn first(list: Vec<u32>) -> Result<Option<u32>> {
    Ok(list.into_iter().next())
}

/// Values that may be nothing, and shapes in groups.
#[biz]
pub fn maybe(conf: Vec<u32>) {
    let found = first(conf.clone());
    let count = number(conf.len() as u32);

    let inside = {
        let joined: Option<u32> = match (found, count) {
            (Some(found), 1) => {
                let only = some(found);
                only
            }
            (Some(_), _) => found,
            (None, count) => {
                let nothing = none(count);
                nothing
            }
        };
        if let Some(count) = joined {
            for found in 0..count {
                let each = number(found * 10);
            }
        }
        joined
    };

    #[task]
    async fn last(inside: Option<u32>) -> Result<String> {
        Ok(format!("{inside:?}"))
    }
    #[task(trigger_rule = none_failed)]
    async fn list(ctx: Context) -> Result<Vec<u32>> {
        ctx.xcom_pull("inside.each").await
    }
    inside >> list;
}

async fn some(number: u32) -> Result<Option<u32>> {
    Ok(Some(number))
}

async fn none(number: u32) -> Result<Option<u32>> {
    Ok((number > 100).then_some(number))
}

async fn pages(sizes: Vec<usize>) -> Result<Vec<String>> {
    Ok(sizes.into_iter().map(|size| "x".repeat(size)).collect())
}

async fn measure(page: String) -> Result<usize> {
    Ok(page.len())
}

/// Items and variables that are files of their own.
#[biz]
pub fn heavy(conf: Vec<usize>) {
    let pages = pages(conf);
    for page in pages {
        let size = measure(page);
        match page.len() {
            0 => {}
            _ => {
                let twice = text(page.clone() + &page);
            }
        }
    }
    match pages.concat() {
        all if all.len() > 3 => {
            let total = measure(all);
            let again = measure(all);
        }
        _ => {}
    }
    #[task(trigger_rule = none_failed)]
    async fn sizes(size: Vec<Option<usize>>, twice: Vec<Option<String>>) -> Result<Value> {
        Ok(json!([size, twice.into_iter().map(|text| text.map(|text| text.len())).collect::<Vec<_>>()]))
    }
}

/// The user's code panics in each place where the plan has some.
#[biz]
pub fn careless(conf: Vec<u32>) {
    let one: Value = tech!(GET "/{conf[0]}", api_id = "test", no_auth);
    let two: Value = tech!(async POST "/", api_id = "test", no_auth, json = conf[1]);
    let three = number(conf[2]);
    for n in conf[3..].to_vec() {
        let four = number(n);
    }
    let five: Value = sensor!(GET "/", api_id = "test", no_auth, until = bad);
    for n in 0..2 {
        if conf[n] == 3 {
            let six = number(n as u32);
        }
    }
    #[task]
    fn seven(conf: Vec<u32>) -> Result<u32> {
        Ok(conf[7])
    }
    #[task(trigger_rule = all_done)]
    async fn last(four: Vec<Option<u32>>, six: Vec<Option<u32>>) -> Result<[usize; 2]> {
        Ok([four.len(), six.len()])
    }
}

fn bad(_: &Value) -> bool {
    panic!("bad")
}

/// Says a secret in an item, and in a variable.
#[biz]
pub fn careful() {
    #[task]
    async fn halves(ctx: Context) -> Result<Vec<String>> {
        let secret = ctx.secret("API_TOKEN").await?;
        let (one, two) = secret.expose().split_at(5);
        Ok(vec![one.to_owned(), two.to_owned()])
    }
    for item in [halves.concat()] {
        text(item);
    }
    match halves.concat() {
        whole => {
            let said = text(whole);
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub enum Parcel {
    Items { items: Vec<u32>, owner: String },
    Nothing,
}

async fn open(number: u32) -> Result<u32> {
    if number == 13 { Err(Error::msg("no 13")) } else { Ok(number) }
}

async fn stamp(number: u32) {
    info!("{number}");
}

/// A loop over a variable of an arm; in it a setup and its teardown, and arms with rules of their own.
#[biz]
pub fn parcel(conf: Parcel) {
    let rate = number(3);

    match conf {
        Parcel::Items { items, owner } => {
            for item in items {
                #[task(setup)]
                let opened = open(item);
                let packed = number(opened * rate);
                #[task(teardown = opened)]
                let closed = text(format!("{opened} of {owner}"));
                opened >> packed >> closed;

                match (item, rate) {
                    (0, _) => {}
                    (even, 3) if even % 2 == 0 => {
                        let noted = text(format!("{even} of {owner}, {packed}"));
                        #[task(trigger_rule = all_done)]
                        let stamped = stamp(item);
                        noted >> stamped;
                    }
                    (other, _) => {
                        #[task(trigger_rule = always)]
                        let odd = number(other);
                    }
                }
            }
        }
        Parcel::Nothing => {
            let none = text("none".into());
        }
    }

    let joined = match rate {
        0 => stamp(rate),
        _ => {
            let stamped_too = stamp(rate + 1);
            stamped_too
        }
    };
    #[task]
    async fn after(joined: (), rate: u32) -> Result<u32> {
        let () = joined;
        Ok(rate)
    }
    #[task(trigger_rule = one_failed)]
    let alarm = text("alarm".into());
    packed >> alarm;
    #[task(trigger_rule = all_done)]
    async fn all(
        closed: Vec<Option<String>>,
        noted: Vec<Option<String>>,
        odd: Vec<Option<u32>>,
    ) -> Result<Value> {
        Ok(json!([closed, noted, odd]))
    }
}

/// Loops over one list, and over the outputs of one another.
#[biz]
pub fn again(conf: Vec<u32>) {
    for n in conf {
        let one = number(n + 1);
    }
    for n in conf {
        let two = number(n * one.len() as u32);
        let three = number(two + one.iter().sum::<u32>());
    }
    for (index, each) in three.into_iter().enumerate() {
        let four = text(format!("{index}: {each}"));
    }
    map_conf >> map_three;

    #[task]
    async fn last(one: Vec<u32>, two: Vec<u32>, four: Vec<String>) -> Result<Value> {
        Ok(json!([one, two, four]))
    }
}
