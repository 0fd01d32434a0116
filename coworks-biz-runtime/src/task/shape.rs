//! What gives a run its shape while it runs: the arm of a branch, the items of
//! a loop; and how emitted code tells rustc the types of values that nobody has written down.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;

use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::value::{Json, Output, TaskReturn};

/// The arm that a branch has chosen, with the variables of its pattern that its tasks take.
#[derive(Debug)]
pub struct Choice {
    pub(crate) arm: u32,
    bindings: Vec<(String, Json)>,
}

impl Choice {
    /// This arm, from 0 in the order they are written.
    pub fn arm(arm: u32) -> Self {
        Self { arm, bindings: Vec::new() }
    }

    /// With a variable of its pattern.
    pub fn bind<T: Output>(mut self, name: &str, value: T) -> Result<Self> {
        let value = Json::encode(&value).map_err(|e| e.context(format!("the variable `{name}`")))?;
        self.bindings.push((name.to_owned(), value));
        Ok(self)
    }

    /// Its variables as one JSON object.
    pub(super) fn variables(&self) -> Result<Json> {
        let values = self.bindings.iter().map(|(name, json)| {
            let raw: &RawValue = serde_json::from_str(json.as_str())?;
            Ok((name.as_str(), raw))
        });
        let values: BTreeMap<_, _> = values.collect::<Result<_>>()?;
        Json::encode(&values)
    }
}

/// One variable out of the object of all.
pub(super) fn variable<T: Output>(variables: &Json, name: &str) -> Result<T> {
    let variables: BTreeMap<Cow<str>, &RawValue> = serde_json::from_str(variables.as_str())?;
    // Nobody guesses what a program before this one would have stored.
    let value = variables.get(name).ok_or_else(|| {
        Error::fatal(format!(
            "the variable `{name}` was not stored with the choice: the biz has changed since"
        ))
    })?;
    Json::from_stored(value.get()).decode().map_err(|e| e.context(format!("the variable `{name}`")))
}

/// The items of a loop.
#[derive(Debug)]
pub struct Items(pub(crate) Vec<Json>);

/// Evaluates the list of a loop.
pub fn items<I>(list: I) -> Result<Items>
where
    I: IntoIterator<Item: Output>,
{
    list.into_iter().map(|item| Json::encode(&item)).collect::<Result<_>>().map(Items)
}

/// The type of the items of a list, and no item.
pub fn item_of<I: IntoIterator>(_list: I) -> Option<I::Item> {
    None
}

/// A value of a type, in code that is only there for its types.
pub fn value<T>() -> T {
    unreachable!("nothing calls the code that this is in")
}

/// The same, of the type that `witness` has.
pub fn value_of<T>(_witness: Option<T>) -> T {
    value()
}

/// The type of an output that may be missing, and none.
pub fn maybe_of<T>(_witness: Option<T>) -> Option<Option<T>> {
    None
}

/// The type of the outputs of all instances of a task, and none.
pub fn list_of<T>(_witness: Option<T>) -> Option<Vec<T>> {
    None
}

/// What a parameter takes, from what a task gives: the same type.
///
/// `Task` and `Upstream` are there for the sentence that rustc says where it is another.
#[diagnostic::on_unimplemented(
    message = "task `{Task}` takes `{Self}` from `{Upstream}`, which gives `{Given}`",
    label = "`{Upstream}` gives `{Given}`"
)]
pub trait Takes<Given, Task, Upstream> {
    #[doc(hidden)]
    fn take(given: Given) -> Self;
}

#[diagnostic::do_not_recommend]
impl<T, Task, Upstream> Takes<T, Task, Upstream> for T {
    fn take(given: T) -> T {
        given
    }
}

/// Nothing is one of these. With a second type that a parameter could take, rustc asks what it is
/// given, and does not conclude it from what it takes.
#[derive(Debug)]
pub struct Never<T>(std::convert::Infallible, std::marker::PhantomData<T>);

#[diagnostic::do_not_recommend]
impl<T, Task, Upstream> Takes<Never<T>, Task, Upstream> for T {
    fn take(given: Never<T>) -> T {
        match given.0 {}
    }
}

/// What a parameter of the type `T` takes.
pub fn takes<T, Given, Task, Upstream>(given: Given) -> T
where
    T: Takes<Given, Task, Upstream>,
{
    T::take(given)
}

/// A function that a task calls: it knows what the function gives.
///
/// Implemented for every `async fn` of up to twelve parameters.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `async fn` that a task can call",
    label = "a task calls an `async fn`, or a `#[task] fn` of this biz"
)]
pub trait Callee<Parameters> {
    /// The output of the task that calls it.
    type Output: Output;
}

macro_rules! callee {
    ($($parameter:ident)*) => {
        impl<F, R, $($parameter),*> Callee<($($parameter,)*)> for F
        where
            F: Fn($($parameter),*) -> R,
            R: Future<Output: TaskReturn>,
        {
            type Output = <R::Output as TaskReturn>::Output;
        }
    };
}
callee!();
callee!(A);
callee!(A B);
callee!(A B C);
callee!(A B C D);
callee!(A B C D E);
callee!(A B C D E G);
callee!(A B C D E G H);
callee!(A B C D E G H I);
callee!(A B C D E G H I J);
callee!(A B C D E G H I J K);
callee!(A B C D E G H I J K L);
callee!(A B C D E G H I J K L M);

/// The type of the output of a task that calls this function, and no output.
pub fn output_of<P, F: Callee<P>>(_function: F) -> Option<F::Output> {
    None
}
