//! What the C library's allocator does with freed memory. Nothing but glibc on Linux is asked.
#![allow(unsafe_code)]

/// Blocks of at least this are mapped by themselves, and given back when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: i32 = 128 << 10;

/// Makes the allocator give every large block back when it is freed, for a program that plans its memory. By default glibc
/// raises the size from which it does, up to 32 MiB, with the blocks that it sees, and then keeps what is freed between
/// others. What a pass uses again and again is kept by this crate anyway. To be called once, before other threads start.
pub fn give_back_large_blocks() {
    // SAFETY: `mallopt` has no preconditions for this parameter.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}

/// Gives back what lies free at the ends of the heaps and in whole pages between blocks.
pub(crate) fn trim() {
    // SAFETY: the function has no preconditions; it is safe to call from any thread.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
