//! Branches: what has no meaning, and what would never run.

use coworks_biz::prelude::*;

async fn send(text: String) -> Result<String> {
    Ok(text)
}

#[biz]
fn branches(conf: Option<String>) {
    let text: String = tech!(GET "/", api_id = "x", no_auth);

    match text.as_str() {
        "a" => {
            let first = send("a".into());
        }
        _ => {
            let second = send("b".into());
        }
    }
    match 3 {
        3 => {}
        _ => {}
    }
    if true {
        let always = send("c".into());
    }

    let given = match conf {
        Some(text) => text,
        None => {}
    };
    let half = if text.is_empty() {
        let empty = send("d".into());
        empty
    };
    match text.len() {
        1 => text,
        _ => {}
    }
    match &conf {
        Some(inside) => {
            let borrowed = send(inside);
        }
        None => {}
    }
    match conf {
        Some(ref inside) => {
            let referred = send(inside);
        }
        None => {}
    }
    let from_branch = send(match_text);
    let own = send(own);
    match text.len() {
        #[cfg(unix)]
        2 => {}
        _ => return,
    }
    (first, second) >> own;
}

fn main() {}
