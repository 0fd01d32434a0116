//! Every form of the language that this version has.

mod shapes;
mod triggers;

use coworks_biz::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
pub struct Customer {
    id: u32,
}

mod renamed {
    pub use ::coworks_biz as biz;
}

/// Described.
///
/// In two paragraphs.
#[biz(
    schedule = "30 6 * * 1-5",
    timezone = "Europe/Paris",
    start_date = "2023-01-01T06:00:00",
    end_date = "2033-01-01",
    catchup = true,
    tags = ["a", "b"],
    owner = "me",
    dag_id = "all-forms",
    retries = 3,
    retry_delay = "1m 30s",
    retry_exponential_backoff = true,
    max_retry_delay = "1h",
    execution_timeout = "2h",
    trigger_rule = all_success,
    email = ["a@b.c", "d@e.f"],
    email_on_failure = true,
    email_on_retry = false
)]
pub(crate) fn forms(conf: Customer, ctx: Context) {
    use std::collections::HashMap;
    const LIMIT: usize = 3;

    struct Count(usize);

    fn helper(list: &[u8]) -> Count {
        Count(list.len().min(LIMIT))
    }

    let simple: String =
        tech!(async GET "/", api_id = "xxxx", token = "token", bucket = "b", timeout = "1h", keep);
    let customer: Customer = tech!(GET "/customers/new", url = "https://example.com/base", no_auth);
    let raw: Bytes = tech!(PUT "/{{raw}}", api_id = "xxxx", stage = "prod", region = "eu-west-3",
        token = secret("NAME"), accept = "application/octet-stream", request_timeout = "5s");
    tech!(DELETE "/customers/1", api_id = "xxxx", no_auth);
    tech!(DELETE "/customers/1", api_id = "xxxx", no_auth);

    #[task]
    async fn count(
        raw: Bytes,
        customer: Customer,
        conf: Customer,
        Conf(order): Conf<HashMap<String, u32>>,
    ) -> Result<usize> {
        Ok(helper(&raw).0 + (customer.id + conf.id) as usize + order.len())
    }

    #[task(retries = 0, trigger_rule = all_done)]
    fn blocking(
        simple: Option<String>,
        mut count: Option<usize>,
        context: Context,
    ) -> std::result::Result<(), std::num::ParseIntError> {
        count = count.or(Some(simple.unwrap_or_default().parse::<usize>()?));
        let _ = (count, context.try_number);
        Ok(())
    }

    #[task]
    async fn r#type() {}

    simple >> [count, blocking] >> r#type;
    r#type << customer;
    simple.call >> xxxx_customers_1 >> (xxxx_customers_1_2);
    [simple.wait, customer] >> [r#type, blocking];
}

#[biz(crate = crate::renamed::biz)]
fn empty() {}

#[test]
fn every_form_becomes_the_graph_it_says() {
    use coworks_biz::Biz;
    let dag = forms::DEFINITION.dag;
    assert_eq!(dag.dag_id, "all-forms");
    assert_eq!(dag.description, "Described.\n\nIn two paragraphs.");
    let ids: Vec<_> = dag.tasks.iter().map(|task| task.task_id).collect();
    assert_eq!(
        ids,
        [
            "simple.call",
            "simple.wait",
            "simple.read",
            "customer",
            "raw",
            "xxxx_customers_1",
            "xxxx_customers_1_2",
            "count",
            "blocking",
            "type"
        ]
    );
    let edge = |from: &str, to: &str| {
        let (from, to) = (dag.task(from).unwrap(), dag.task(to).unwrap());
        let down = dag.tasks[from as usize].downstream.iter().filter(|&&t| t == to).count();
        let up = dag.tasks[to as usize].upstream.iter().filter(|&&t| t == from).count();
        assert_eq!((down, up), (1, 1));
    };
    for (from, to) in [
        ("simple.call", "simple.wait"),
        ("simple.wait", "simple.read"),
        ("simple.read", "count"),
        ("simple.read", "blocking"),
        ("raw", "count"),
        ("customer", "count"),
        ("count", "blocking"),
        ("count", "type"),
        ("blocking", "type"),
        ("customer", "type"),
        ("simple.call", "xxxx_customers_1"),
        ("xxxx_customers_1", "xxxx_customers_1_2"),
        ("simple.wait", "type"),
        ("simple.wait", "blocking"),
        ("customer", "blocking"),
    ] {
        edge(from, to);
    }
    let edges: usize = dag.tasks.iter().map(|task| task.upstream.len()).sum();
    assert_eq!(edges, 15);
    let place = |task| dag.order.iter().position(|&t| t == task).unwrap();
    for (task, node) in dag.tasks.iter().enumerate() {
        assert!(node.upstream.iter().all(|&up| place(up) < place(task as u32)));
    }
    let blocking = &dag.tasks[dag.task("blocking").unwrap() as usize];
    assert_eq!(blocking.options.retries, 0);
    assert_eq!(blocking.options.retry_delay.as_secs(), 90);
    assert_eq!(blocking.output, "()");
    assert_eq!(dag.start_date, Some(1_672_549_200));
    assert!(empty::DEFINITION.dag.tasks.is_empty());
}
