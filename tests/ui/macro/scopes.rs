//! Names that stand for two things.

use coworks_biz::prelude::*;

async fn send(text: String) -> Result<String> {
    Ok(text)
}

async fn wrap(text: Option<String>) -> Result<String> {
    Ok(text.unwrap_or_default())
}

#[biz]
fn scopes(conf: Vec<Option<String>>) {
    let prep = {
        #[task]
        async fn step() -> Result<u32> {
            Ok(1)
        }
        let inside = send("a".into());
        inside
    };
    let post = {
        #[task]
        async fn step() -> Result<u32> {
            Ok(2)
        }
        step >> prep;
    };
    let member = send(prep.inside);
    for text in conf {
        let text = wrap(text);
        match text {
            again => {
                let again = send(again);
            }
        }
    }
    if conf.is_empty() {
        wrap(None)
    } else {
        wrap(Some("b".into()))
    }
    wrap >> member;
    let taken = send(wrap);
    #[task(setup)]
    match conf.len() {
        0 => {}
        _ => {}
    }
    let untyped = match conf.len() {
        0 => tech!(GET "/", api_id = "x", no_auth),
        _ => send("c".into()),
    };
}

fn main() {}
