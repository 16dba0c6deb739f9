//! Have memory brought near before it is needed.

/// What a processor fetches at once: that or more.
const LINE_BYTES: usize = 64;

/// Begin to fetch all of `value` itself, not what it points to: who looks at it a few microseconds later needn't wait. Does
/// nothing but that, and on other processors than x86-64 and 64-bit ARM not even that.
#[inline]
pub(super) fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        line(start.wrapping_add(offset));
    }
    // Where it doesn't begin with a line, it ends in one more.
    line(start.wrapping_add(size_of::<T>().saturating_sub(1)));
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: it needs SSE, which every x86-64 has, and is a hint: it faults at no address, and reads or writes none.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline]
fn line(at: *const u8) {
    // SAFETY: every 64-bit ARM has it, and it is a hint: it faults at no address, and changes neither registers, flags, stack
    // nor memory.
    unsafe { std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) };
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[inline]
fn line(_at: *const u8) {}
