//! A program of a few instructions that executes another one; so that mica never executes from its own image inside a
//! container.
//!
//! Why: while a process of mica executes a command in a container, `/proc/self/exe` is mica's binary on the host. A
//! command that is a script with the first line `#!/proc/self/exe` would make the kernel run that binary *inside* the
//! container, with libraries of the container's choice, and those can open it again for writing (CVE-2019-5736). Not
//! being dumpable does not help: a process may always follow its own link. Running mica from a sealed copy costs a copy
//! of several megabytes, or a second start of mica, for each container.
//!
//! So the child first executes this file, written to a tmpfs that is already detached, and the file executes the
//! command. Whatever the command makes of `/proc/self/exe` then, it finds 200 bytes that nobody else will ever run. It
//! needs nothing newer than Linux 2.6 and costs one more `execve`, of a program without libraries.
//!
//! The program's own arguments are the path to execute, then the command's arguments. It makes descriptor
//! [`REPORT_FD`] close-on-exec, executes, and if that fails writes the error number there (a native 32-bit integer).
//! Executed a second time, by such a script, it finds that descriptor closed and exits with 127, or the two would
//! execute each other for ever.
#![allow(unsafe_code)]

/// The descriptor to which the program reports a failure.
pub const REPORT_FD: i32 = 3;

/// Size of the ELF header, in bytes.
const HEADER: u64 = 64;
/// Size of one program header, in bytes.
const PROGRAM_HEADER: u64 = 56;
/// Where the file is loaded.
const BASE: u64 = 0x40_0000;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the trampoline has no code for this processor yet: see src/sys/trampoline.rs");

// On entry the stack holds argc, argv[0..argc], NULL, the environment, NULL. A word is 8 bytes.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.mica_trampoline, \"a\", @progbits",
    "mica_trampoline_start:",
    "mov edi, 3", // fcntl(3, F_SETFD, FD_CLOEXEC)
    "mov esi, 2",
    "mov edx, 1",
    "mov eax, 72",
    "syscall",
    "test eax, eax", // no descriptor 3: executed a second time, see above
    "jnz 2f",
    "mov rcx, [rsp]", // execve(argv[0], argv + 1, environment)
    "mov rdi, [rsp + 8]",
    "lea rsi, [rsp + 16]",
    "lea rdx, [rsp + rcx * 8 + 16]",
    "mov eax, 59",
    "syscall",
    "neg eax", // write(3, &errno, 4)
    "push rax",
    "mov edi, 3",
    "mov rsi, rsp",
    "mov edx, 4",
    "mov eax, 1",
    "syscall",
    "2:",
    "mov edi, 127", // exit_group(127)
    "mov eax, 231",
    "syscall",
    "mica_trampoline_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .rodata.mica_trampoline, \"a\", @progbits",
    ".balign 4",
    "mica_trampoline_start:",
    "mov x0, #3", // fcntl(3, F_SETFD, FD_CLOEXEC)
    "mov x1, #2",
    "mov x2, #1",
    "mov x8, #25",
    "svc #0",
    "cbnz x0, 2f",  // no descriptor 3: executed a second time, see above
    "ldr x3, [sp]", // execve(argv[0], argv + 1, environment)
    "ldr x0, [sp, #8]",
    "add x1, sp, #16",
    "add x2, x1, x3, lsl #3",
    "mov x8, #221",
    "svc #0",
    "neg x0, x0", // write(3, &errno, 4)
    "str x0, [sp, #-16]!",
    "mov x0, #3",
    "mov x1, sp",
    "mov x2, #4",
    "mov x8, #64",
    "svc #0",
    "2:",
    "mov x0, #127", // exit_group(127)
    "mov x8, #94",
    "svc #0",
    "mica_trampoline_end:",
    ".popsection",
);

unsafe extern "C" {
    static mica_trampoline_start: u8;
    static mica_trampoline_end: u8;
}

fn code() -> &'static [u8] {
    let (start, end) = (&raw const mica_trampoline_start, &raw const mica_trampoline_end);
    // SAFETY: both labels are in one section of read-only data of this program, start before end, with initialised
    // bytes between them that live as long as the program.
    unsafe { std::slice::from_raw_parts(start, (end as usize) - (start as usize)) }
}

/// The whole program as an ELF file.
pub fn file() -> Vec<u8> {
    let code = code();
    let entry = HEADER + 2 * PROGRAM_HEADER;
    let size = entry + code.len() as u64;
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64-bit, little endian, version 1
    for half in [2u16, MACHINE] {
        out.extend_from_slice(&half.to_le_bytes()); // executable, for this machine
    }
    out.extend_from_slice(&1u32.to_le_bytes());
    for word in [BASE + entry, HEADER, 0] {
        out.extend_from_slice(&word.to_le_bytes()); // entry, program headers, no section headers
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 2, 0, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes()); // sizes and numbers of headers
    }
    program_header(&mut out, 1, 5, [0, BASE, BASE, size, size, 0x1000]); // PT_LOAD, read and execute
    program_header(&mut out, 0x6474_e551, 6, [0, 0, 0, 0, 0, 16]); // PT_GNU_STACK, read and write
    out.extend_from_slice(code);
    out
}

/// Writes a program header: type, flags, then offset, virtual and physical address, size in file and memory, alignment.
fn program_header(out: &mut Vec<u8>, kind: u32, flags: u32, words: [u64; 6]) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}
