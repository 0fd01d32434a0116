//! Business services written as Rust functions, checked when they compile, run by one binary.
//!
//! ```
//! use coworks_biz::prelude::*;
//!
//! /// Greets once a day.
//! #[biz(schedule = "@daily", start_date = "2023-01-01", retries = 1, retry_delay = "5m")]
//! fn first() {
//!     let simple: String = tech!(async GET "/", api_id = "xxxx", stage = "dev", token = "token");
//!
//!     #[task]
//!     async fn print_result(simple: String, ctx: Context) -> Result<()> {
//!         info!("run {}: {simple}", ctx.run_id);
//!         Ok(())
//!     }
//!
//!     simple >> print_result;
//! }
//!
//! coworks_biz::main![first];
//! ```
//!
//! Begin with [`macro@biz`], [`macro@task`], [`tech!`], [`sensor!`] and [`trigger!`]; a file of services wants the
//! [`prelude`] in sight; [`main!`] makes the program.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub use coworks_biz_macros::{biz, sensor, task, tech, trigger};
#[doc(hidden)]
pub use coworks_biz_runtime as __runtime;
pub use coworks_biz_runtime::error::{Error, Result};
#[cfg(feature = "local")]
pub use coworks_biz_runtime::local;
pub use coworks_biz_runtime::task::{Biz, Conf, Context, DagRun, DataInterval, FromContext};
pub use coworks_biz_runtime::tech::{Address, Form, Given, Parameter, TechService};
pub use coworks_biz_runtime::{config, dag, engine, error, store, value};

/// What a file with business services wants to have in sight.
pub mod prelude {
    pub use coworks_biz_macros::{biz, sensor, task, tech, trigger};
    pub use coworks_biz_runtime::config::{secret, var};
    pub use coworks_biz_runtime::error::{Error, Result};
    pub use coworks_biz_runtime::task::{Conf, Context, FromContext};
    pub use coworks_biz_runtime::value::{Bytes, Failure, Reply};
    pub use serde_json::{Value, json};
    pub use tracing::{debug, error, info, warn};
}

/// The `main` of a program of business services.
///
/// It lists them by name: explicitly, for a registry that the linker fills
/// would silently lose those of crates that nothing else refers to.
///
/// ```
/// use coworks_biz::prelude::*;
///
/// #[biz]
/// fn nothing() {}
///
/// coworks_biz::main![nothing];
/// ```
///
/// `main![first; local = services]` also names a function that returns the `local::Services` that
/// `run --local` hosts; that needs the feature `local`.
#[macro_export]
macro_rules! main {
    ($($biz:path),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::__runtime::cli::App::new(::std::vec![$(<$biz as $crate::Biz>::DEFINITION),+])
                .version(::core::env!("CARGO_PKG_VERSION"))
                .main()
        }
    };
    ($($biz:path),+ ; local = $services:path $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            let app = $crate::__runtime::cli::App::new(::std::vec![$(<$biz as $crate::Biz>::DEFINITION),+])
                .version(::core::env!("CARGO_PKG_VERSION"));
            $crate::__with_local!(app, $services).main()
        }
    };
}

#[cfg(feature = "local")]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_local {
    ($app:expr, $services:path) => {
        $app.local($services)
    };
}

#[cfg(not(feature = "local"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_local {
    ($app:expr, $services:path) => {
        ::core::compile_error!(
            "`local = ..` needs the feature `local` of coworks-biz: enable it in Cargo.toml"
        )
    };
}

/// The snippets of the pages in `docs/`, compiled.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/language.md")]
    mod language {}
    #[doc = include_str!("../docs/language/tasks.md")]
    mod tasks {}
    #[doc = include_str!("../docs/language/order.md")]
    mod order {}
    #[doc = include_str!("../docs/language/branches.md")]
    mod branches {}
    #[doc = include_str!("../docs/language/loops.md")]
    mod loops {}
    #[doc = include_str!("../docs/language/options.md")]
    mod options {}
    #[doc = include_str!("../docs/language/triggers.md")]
    mod triggers {}
    #[doc = include_str!("../docs/language/inside.md")]
    mod inside {}
    #[doc = include_str!("../docs/language/mistakes.md")]
    mod mistakes {}
    #[doc = include_str!("../docs/schedules.md")]
    mod schedules {}
    #[doc = include_str!("../docs/services.md")]
    mod services {}
    #[doc = include_str!("../docs/testing.md")]
    mod testing {}
    #[doc = include_str!("../docs/asynchronous.md")]
    mod asynchronous {}
    #[doc = include_str!("../docs/from-python.md")]
    mod from_python {}
}
