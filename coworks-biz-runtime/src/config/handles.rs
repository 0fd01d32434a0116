//! Names of values that the host knows, for what is constant: the value comes when it is needed.

/// The name of a secret, as [`secret`] gives it.
///
/// It is no value: it can be printed, and it cannot be serialized, so that it never
/// passes into an output, a query or a body by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretName(&'static str);

/// The name of a variable, as [`var`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VarName(&'static str);

/// The secret of this name, from `COWORKS_SECRET_<NAME>` or `AIRFLOW_VAR_<NAME>`, for the
/// `token`, the `headers` and the `query` of a call. It is looked up when the call is sent.
///
/// ```
/// use coworks_biz_runtime::config::{SecretName, secret};
///
/// const TOKEN: SecretName = secret("BILLING_TOKEN");
/// assert_eq!(format!("{TOKEN:?}"), "SecretName(\"BILLING_TOKEN\")");
/// ```
pub const fn secret(name: &'static str) -> SecretName {
    SecretName(name)
}

/// The variable of this name, from `COWORKS_VAR_<NAME>` or `AIRFLOW_VAR_<NAME>`, for the
/// `token`, the `headers` and the `query` of a call. It is looked up when the call is sent.
pub const fn var(name: &'static str) -> VarName {
    VarName(name)
}

impl SecretName {
    /// The name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl VarName {
    /// The name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}
