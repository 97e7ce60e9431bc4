//! Asking memory for what will be read soon, so that it comes while something else is done.

/// Asks for the line of the cache in which the value begins. A hint: nothing is read, and nothing waits.
#[cfg(target_arch = "x86_64")]
pub(super) fn prefetch<T>(value: &T) {
    safe_arch::prefetch_t0(value);
}

/// Stable Rust has no such hint here.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn prefetch<T>(_value: &T) {}
