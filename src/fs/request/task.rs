//! Operations that may wait.
//!
//! Most operations wait for nothing, so each is polled once on the thread that read the request. One that waits
//! becomes a [`Task`], which goes on where it is woken: on the thread of the writer, the audit log or the
//! invalidator that completes what it waited for. There is no executor between them, so the order in which such a
//! thread completes operations is the order in which these go on. What follows an await must not block: other
//! requests need that thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Runs an operation up to its end, and gives its outcome to `end`.
pub(in crate::fs) fn run<T: 'static>(
    mut operation: Pin<Box<dyn Future<Output = T> + Send>>,
    end: impl FnOnce(T) + Send + 'static,
) {
    match operation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => end(outcome),
        Poll::Pending => {
            let rest = Box::pin(async move { end(operation.await) });
            Arc::new(Task { rest: Mutex::new(Some(rest)), wakes: AtomicUsize::new(0) }).wake();
        }
    }
}

struct Task {
    /// None once it has ended. The lock is held while it is polled, also while it answers; no thread waits for it,
    /// because only the one that makes `wakes` more than 0 takes it.
    rest: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// Wake-ups that no poll has followed yet. The thread that makes it more than 0 polls.
    wakes: AtomicUsize,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        let mut seen = 1;
        loop {
            let mut rest = self.rest.lock();
            let Some(operation) = rest.as_mut() else { return };
            if operation.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                *rest = None;
                return;
            }
            drop(rest);
            let wakes = self.wakes.fetch_sub(seen, Ordering::AcqRel);
            if wakes == seen {
                return;
            }
            seen = wakes - seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn an_operation_that_waits_for_nothing_ends_at_once_on_this_thread() {
        let (end, ended) = channel();
        run(Box::pin(async { 7 }), move |outcome| {
            end.send((outcome, std::thread::current().id())).unwrap()
        });
        assert_eq!(ended.try_recv(), Ok((7, std::thread::current().id())));
    }

    #[test]
    fn an_operation_goes_on_where_it_is_woken() {
        let (tell, told) = oneshot::channel();
        let (end, ended) = channel();
        run(Box::pin(told), move |outcome| {
            end.send((outcome, std::thread::current().id())).unwrap()
        });
        assert!(ended.try_recv().is_err());
        let other = std::thread::spawn(move || {
            tell.send(7).unwrap();
            std::thread::current().id()
        });
        let other = other.join().unwrap();
        assert_eq!(ended.recv_timeout(PATIENCE), Ok((Ok(7), other)));
    }

    #[test]
    fn no_wake_up_is_lost_between_two_threads() {
        for _ in 0..2_000 {
            let (first, second) = (oneshot::channel(), oneshot::channel());
            let (end, ended) = channel();
            let senders = std::thread::spawn(move || {
                first.0.send(1).unwrap();
                second.0.send(2).unwrap();
            });
            let both = async { first.1.await.unwrap() + second.1.await.unwrap() };
            run(Box::pin(both), move |sum| end.send(sum).unwrap());
            assert_eq!(ended.recv_timeout(PATIENCE), Ok(3));
            senders.join().unwrap();
        }
    }

    #[test]
    fn an_operation_ends_when_what_it_waits_for_is_dropped() {
        let (tell, told) = oneshot::channel::<()>();
        let (end, ended) = channel();
        run(Box::pin(told), move |outcome| end.send(outcome.is_err()).unwrap());
        drop(tell);
        assert_eq!(ended.try_recv(), Ok(true));
    }
}
