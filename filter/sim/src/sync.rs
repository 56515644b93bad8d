//! Waiting in virtual time.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::executor::Executor;

/// The future's output. `None` if it takes longer than `limit`; the future is dropped then.
pub async fn within<T>(
    executor: &Rc<Executor>,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let future = std::pin::pin!(future);
    match select(future, executor.sleep(limit)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}
