//! One body with nineteen mistakes gets nineteen errors at once, and breaks nothing else.

use coworks_biz::prelude::*;

#[biz(shedule = "@daily", retry_delay = "soon")]
pub fn many(conf: String) {
    let a: String = tech!(GET "a", api_id = "x", no_auth);
    let x = 3;
    let json: Value = tech!(GET "/", api_id = "x", no_auth, json = json!({ "conf": conf }));
    let typed = tech!(POST "/{conf}", api_id = "x", token = secret("NAME"));

    #[task]
    async fn one() -> Result<u32> {
        Ok(helper())
    }

    #[task]
    async fn one(onne: u32) {}

    #[task]
    async fn two(onne: u32) {
        let _ = onne;
    }

    fn helper() -> u32 {
        3
    }

    one >> tow;
    one + one;
    println!();

    let twice = called(typed);
    called(conf).await;
    match conf.len() {
        0 => {
            let none = called(String::new());
        }
        _ => {
            let some = called(conf);
            some >> "unused";
        }
    }
    #[task(trigger_rule = all_of_them)]
    let both = called(none + &some);
    for letter in conf.chars() {
        for other in conf.chars() {}
    }
    one >> called;
    return;
}

async fn called(text: String) -> Result<String> {
    Ok(text)
}

coworks_biz::main![many];
