//! The atomics and locks of live state: std's, or loom's when a model checker runs the code.

#[cfg(plimsoll_loom)]
pub(super) use loom::sync::Mutex;
#[cfg(plimsoll_loom)]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(not(plimsoll_loom))]
pub(super) use std::sync::Mutex;
#[cfg(not(plimsoll_loom))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

#[cfg(plimsoll_loom)]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// Locks; a panic while the lock was held leaves data that every holder keeps consistent at each step.
#[cfg(not(plimsoll_loom))]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
