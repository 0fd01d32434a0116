//! Tasks that wait for two arms, of which only one runs.

use coworks_biz::prelude::*;

async fn send(text: String) -> Result<String> {
    Ok(text)
}

#[biz]
fn exclusive() {
    let text: String = tech!(GET "/", api_id = "x", no_auth);

    match text.as_str() {
        "a" => {
            let first = send("a".into());
            let inside = send(second);
        }
        _ => {
            let second = send("b".into());
        }
    }
    let archive: String = tech!(GET "/", api_id = "x", no_auth);
    let other: String = tech!(GET "/", api_id = "x", no_auth);
    [first, second] >> archive;
    first >> other << second;
    let both = send(first + &second);
    let after_first = send(first);
    let after_both = send(after_first + &second);
    #[task(trigger_rule = none_failed_min_one_success)]
    let right = send(first.or(second).unwrap_or_default());

    if text.is_empty() && text.len() < 3 {
        let nothing = send("c".into());
    } else {
        let something = send("d".into());
        nothing >> something;
    }
}

#[biz]
fn around() {
    let text: String = tech!(GET "/", api_id = "x", no_auth);
    match text {
        again => {
            let upwards = send(again);
            upwards >> text;
        }
    }
}

fn main() {}
