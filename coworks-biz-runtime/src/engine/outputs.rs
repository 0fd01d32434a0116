//! The values of a run that are in memory: what the next tasks will ask for.

use std::borrow::Cow;
use std::sync::RwLock;

use super::Map;
use crate::store::Stored;
use crate::value::Json;

/// How much of the values of one run stays in memory; the others are in the database.
const KEPT: usize = 64 << 20;

/// What is larger than this is not copied when it is asked for.
const PACKED: usize = 512;

/// The values of one run that are in the database and small.
#[derive(Debug, Default)]
pub(super) struct Outputs(RwLock<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By task and map index.
    values: Map<&'static str, Map<i32, Pushed>>,
    bytes: usize,
}

/// What one task instance has pushed, by key.
#[derive(Debug)]
enum Pushed {
    /// Key and JSON by turns, each ended by a zero: what a hundred thousand calls have left is little then.
    Packed(Box<str>),
    Apart(Box<[(Cow<'static, str>, Json)]>),
}

impl Pushed {
    fn of(values: Vec<(Cow<'static, str>, Json)>) -> Self {
        let size: usize = values.iter().map(|(key, json)| key.len() + json.as_str().len() + 2).sum();
        // JSON has no zeros; a key may be anything.
        if size > PACKED || values.iter().any(|(key, _)| key.contains('\0')) {
            return Self::Apart(values.into());
        }
        let mut packed = String::with_capacity(size);
        for (key, json) in &values {
            for part in [key, json.as_str()] {
                packed.push_str(part);
                packed.push('\0');
            }
        }
        Self::Packed(packed.into())
    }

    fn get(&self, wanted: &str) -> Option<Json> {
        match self {
            Self::Packed(packed) => {
                let mut parts = packed.split_terminator('\0');
                while let (Some(key), Some(json)) = (parts.next(), parts.next()) {
                    if key == wanted {
                        return Some(Json::from_stored(json));
                    }
                }
                None
            }
            Self::Apart(values) => values.iter().find(|(key, _)| key == wanted).map(|(_, json)| json.clone()),
        }
    }

    /// What it takes, without what it is in.
    fn bytes(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.len(),
            Self::Apart(values) => values.iter().map(|(_, json)| json.as_str().len()).sum(),
        }
    }
}

impl Kept {
    fn remove(&mut self, task_id: &str, map_index: i32) {
        if let Some(pushed) = self.values.get_mut(task_id).and_then(|of_task| of_task.remove(&map_index)) {
            self.bytes -= pushed.bytes();
        }
    }
}

impl Outputs {
    pub(super) fn keep(
        &self,
        task_id: &'static str,
        map_index: i32,
        xcoms: Vec<(Cow<'static, str>, Stored)>,
    ) {
        let small = xcoms.into_iter().filter_map(|(key, value)| match value {
            Stored::Inline(json) => Some((key, json)),
            Stored::Blob(_) => None,
        });
        let small: Vec<_> = small.collect();
        let pushed = (!small.is_empty()).then(|| Pushed::of(small));
        let mut kept = self.0.write().unwrap_or_else(|e| e.into_inner());
        // An earlier value is gone, also where this one is not kept.
        kept.remove(task_id, map_index);
        if let Some(pushed) = pushed.filter(|pushed| kept.bytes + pushed.bytes() <= KEPT) {
            kept.bytes += pushed.bytes();
            kept.values.entry(task_id).or_default().insert(map_index, pushed);
        }
    }

    /// It runs again; `None` is for all its map indexes.
    pub(super) fn forget(&self, task_id: &str, map_index: Option<i32>) {
        let mut kept = self.0.write().unwrap_or_else(|e| e.into_inner());
        match map_index {
            Some(map_index) => kept.remove(task_id, map_index),
            None => {
                let values = kept.values.remove(task_id).unwrap_or_default();
                kept.bytes -= values.values().map(Pushed::bytes).sum::<usize>();
            }
        }
    }

    pub(super) fn get(&self, task_id: &str, map_index: i32, key: &str) -> Option<Json> {
        let kept = self.0.read().unwrap_or_else(|e| e.into_inner());
        kept.values.get(task_id)?.get(&map_index)?.get(key)
    }

    /// Of which task instances there is something.
    #[cfg(test)]
    pub(super) fn kept(&self) -> Vec<(&'static str, i32)> {
        let kept = self.0.read().unwrap();
        kept.values.iter().flat_map(|(task, of)| of.keys().map(|&index| (*task, index))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str) -> Stored {
        Stored::Inline(Json::encode(text).unwrap())
    }

    #[test]
    fn what_is_kept_is_found_whatever_its_key_and_size_and_counted_until_it_goes() {
        let (outputs, long) = (Outputs::default(), "x".repeat(2 * PACKED));
        let of = |outputs: &Outputs, index, key| {
            outputs.get("a", index, key).map(|json| json.decode::<String>().unwrap())
        };
        let few = vec![("k".into(), stored("")), ("".into(), stored("b\0c")), ("kk".into(), stored("d"))];
        outputs.keep("a", 0, few);
        outputs.keep("a", 1, vec![("k".into(), stored(&long)), ("l".into(), stored("e"))]);
        outputs.keep("a", 2, vec![("k\0l".into(), stored("f")), ("k".into(), Stored::Blob("g".into()))]);
        let found = ["k", "", "kk", "l"].map(|key| of(&outputs, 0, key));
        assert_eq!(found, [Some("".into()), Some("b\0c".into()), Some("d".into()), None]);
        assert_eq!((of(&outputs, 1, "k"), of(&outputs, 1, "l")), (Some(long), Some("e".into())));
        assert_eq!((of(&outputs, 2, "k\0l"), of(&outputs, 2, "k")), (Some("f".into()), None));

        outputs.keep("a", 0, vec![("k".into(), stored("again"))]);
        assert_eq!((of(&outputs, 0, "k"), of(&outputs, 0, "kk")), (Some("again".into()), None));
        outputs.forget("a", Some(1));
        assert_eq!(of(&outputs, 1, "k"), None);
        outputs.forget("a", None);
        assert_eq!((of(&outputs, 0, "k"), outputs.0.read().unwrap().bytes), (None, 0));
    }

    #[test]
    fn beyond_so_much_nothing_is_kept_and_the_value_before_is_gone() {
        let outputs = Outputs::default();
        let large = Stored::Inline(Json::from_stored("1".repeat(KEPT)));
        outputs.keep("a", 0, vec![("k".into(), stored("b"))]);
        outputs.keep("b", 0, vec![("k".into(), stored("c"))]);
        outputs.keep("a", 0, vec![("k".into(), large)]);
        assert_eq!(outputs.get("a", 0, "k"), None);
        assert!(outputs.get("b", 0, "k").is_some());
    }
}
