"""What a daemon that was taken over tries, to become root: run in its place as iptables, and by root as it is.

Prints one line for each attempt: its name, and `through` or why not.
"""

import ctypes
import errno
import os
import socket
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    # x86_64, aarch64
    "io_uring_setup": (425, 425),
    "mount": (165, 40),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "setns": (308, 268),
    "unshare": (272, 97),
}
PTRACE_SEIZE = 0x4206
CLONE_NEWNS = 0x00020000
MS_BIND = 4096


def call(name, *arguments):
    number = NUMBERS[name][os.uname().machine == "aarch64"]
    result = LIBC.syscall(number, *(ctypes.c_long(each) for each in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)


def text(value):
    return ctypes.cast(ctypes.c_char_p(value), ctypes.c_void_p).value


def connect(kind, address):
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.settimeout(5)
        client.connect(address)


def write_memory(victim):
    """Where the kernel lets a process be written to, an address that is not there is another error."""
    descriptor = os.open(f"/proc/{victim}/mem", os.O_RDWR)
    os.close(descriptor)


def attempts(victim, sockets):
    for path in sockets:
        yield f"connect {path}", lambda path=path: connect(socket.SOCK_STREAM, path)
    yield "seize", lambda: call("ptrace", PTRACE_SEIZE, victim, 0, 0)
    yield "write to memory", lambda: write_memory(victim)
    yield "io_uring_setup", lambda: call("io_uring_setup", 1, text(bytes(120)))
    yield "unshare", lambda: call("unshare", CLONE_NEWNS)
    yield "mount", lambda: call("mount", text(b"/tmp"), text(b"/tmp"), 0, MS_BIND, 0)


for name, attempt in attempts(int(sys.argv[1]), sys.argv[2:]):
    try:
        attempt()
        print(name, "through", sep="\t")
    except OSError as error:
        print(name, errno.errorcode[error.errno], sep="\t")
