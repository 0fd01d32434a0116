//! What gives a graph its shape: calls, branches, loops, joins, groups, setups.

use coworks_biz::Biz;
use coworks_biz::dag::{Dag, Kind, Role};
use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    number: u32,
    lines: Vec<Line>,
    state: State,
    extra: std::collections::HashMap<String, u32>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Line {
    article: String,
    price: f64,
}

#[derive(Clone, Serialize, Deserialize)]
pub enum State {
    New,
    Paid { amount: f64, by: String },
    Sent(Option<u32>),
}

mod shop {
    use super::*;

    pub async fn open(number: u32, suffix: &'static str) -> Result<Order> {
        let _ = suffix;
        Ok(Order { number, lines: vec![], state: State::New, extra: Default::default() })
    }

    pub async fn note<T: Serialize>(text: String, about: T) -> Result<usize> {
        Ok(text.len() + serde_json::to_string(&about)?.len())
    }

    pub async fn first<T>(list: Vec<T>) -> Result<Option<T>> {
        Ok(list.into_iter().next())
    }
}

async fn thank(by: String, amount: f64) -> Result<String> {
    Ok(format!("{by} {amount}"))
}

async fn remind(order: Order) -> Result<String> {
    Ok(order.number.to_string())
}

async fn price(line: Line, number: u32) -> Result<f64> {
    Ok(line.price * f64::from(number))
}

async fn add(price: f64, prices: f64) -> Result<f64> {
    Ok(price + prices)
}

async fn cheap(price: f64) -> Result<u8> {
    Ok(price as u8)
}

async fn total(prices: Vec<f64>) -> Result<f64> {
    Ok(prices.iter().sum())
}

async fn report(text: String, total: Option<f64>, ctx: Context) -> Result<()> {
    info!("{text} {total:?} {}", ctx.run_id);
    Ok(())
}

#[biz]
fn calls(conf: Order, ctx: Context) {
    const SUFFIX: &str = "x";

    async fn local(text: String) -> Result<u32> {
        Ok(text.parse()?)
    }

    #[task(retries = 7)]
    fn blocking(text: String, n: u32) -> Result<String> {
        Ok(format!("{text}{n}"))
    }

    let order = shop::open(conf.number, SUFFIX);
    let again: Order = shop::open(order.number + 1, "again");
    let noted: usize = shop::note(format!("{:?} {}", order.number, again.number), order.lines);
    shop::note("a text".to_owned(), vec![noted, 1]);
    let number = local(order.lines.iter().map(|order| order.article.clone()).collect::<String>());
    let made = blocking("n".into(), number);
    let shown = report(made.clone() + &made, None, ctx);
    let first: Option<u8> = shop::first(Vec::<u8>::new());
    #[task(retries = 1, trigger_rule = all_done)]
    let late = report(made.unwrap_or_default(), None, ctx);

    [shown, first] >> late;
}

#[biz]
fn branches(conf: Order, ctx: Context) {
    let order = shop::open(conf.number, "");

    let text = match order.state {
        State::Paid { amount, by } if amount > 0.5 => thank(by, amount),
        State::Paid { .. } | State::New => remind(order),
        State::Sent(parcel) => {
            let known = if let Some(parcel) = parcel {
                let found = shop::open(parcel, "parcel");
                let found_too = remind(found);
                found_too
            } else {
                shop::note("lost".into(), parcel);
                let none = thank("nobody".into(), 0.0);
                none
            };
            known
        }
    };
    report(text, None, ctx);

    if order.number > 3 && order.number < conf.number {
        let few: usize = shop::note("few".into(), 3);
    } else if order.number == 7 {
        let seven = shop::note("seven".into(), 3);
    }

    #[task(trigger_rule = none_failed)]
    async fn last(few: Option<usize>, text: Option<String>) -> Result<()> {
        info!("{few:?} {text:?}");
        Ok(())
    }

    few >> "then" >> last;
}

#[biz]
fn loops(conf: Order) {
    let order = shop::open(conf.number, "");
    for line in order.lines {
        let cost = price(line, order.number);
        match line.article.as_str() {
            "mask" => {
                let small = cheap(cost);
            }
            _ => {}
        }
    }
    let sum = total(cost);
    let price = price(Line { article: "more".into(), price: sum }, 1);
    let prices = price(Line { article: "most".into(), price: sum }, 1);
    let priced = add(price, prices);
    for (key, value) in order.extra {
        let counted: usize = shop::note(key, value);
    }
    #[task]
    async fn all(cost: Vec<f64>, counted: Vec<usize>, sum: f64) -> Result<()> {
        info!("{cost:?} {counted:?} {sum}");
        Ok(())
    }
    #[task(trigger_rule = all_done)]
    async fn most(small: Vec<Option<u8>>, counted: Vec<Option<usize>>) -> Result<()> {
        info!("{small:?} {counted:?}");
        Ok(())
    }
    map_lines >> shop_done;
    #[task]
    async fn shop_done() {}
    for _ in 0..3 {
        shop::open(1, "");
    }
}

#[biz]
fn groups() {
    async fn one() -> Result<u32> {
        Ok(1)
    }
    async fn two(one: u32) -> Result<u32> {
        Ok(one * 2)
    }
    async fn close(server: u32) {
        let _ = server;
    }

    let prep = {
        let a = one();
        let inner = {
            let b = two(a);
            b
        };
        two(inner)
    };
    let post: Value = {
        let a = two(prep);
        let call: Value = tech!(async GET "/", api_id = "x", no_auth);
        a >> call;
        call
    };
    #[task(setup)]
    let server = one();
    #[task(teardown = server, id = "the.end")]
    close(server);
    server >> prep >> post.call >> close;
    prep.inner.b >> post.call.wait;
}

async fn show<T: Serialize>(value: T) -> Result<String> {
    Ok(serde_json::to_string(&value)?)
}

#[derive(Clone, Serialize, Deserialize)]
pub enum Either {
    Left(u32),
    Right(u32),
    Neither,
}

async fn wide(n: usize) -> Result<usize> {
    Ok(n)
}

async fn next(n: u32) -> Result<u32> {
    Ok(n + 1)
}

/// What is legal, if odd.
#[biz]
fn odd(conf: (Option<u32>, Either, Vec<(u32, u32)>), ctx: Context) {
    use Either::Neither;
    match conf.1 {
        Either::Left(n) | Either::Right(n) => next(n),
        Neither => {}
    }
    match conf.0 {
        Some(n) => {
            let some: String = show(Some(n));
        }
        None => {
            let none: String = show(None::<u32>);
        }
    }
    let more = next(next);
    let most = next(more);
    for (a, b) in conf.2 {
        match a * 100 {
            a => {
                let shown: String = show::<(u32, u32)>((a, b));
            }
        }
    }
    let all: Vec<String> = { shown };
    let answered: Value = match conf.2.len() {
        0 => tech!(GET "/", api_id = "x", no_auth),
        _ => tech!(async GET "/", api_id = "x", no_auth),
    };
    let joined = match conf.2.len() {
        0 => listed(),
        _ => {
            for (c, _) in conf.2 {
                let each: String = show(c);
            }
            each
        }
    };
    #[task]
    async fn r#type(
        all: Vec<String>,
        answered: Value,
        joined: std::vec::Vec<String>,
        most: u32,
    ) -> Result<String> {
        Ok(format!("{all:?} {answered} {joined:?} {most}"))
    }
    #[task]
    async fn last(r#type: std::string::String) -> Result<()> {
        info!("{}", r#type);
        Ok(())
    }
    let width: usize = wide(1);
    let padded: String =
        show(format!("{more:>width$} {}", json!({ "run": &*ctx.run_id, "list": [most, { "more": more }] })));
    answered << width;
}

async fn listed() -> Result<Vec<String>> {
    Ok(vec![])
}

fn ids(dag: &Dag) -> Vec<&str> {
    dag.tasks.iter().map(|task| task.task_id).collect()
}

fn edges(dag: &Dag) -> Vec<String> {
    let mut edges = Vec::new();
    for task in dag.tasks {
        for &up in task.upstream {
            edges.push(format!("{} {}", dag.tasks[up as usize].task_id, task.task_id));
        }
    }
    edges.sort();
    edges
}

fn task<'d>(dag: &'d Dag, id: &str) -> &'d coworks_biz::dag::Task {
    &dag.tasks[dag.task(id).unwrap() as usize]
}

#[test]
fn a_call_is_a_task_and_its_arguments_are_edges() {
    let dag = calls::DEFINITION.dag;
    assert_eq!(ids(dag), ["order", "again", "noted", "note", "number", "made", "shown", "first", "late"]);
    assert_eq!(
        edges(dag),
        [
            "again noted",
            "first late",
            "made late",
            "made shown",
            "noted note",
            "number made",
            "order again",
            "order noted",
            "order number",
            "shown late",
        ]
    );
    assert_eq!(task(dag, "made").options.retries, 7);
    assert_eq!(task(dag, "late").options.retries, 1);
    assert_eq!(task(dag, "again").output, "Order");
}

#[test]
fn a_branch_is_a_task_and_the_gate_of_what_is_in_its_arms() {
    let dag = branches::DEFINITION.dag;
    assert_eq!(
        ids(dag),
        [
            "order",
            "match_order",
            "thank",
            "remind",
            "if_parcel",
            "found",
            "found_too",
            "note",
            "none",
            "known",
            "text",
            "report",
            "if_order",
            "few",
            "seven",
            "last"
        ]
    );
    let Kind::Branch { arms } = task(dag, "match_order").kind else { panic!() };
    let labels: Vec<_> = arms.iter().map(|arm| arm.label).collect();
    assert_eq!(
        labels,
        [
            "State::Paid { amount, by } if amount > 0.5",
            "State::Paid { .. } | State::New",
            "State::Sent(parcel)"
        ]
    );
    assert_eq!(dag.labels.len(), 1);
}

#[test]
fn a_loop_is_a_task_and_those_in_it_are_mapped() {
    let dag = loops::DEFINITION.dag;
    let map = dag.task("map_lines");
    assert_eq!(task(dag, "cost").map, map);
    assert_eq!(task(dag, "small").map, map);
    assert_eq!(task(dag, "sum").map, None);
    assert_eq!(task(dag, "small").gate.unwrap().task, dag.task("match_line").unwrap());
    assert!(edges(dag).contains(&"cost sum".to_owned()));
    assert!(edges(dag).contains(&"small shop_done".to_owned()));
}

#[test]
fn what_is_odd_is_what_it_says() {
    let dag = odd::DEFINITION.dag;
    let edges = edges(dag);
    for edge in
        ["more padded", "width padded", "most padded", "each joined", "shown type", "width match_conf_3"]
    {
        assert!(edges.contains(&edge.to_owned()), "{edge} of {edges:?}");
    }
    assert_eq!(task(dag, "answered").output, "Value");
}

#[test]
fn a_group_is_a_name_for_its_tasks() {
    let dag = groups::DEFINITION.dag;
    assert_eq!(
        ids(dag),
        [
            "prep.a",
            "prep.inner.b",
            "prep.two",
            "post.a",
            "post.call.call",
            "post.call.wait",
            "post.call.read",
            "server",
            "the.end"
        ]
    );
    assert_eq!(task(dag, "server").role, Role::Setup);
    assert_eq!(task(dag, "the.end").role, Role::Teardown);
}
