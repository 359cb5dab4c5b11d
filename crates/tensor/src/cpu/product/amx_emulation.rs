//! AMX on a machine without it, for the tests: the processor refuses an instruction, and the handler of that signal does
//! what the manual says of it (Intel, Software Developer's Manual, volume 2). Only the instructions that `amx` uses, on
//! tiles of 16 rows of 64 bytes.

use std::cell::RefCell;
use std::sync::Once;

type TileData = [[u8; 64]; 16];

thread_local! {
    static TILES: RefCell<[TileData; 8]> = const { RefCell::new([[[0; 64]; 16]; 8]) };
}

/// From now on, AMX instructions of this process are emulated.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // SAFETY: the handler touches nothing but the thread's own tiles, the registers, and the memory that the instruction
    // names.
    ONCE.call_once(|| unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()), 0);
    });
}

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the context of the thread that stopped.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as *const u8;
        match emulate(at, registers) {
            Some(len) => registers[libc::REG_RIP as usize] += len,
            None => {
                libc::signal(libc::SIGILL, libc::SIG_DFL);
            }
        }
    }
}

/// The number of a register in the context, by its number in an instruction.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Does one instruction; its length, or `None` when it is not one of AMX.
unsafe fn emulate(at: *const u8, registers: &[libc::greg_t; 23]) -> Option<libc::greg_t> {
    // SAFETY: an instruction that the processor has read has at least its opcode and operands.
    let byte = |i: usize| unsafe { *at.add(i) };
    if byte(0) != 0xC4 || byte(1) & 0x1F != 2 {
        return None;
    }
    let (extend_index, extend_base) = (usize::from(byte(1) & 0x40 == 0), usize::from(byte(1) & 0x20 == 0));
    let (prefix, third) = (byte(2) & 3, usize::from(!byte(2) >> 3 & 15));
    let (opcode, modrm) = (byte(3), byte(4));
    let (mode, first, second) = (modrm >> 6, usize::from(modrm >> 3 & 7), usize::from(modrm & 7));
    if mode == 3 {
        TILES.with_borrow_mut(|tiles| match (opcode, prefix) {
            (0x49, 0) => Some(()),
            (0x49, 3) => {
                tiles[first] = [[0; 64]; 16];
                Some(())
            }
            (0x5C, 2) => {
                let (left, right) = (tiles[second], tiles[third]);
                multiply(&mut tiles[first], &left, &right);
                Some(())
            }
            _ => None,
        })?;
        return Some(5);
    }
    if (opcode, prefix) == (0x49, 0) {
        // Set-up of the tiles: always the same one. It may have a byte of scale and index, and a displacement.
        let sib = libc::greg_t::from(second == 4);
        return Some(5 + sib + [0, 1, 4][usize::from(mode)]);
    }
    // [base + index + displacement], with the stride in the index.
    let sib = byte(5);
    assert!(opcode == 0x4B && second == 4, "an instruction that the emulation does not know");
    let value = |number: usize| registers[REGISTERS[number] as usize];
    let stride = value(usize::from(sib >> 3 & 7) + 8 * extend_index) << (sib >> 6);
    let (displacement, len) = match mode {
        0 => (0, 6),
        1 => (libc::greg_t::from(byte(6) as i8), 7),
        _ => (libc::greg_t::from(i32::from_le_bytes([byte(6), byte(7), byte(8), byte(9)])), 10),
    };
    let base = value(usize::from(sib & 7) + 8 * extend_base) + displacement;
    TILES.with_borrow_mut(|tiles| {
        for (i, row) in tiles[first].iter_mut().enumerate() {
            let memory = (base + stride * i as libc::greg_t) as *mut [u8; 64];
            // SAFETY: the instruction reads (prefix F2) or writes (F3) this memory.
            unsafe { if prefix == 3 { *row = memory.read_unaligned() } else { memory.write_unaligned(*row) } }
        }
    });
    Some(len)
}

/// sum `[16, 16]` f32 += left `[16, 32]` right, right as 16 pairs of rows: TDPBF16PS.
fn multiply(sum: &mut TileData, left: &TileData, right: &TileData) {
    let half =
        |row: &[u8; 64], i: usize| f32::from_bits(u32::from(u16::from_le_bytes([row[2 * i], row[2 * i + 1]])) << 16);
    for m in 0..16 {
        for n in 0..16 {
            let (mut even, mut odd) = (0.0f32, 0.0f32);
            for k in 0..16 {
                even = half(&left[m], 2 * k).mul_add(half(&right[k], 2 * n), even);
                odd = half(&left[m], 2 * k + 1).mul_add(half(&right[k], 2 * n + 1), odd);
            }
            let bytes = &mut sum[m][4 * n..4 * n + 4];
            let old = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            bytes.copy_from_slice(&(old + (even + odd)).to_le_bytes());
        }
    }
}
