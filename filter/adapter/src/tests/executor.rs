//! Tasks, sleeps and calls.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use oidc_gate_core::host::{CalloutError, CalloutReply};

use super::host::{Exchange, MemoryHost};
use crate::call::{Calls, reply};
use crate::context::Owner;
use crate::executor::Executor;
use crate::scheduler::{Fifo, Scheduler as _, Span};

type Seen = Rc<RefCell<Vec<&'static str>>>;

struct Tasks {
    host: Rc<MemoryHost>,
    scheduler: Rc<Fifo>,
    executor: Rc<Executor>,
    seen: Seen,
}

impl Tasks {
    fn new() -> Self {
        let host = MemoryHost::new();
        let scheduler = Rc::new(Fifo::new(host.clone()));
        let executor = Rc::new(Executor::new(host.clone(), scheduler.clone()));
        Self { host, scheduler, executor, seen: Seen::default() }
    }

    /// A task that records each poll, and wakes itself until it was polled `turns` times.
    fn spawn(&self, owner: Owner, name: &'static str, mut turns: u32) {
        let seen = self.seen.clone();
        let task = poll_fn(move |context| {
            seen.borrow_mut().push(name);
            turns -= 1;
            if turns == 0 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        self.executor.spawn(owner, Span::Finite, Box::pin(task));
    }

    fn run(&self, active: Owner) -> Vec<&'static str> {
        self.host.in_context(active, || self.executor.run(active));
        self.seen.take()
    }
}

#[test]
fn within_a_streams_callback_only_its_own_task_runs() {
    let tasks = Tasks::new();
    let instance = tasks.host.instance();
    let (one, other) = (Exchange::new(&tasks.host, &instance), Exchange::new(&tasks.host, &instance));
    tasks.spawn(Owner::Root, "job", 1);
    tasks.spawn(Owner::Stream(one.id), "one", 2);
    tasks.spawn(Owner::Stream(other.id), "other", 1);
    assert_eq!(tasks.run(Owner::Stream(one.id)), ["one", "one"]);
    assert_eq!(tasks.host.tick.take(), Some(Duration::ZERO), "what is left asks for a tick");
    assert_eq!(tasks.run(Owner::Root), ["job", "other"], "in the order in which they became ready");
    assert_eq!(tasks.host.tick.get(), None, "nothing is left");
    assert!(tasks.executor.is_idle());
}

#[test]
fn a_task_of_a_stream_that_is_gone_goes_when_its_turn_comes() {
    let tasks = Tasks::new();
    let instance = tasks.host.instance();
    let mut gone = Exchange::new(&tasks.host, &instance);
    tasks.spawn(Owner::Stream(gone.id), "gone", 1);
    tasks.spawn(Owner::Root, "job", 1);
    gone.close();
    assert_eq!(tasks.executor.waiting(), 1);
    assert_eq!(tasks.run(Owner::Root), ["job"]);
    assert_eq!(tasks.executor.waiting(), 0);
}

#[test]
fn a_task_that_drops_another_one_and_itself_leaves_nothing() {
    let tasks = Tasks::new();
    let held = Rc::new(());
    let other = held.clone();
    let other = tasks.executor.spawn(
        Owner::Root,
        Span::Endless,
        Box::pin(async move {
            let _held = other;
            std::future::pending().await
        }),
    );
    let (executor, own) = (tasks.executor.clone(), held.clone());
    tasks.executor.spawn(
        Owner::Root,
        Span::Finite,
        Box::pin(async move {
            let _held = own;
            executor.cancel(other);
            executor.clear();
            std::future::pending().await
        }),
    );
    tasks.run(Owner::Root);
    assert_eq!(Rc::strong_count(&held), 1, "both futures were dropped");
}

#[test]
fn what_has_no_end_goes_alone() {
    let tasks = Tasks::new();
    tasks.executor.spawn(Owner::Root, Span::Endless, Box::pin(std::future::pending()));
    assert!(tasks.executor.is_idle(), "nobody waits for what has no end");
    tasks.spawn(Owner::Root, "job", 1);
    assert!(!tasks.executor.is_idle());
    tasks.executor.end_endless();
    assert_eq!(tasks.run(Owner::Root), ["job"]);
}

#[test]
fn sleeps_end_in_the_order_of_their_time_and_ask_for_a_tick() {
    let tasks = Tasks::new();
    for (name, millis) in [("late", 50), ("soon", 20), ("at once", 0), ("soon, too", 20)] {
        let (sleep, seen) = (tasks.scheduler.sleep(Duration::from_millis(millis)), tasks.seen.clone());
        let task = async move {
            sleep.await;
            seen.borrow_mut().push(name);
        };
        tasks.executor.spawn(Owner::Root, Span::Finite, Box::pin(task));
    }
    assert_eq!(tasks.run(Owner::Root), ["at once"]);
    for (tick, expected) in [(20, &["soon", "soon, too"][..]), (50, &["late"])] {
        let tick = Duration::from_millis(tick);
        assert_eq!(tasks.host.tick.take(), Some(tick));
        tasks.host.advance(tick - Duration::from_millis(if tick.as_millis() == 20 { 0 } else { 20 }));
        tasks.scheduler.tick();
        assert_eq!(tasks.run(Owner::Root), expected);
    }
    assert_eq!(tasks.host.tick.get(), None);
}

#[test]
fn a_sleep_that_nobody_waits_for_any_more_asks_for_no_tick() {
    let tasks = Tasks::new();
    let sleep = tasks.scheduler.sleep(Duration::from_secs(1));
    let task = tasks.executor.spawn(Owner::Root, Span::Finite, sleep);
    tasks.run(Owner::Root);
    assert!(tasks.host.tick.take().is_some());
    tasks.executor.cancel(task);
    tasks.run(Owner::Root);
    assert_eq!(tasks.host.tick.get(), None);
}

#[test]
fn calls_are_answered_once_and_a_late_answer_goes_nowhere() {
    let tasks = Tasks::new();
    let calls = Calls::default();
    let answers = Rc::new(RefCell::new(Vec::new()));
    for sent in [Ok(1), Ok(2), Err(CalloutError::NotSent)] {
        let (booking, answers) = (calls.book(sent), answers.clone());
        let task = async move {
            let answer = booking.answer().await;
            answers.borrow_mut().push((sent, answer.map(|reply| reply.status)));
        };
        tasks.executor.spawn(Owner::Root, Span::Finite, Box::pin(task));
    }
    let nobody = calls.book(Ok(3));
    tasks.run(Owner::Root);
    assert_eq!(answers.take(), [(Err(CalloutError::NotSent), Err(CalloutError::NotSent))]);
    drop(nobody);
    assert_eq!(calls.len(), 2);
    for token in [3, 2, 2, 77] {
        calls.answered(token, Ok(CalloutReply { status: 204, ..CalloutReply::default() }));
    }
    tasks.run(Owner::Root);
    assert_eq!(answers.take(), [(Ok(2), Ok(204))]);
    calls.answered(1, Err(CalloutError::Reset));
    tasks.run(Owner::Root);
    assert_eq!(answers.take(), [(Ok(1), Err(CalloutError::Reset))]);
    assert_eq!(calls.len(), 0);
}

#[test]
fn an_answer_that_is_there_before_anybody_waits_is_kept() {
    let tasks = Tasks::new();
    let calls = Calls::default();
    let booking = calls.book(Ok(1));
    calls.answered(1, Err(CalloutError::Reset));
    let seen = tasks.seen.clone();
    let task = async move {
        assert_eq!(booking.answer().await, Err(CalloutError::Reset));
        seen.borrow_mut().push("answered");
    };
    tasks.executor.spawn(Owner::Root, Span::Finite, Box::pin(task));
    assert_eq!(tasks.run(Owner::Root), ["answered"]);
}

#[test]
fn an_answer_without_headers_or_without_a_status_is_none() {
    let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    for headers in [
        vec![],
        vec![header("status", b"200")],
        vec![header(":status", b"")],
        vec![header(":status", b"\xff")],
        vec![header(":status", b"70000")],
        vec![header(":status", b"-1")],
    ] {
        let answer = reply(headers.clone(), || panic!("the body is asked for: {headers:?}"));
        assert_eq!(answer, Err(CalloutError::Reset), "{headers:?}");
    }
    let answer = reply(vec![header("a", b"b"), header(":status", b"200")], || b"body".to_vec()).unwrap();
    assert_eq!((answer.status, answer.body, answer.headers.len()), (200, b"body".to_vec(), 2));
}
