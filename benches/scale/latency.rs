//! From a trigger to the first line of the first task.

use std::path::Path;
use std::time::{Duration, Instant};

use coworks_biz::__runtime::task::Definition;
use coworks_biz::engine::{Engine, Trigger};

use super::{ms, plans, serving};

/// How long it took until the trigger was answered, and until the first task began.
pub struct Taken {
    acknowledged: Vec<Duration>,
    pub begun: Vec<Duration>,
}

impl Taken {
    fn of(times: Vec<(Duration, Duration)>) -> Self {
        let (mut acknowledged, mut begun): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        acknowledged.sort_unstable();
        begun.sort_unstable();
        Self { acknowledged, begun }
    }

    pub fn print(&self, name: &str) {
        for (what, times) in [("answered", &self.acknowledged), ("begun", &self.begun)] {
            let (half, most, last) = (part(times, 50), part(times, 99), part(times, 100));
            println!("{name:<44} {what:<9} p50 {half:>8.2} ms, p99 {most:>8.2} ms, max {last:>8.2} ms");
        }
    }
}

/// The time within which so many of a hundred were done, in milliseconds.
pub fn part(times: &[Duration], of_100: usize) -> f64 {
    ms(times[(times.len() - 1) * of_100 / 100])
}

async fn one(engine: &Engine, definition: &'static Definition) -> (Duration, Duration) {
    let begin = Instant::now();
    let mut handle = engine.trigger(definition, Trigger::default()).await.expect("a run");
    let acknowledged = begin.elapsed();
    handle.ended().await.expect("its end");
    (acknowledged, plans::begun(handle.run.number) - begin)
}

/// One after the other, so far apart.
pub async fn apart(engine: &Engine, definition: &'static Definition, times: usize, pause: Duration) -> Taken {
    let mut taken = Vec::new();
    for _ in 0..times {
        tokio::time::sleep(pause).await;
        taken.push(one(engine, definition).await);
    }
    Taken::of(taken)
}

/// So many, 20 ms after each other, whether they have begun or not.
async fn meanwhile(engine: &Engine, definition: &'static Definition, times: usize) -> Taken {
    let each = (0..times as u64).map(|number| async move {
        tokio::time::sleep(Duration::from_millis(20 * number)).await;
        one(engine, definition).await
    });
    Taken::of(futures_util::future::join_all(each).await)
}

pub async fn measure(dir: &Path) {
    let (first, ahead, slow) = (plans::first("first", 1), plans::first("ahead", 10), plans::slow());
    let (engine, _) = serving(&dir.join("biz.db"), &[first, ahead, slow]).await;
    // The log and the caches then have their size.
    apart(&engine, first, 200, Duration::from_millis(1)).await;
    apart(&engine, first, 2_000, Duration::from_millis(5)).await.print("idle, 2,000 triggers 5 ms apart");
    apart(&engine, first, 200, Duration::from_millis(100)).await.print("idle, 200 triggers 100 ms apart");
    for (definition, name) in [(first, "weight 1"), (ahead, "weight 10")] {
        let begin = Instant::now();
        let mut run = engine.trigger(slow, Trigger::default()).await.expect("a run");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let taken = meanwhile(&engine, definition, 50).await;
        run.ended().await.expect("its end");
        println!(
            "10,000 tasks of 5 ms have taken {:.2} s; 50 triggers meanwhile:",
            begin.elapsed().as_secs_f64()
        );
        taken.print(&format!("beside them, priority {name}"));
    }
}
