//! Business services written as Rust functions, checked when they compile, run by one binary.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub use coworks_biz_macros::{biz, task, tech};
#[doc(hidden)]
pub use coworks_biz_runtime as __runtime;
pub use coworks_biz_runtime::error::{Error, Result};
#[cfg(feature = "local")]
pub use coworks_biz_runtime::local;
pub use coworks_biz_runtime::task::{Biz, Conf, Context, DagRun, DataInterval, FromContext};
pub use coworks_biz_runtime::{config, engine, error, store, value};

/// What a file with business services wants to have in sight.
pub mod prelude {
    pub use coworks_biz_macros::{biz, task, tech};
    pub use coworks_biz_runtime::error::{Error, Result};
    pub use coworks_biz_runtime::task::{Conf, Context, FromContext};
    pub use coworks_biz_runtime::value::Bytes;
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
/// `main![first; local = services]` also names a function that returns the
/// [`local::Services`](coworks_biz_runtime::local::Services) that `run --local` hosts; that needs the feature
/// `local`.
#[macro_export]
macro_rules! main {
    ($($biz:path),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::__runtime::cli::App::new(::std::vec![$(<$biz as $crate::Biz>::DEFINITION),+]).main()
        }
    };
    ($($biz:path),+ ; local = $services:path $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            let app = $crate::__runtime::cli::App::new(::std::vec![$(<$biz as $crate::Biz>::DEFINITION),+]);
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
