//! The memory of a process that sits on every host: what a pass needed is given back.
//!
//! A proof takes some megabytes for some milliseconds, and its code is not used again until
//! something changes.

use std::fs;
use std::ptr;

use nix::libc;

/// From this size on a block is a mapping of its own, and so is gone when it is freed; and the most
/// that stays at a heap's end.
///
/// glibc moves both limits up with every large block that is freed, unless they are set
/// (mallopt(3), `M_MMAP_THRESHOLD`): then what one turn took would never go back.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Makes the allocator give back what is freed, as suits a process that stays: new pages cost time.
pub fn spare() {
    #[cfg(target_env = "gnu")]
    for limit in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: it changes a setting of the allocator and touches no block.
        unsafe { libc::mallopt(limit, LARGE) };
    }
}

/// Gives back what a pass does not leave in use: free pages of the heap, and the pages of code and
/// constants. Those stay in the page cache, and what is used again is mapped again, 16 pages at a
/// time (`fault_around_bytes`, mm/memory.c).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it returns free pages to the kernel and leaves the blocks in use as they are.
    unsafe {
        libc::malloc_trim(0)
    };
    // Without /proc nothing is given back, which does no harm.
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(of_file) {
        // SAFETY: the mapping is private, from a file, and was never writable, so that its pages
        // are those of the file and come back from there (madvise(2), MADV_DONTNEED); no
        // reference to anything that is written lives in it.
        unsafe {
            libc::madvise(
                ptr::without_provenance_mut(start),
                length,
                libc::MADV_DONTNEED,
            )
        };
    }
}

/// Where a line of maps tells of memory that is as it stands in a file, and how many bytes:
/// `start-end permissions offset device inode path` (proc_pid_maps(5)). That is code, and what begins
/// a file: its headers and constants. What else is read-only may have been relocated before.
fn of_file(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (permissions, offset) = (words.next()?, words.next()?);
    let unwritten = permissions == "r-xp" || permissions == "r--p" && offset == "00000000";
    // The vdso and the like have no inode.
    let in_file = words.nth(1)? != "0";
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (unwritten && in_file && start < end).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_given_back() {
        let code = "55d4a8a4e000-55d4a8c1f000 r-xp 0005e000 fe:00 1311 /usr/sbin/ecs-netguard";
        assert_eq!(of_file(code), Some((0x55d4_a8a4_e000, 0x1d_1000)));
        let head = "55d4a89f0000-55d4a8a4e000 r--p 00000000 fe:00 1311 /usr/sbin/ecs-netguard";
        assert_eq!(of_file(head), Some((0x55d4_a89f_0000, 0x5_e000)));
        for line in [
            "55d4a8c1f000-55d4a8c5f000 r--p 0022f000 fe:00 1311 /usr/sbin/ecs-netguard",
            "55d4a8c5f000-55d4a8c60000 rw-p 0026e000 fe:00 1311 /usr/sbin/ecs-netguard",
            "55d4a8c60000-55d4a8c70000 rwxp 0026e000 fe:00 1311 /usr/sbin/ecs-netguard",
            "7ffd1c5f2000-7ffd1c5f4000 r-xp 00000000 00:00 0 [vdso]",
            "7f0000000000-7f0000010000 rw-p 00000000 00:00 0",
            "",
        ] {
            assert_eq!(of_file(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_in_use_stays() {
        spare();
        let blocks: Vec<Vec<u8>> = (0..64).map(|n| vec![n; 64 * 1024]).collect();
        let (kept, freed): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|b| b.first() < Some(&8));
        drop(freed);
        give_back();
        for (n, block) in kept.iter().enumerate() {
            assert!(block.iter().all(|byte| usize::from(*byte) == n));
        }
    }
}
