//! The output of a task as the tasks below take it.

use super::{Body, DagRun, Host, Member};
use crate::error::Result;
use crate::value::{self, Json, RETURN_VALUE, Type};

/// The key of the status of an answer.
pub(super) const STATUS_CODE: &str = "status_code";

/// The key of the headers of an answer that is the failure of a reply.
pub(super) const HEADERS: &str = "headers";

impl Body {
    /// The type of the answer that it pushes as its output; `None` where it pushes none, or nobody uses it.
    pub fn answer(&self) -> Option<&Type> {
        match self {
            Self::Call { call, .. } => call.output.as_ref(),
            Self::Group { member: Member::Read, call, .. } => call.call.output.as_ref(),
            Self::Sensor { call, .. } => call.call.output.as_ref(),
            Self::Function(_)
            | Self::Group { .. }
            | Self::Trigger { .. }
            | Self::Branch(_)
            | Self::Map(_)
            | Self::Join { .. } => None,
        }
    }
}

/// The output of a task as a reply: put together where it is the answer of a call, which is pushed
/// in pieces, as CoWorks does.
pub(super) async fn reply(
    host: &dyn Host,
    run: &DagRun,
    task_id: &str,
    map_index: i32,
) -> Result<Option<Json>> {
    let value = host.xcom(run, task_id, map_index, RETURN_VALUE).await?;
    let Some(status) = host.xcom(run, task_id, map_index, STATUS_CODE).await? else { return Ok(value) };
    let status: u16 = status.decode()?;
    let headers = match status {
        400.. => host.xcom(run, task_id, map_index, HEADERS).await?,
        _ => None,
    };
    Ok(Some(value::assemble(status, value.as_ref(), headers.as_ref())))
}

/// The same, of all instances of a task in the loop over `list`.
pub(super) async fn replies(
    host: &dyn Host,
    run: &DagRun,
    list: &str,
    task_id: &str,
) -> Result<Vec<Option<Json>>> {
    let values = host.mapped_xcoms(run, list, task_id, RETURN_VALUE).await?;
    let statuses = host.mapped_xcoms(run, list, task_id, STATUS_CODE).await?;
    let headers = host.mapped_xcoms(run, list, task_id, HEADERS).await?;
    let assembled = values.into_iter().zip(statuses).zip(headers).map(|((value, status), headers)| {
        let Some(status) = status else { return Ok(value) };
        Ok(Some(value::assemble(status.decode()?, value.as_ref(), headers.as_ref())))
    });
    assembled.collect()
}
