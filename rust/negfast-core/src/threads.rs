//! The one place that makes threads.
//!
//! Threads are scoped to a call. A pool that outlives its call hangs every child process that is forked after it was
//! used, and data loaders fork; starting two scoped threads costs tens of microseconds, which no call worth
//! threading notices. The calling thread does no work itself: it waits, and gives its [`Monitor`] a turn every
//! 50 milliseconds, so that a caller can show progress and ask for a stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};

/// How long the calling thread sleeps between two turns of its monitor.
const TURN: Duration = Duration::from_millis(50);

/// Jobs of fewer multiply-adds than this (about a millisecond) run on the calling thread.
const WORTH_A_THREAD: u64 = 20_000_000;

/// Watches a running call from the thread that made it.
pub trait Monitor {
    /// Hears how many of `total` units of work are done; `false` asks the call to stop.
    fn turn(&mut self, done: u64, total: u64) -> bool;
}

/// A monitor that never interferes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unwatched;

impl Monitor for Unwatched {
    fn turn(&mut self, _done: u64, _total: u64) -> bool {
        true
    }
}

/// What workers share with the thread that waits for them.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Announces `units` more work to come.
    pub fn expect(&self, units: u64) {
        self.total.fetch_add(units, Ordering::Relaxed);
    }

    /// Reports `units` of work as done.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if a stop was asked for; the worker hands it on and ends.
    pub fn advance(&self, units: u64) -> Result<()> {
        self.done.fetch_add(units, Ordering::Relaxed);
        if self.stop.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// The threads of one call, and who watches it.
pub struct Workers<'m> {
    threads: usize,
    progress: Progress,
    monitor: &'m mut dyn Monitor,
}

/// Tasks not yet begun, workers not yet done, and the failure of the earliest failed task.
struct Queue<T> {
    tasks: std::iter::Enumerate<std::vec::IntoIter<T>>,
    working: usize,
    failed: Option<(usize, Error)>,
}

impl<'m> Workers<'m> {
    /// A call on `threads` threads (at least one), watched by `monitor`.
    pub fn new(threads: usize, monitor: &'m mut dyn Monitor) -> Self {
        Self { threads: threads.max(1), progress: Progress::default(), monitor }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The counter that workers report to.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Runs `body` once for each task, each worker with a state of its own made by `start`.
    ///
    /// Tasks are handed out in order; `work` is the whole job's size in multiply-adds.
    ///
    /// # Errors
    /// The error of the earliest task that failed, or [`Error::Cancelled`].
    pub fn run<T, S>(
        &mut self,
        work: u64,
        tasks: Vec<T>,
        start: impl Fn() -> S + Sync,
        body: impl Fn(&mut S, T, &Progress) -> Result<()> + Sync,
    ) -> Result<()>
    where
        T: Send,
    {
        let threads = self.threads.min(tasks.len());
        if threads == 0 {
            return Ok(());
        }
        let queue = Mutex::new(Queue { tasks: tasks.into_iter().enumerate(), working: threads, failed: None });
        let finished = Condvar::new();
        let progress = &self.progress;
        let worker = || {
            let _leaving = Leaving { queue: &queue, finished: &finished };
            let mut state = start();
            while let Some((position, task)) = next(&queue) {
                if let Err(error) = body(&mut state, task, progress) {
                    fail(&queue, position, error);
                }
            }
        };
        if work < WORTH_A_THREAD {
            worker();
        } else {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(worker);
                }
                watch(&queue, &finished, progress, self.monitor);
            });
        }
        let queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        queue.failed.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Runs `body`, which cannot be shared out, on one worker, so that the calling thread can watch it.
    ///
    /// # Errors
    /// That of `body`, or [`Error::Cancelled`].
    pub fn alone<T: Send>(&mut self, work: u64, body: impl Fn(&Progress) -> Result<T> + Sync) -> Result<T> {
        let result = Mutex::new(None);
        self.run(
            work,
            vec![()],
            || (),
            |(), (), progress| {
                let made = body(progress)?;
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
                Ok(())
            },
        )?;
        // The only task ran without an error, so it left its result.
        result.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or(Error::Cancelled)
    }
}

/// Signs a worker off when it ends, by panic too: the waiting thread must never wait for a dead one.
struct Leaving<'a, T> {
    queue: &'a Mutex<Queue<T>>,
    finished: &'a Condvar,
}

impl<T> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        let mut queue = lock(self.queue);
        queue.working = queue.working.saturating_sub(1);
        self.finished.notify_one();
    }
}

fn lock<T>(queue: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn next<T>(queue: &Mutex<Queue<T>>) -> Option<(usize, T)> {
    let mut queue = lock(queue);
    if queue.failed.is_some() { None } else { queue.tasks.next() }
}

fn fail<T>(queue: &Mutex<Queue<T>>, position: usize, error: Error) {
    let mut queue = lock(queue);
    if queue.failed.as_ref().is_none_or(|(earlier, _)| position < *earlier) {
        queue.failed = Some((position, error));
    }
}

fn watch<T>(queue: &Mutex<Queue<T>>, finished: &Condvar, progress: &Progress, monitor: &mut dyn Monitor) {
    let mut state = lock(queue);
    while state.working > 0 {
        let timed_out;
        (state, timed_out) = finished.wait_timeout(state, TURN).map_or_else(
            |poisoned| {
                let (state, timeout) = poisoned.into_inner();
                (state, timeout.timed_out())
            },
            |(state, timeout)| (state, timeout.timed_out()),
        );
        if timed_out {
            drop(state);
            let (done, total) = (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
            if !monitor.turn(done, total) {
                progress.stop.store(true, Ordering::Relaxed);
                fail(queue, 0, Error::Cancelled);
            }
            state = lock(queue);
        }
    }
}

/// Cuts `0..n` into at most `parts` runs of nearly equal length, none empty.
pub fn split(n: usize, parts: usize) -> Vec<std::ops::Range<usize>> {
    let parts = parts.clamp(1, n.max(1));
    (0..parts).map(|i| n * i / parts..n * (i + 1) / parts).filter(|span| !span.is_empty()).collect()
}

/// Cuts `whole` into consecutive pieces of the given lengths.
///
/// # Panics
/// If they add up to more than there is.
pub fn cut<T>(mut whole: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    lengths
        .map(|length| {
            let (piece, rest) = std::mem::take(&mut whole).split_at_mut(length);
            whole = rest;
            piece
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let hits: Vec<AtomicU64> = (0..100).map(|_| AtomicU64::new(0)).collect();
            let mut monitor = Unwatched;
            let mut workers = Workers::new(threads, &mut monitor);
            let tasks: Vec<usize> = (0..100).collect();
            let ran = workers.run(
                u64::MAX,
                tasks,
                || (),
                |(), task, _| {
                    hits[task].fetch_add(1, Ordering::Relaxed);
                    Ok(())
                },
            );
            assert_eq!(ran, Ok(()));
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn the_earliest_failure_is_reported() {
        let mut monitor = Unwatched;
        let mut workers = Workers::new(2, &mut monitor);
        let failed = workers.run(
            u64::MAX,
            vec![0usize, 1, 2, 3],
            || (),
            |(), task, _| {
                if task == 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Error::NonFinite { argument: "x".into(), row: task })
            },
        );
        assert_eq!(failed, Err(Error::NonFinite { argument: "x".into(), row: 0 }));
    }

    #[test]
    fn a_monitor_can_stop_the_call() {
        struct Stop;
        impl Monitor for Stop {
            fn turn(&mut self, _: u64, _: u64) -> bool {
                false
            }
        }
        let mut monitor = Stop;
        let mut workers = Workers::new(2, &mut monitor);
        let stopped = workers.run(
            u64::MAX,
            vec![(), ()],
            || (),
            |(), (), progress| {
                loop {
                    progress.advance(1)?;
                    std::thread::sleep(Duration::from_millis(1));
                }
            },
        );
        assert_eq!(stopped, Err(Error::Cancelled));
    }

    #[test]
    fn split_covers_everything_once() {
        for n in [0, 1, 5, 17] {
            for parts in [1, 2, 7, 40] {
                let spans = split(n, parts);
                assert_eq!(spans.iter().map(ExactSizeIterator::len).sum::<usize>(), n);
                assert!(spans.windows(2).all(|w| w[0].end == w[1].start));
            }
        }
    }
}
