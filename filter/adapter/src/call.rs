//! Callouts under way, and what their answers are made of.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Poll, Waker};

use oidc_gate_core::host::{CalloutError, CalloutReply};

/// The result of a callout.
pub type Answer = Result<CalloutReply, CalloutError>;

/// Reads the reply to a callout. A failed call has no headers; `body` is not called then.
///
/// # Errors
/// [`CalloutError::Reset`] without headers or without a status.
pub fn reply(headers: Vec<(String, Vec<u8>)>, body: impl FnOnce() -> Vec<u8>) -> Answer {
    let status = headers
        .iter()
        .find(|(name, _)| name == ":status")
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok())
        .ok_or(CalloutError::Reset)?;
    Ok(CalloutReply { status, headers, body: body() })
}

/// The callouts of one instance, by the host's number for each.
#[derive(Clone, Default)]
pub(crate) struct Calls(Rc<RefCell<HashMap<u32, Rc<Call>>>>);

/// One callout.
#[derive(Default)]
struct Call {
    answer: RefCell<Option<Answer>>,
    waker: RefCell<Option<Waker>>,
}

/// A callout that a task waits for. The host sends no reply to a stream that no longer exists, so this must be dropped
/// with the stream's task.
pub(crate) struct Booking {
    call: Rc<Call>,
    token: Option<u32>,
    calls: Calls,
}

impl Calls {
    /// Registers a callout under the number of its reply, or with the reason why it was not sent.
    pub(crate) fn book(&self, sent: Result<u32, CalloutError>) -> Booking {
        let call = Rc::new(Call::default());
        match sent {
            Ok(token) => drop(self.0.borrow_mut().insert(token, call.clone())),
            Err(error) => call.complete(Err(error)),
        }
        Booking { call, token: sent.ok(), calls: self.clone() }
    }

    /// Delivers a reply and wakes the task that waits for it. A reply without such a task is dropped.
    pub(crate) fn answered(&self, token: u32, answer: Answer) {
        let call = self.0.borrow_mut().remove(&token);
        if let Some(call) = call {
            call.complete(answer);
        }
    }

    /// Drops all callouts.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

impl Call {
    fn complete(&self, answer: Answer) {
        *self.answer.borrow_mut() = Some(answer);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Booking {
    /// Waits for the reply.
    pub(crate) async fn answer(self) -> Answer {
        std::future::poll_fn(|context| match self.call.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                *self.call.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.calls.0.borrow_mut().remove(&token);
        }
    }
}
