//! Loops and groups: what has no meaning.

use coworks_biz::prelude::*;

async fn send(text: String) -> Result<String> {
    Ok(text)
}

#[biz]
fn loops(conf: Vec<Vec<String>>) {
    for list in conf {
        for text in list {
            let inner = send(text);
        }
    }
    let all = for text in conf {
        send(text);
    };
    'label: for text in conf {
        let labelled = send(text.join(""));
        break 'label;
    }
    for lent in &conf {
        let of_lent = send(lent.concat());
    }
    let typed: String = {
        let no_tail = send("b".into());
    };
    while true {}
    loop {}
    let mapped = send(map_conf);

    let group = {
        let inside = send("a".into());
    };
    let valued = send(group);
    inside >> valued;
    group.nothing >> valued;
    group.inside.call >> valued;
    #[task(retries = 1)]
    let options = {};
    {
        send("c".into());
    }
    group >> "a label";
    "a label" >> group;
}

fn main() {}
