"""Makes a cable from this network namespace into the one that it knows as number 0, by rtnetlink alone, as a
container with CAP_NET_ADMIN can: veth_into_host.py OUTER-NAME INNER-NAME. The outer end is up."""
import os, socket, struct, sys

RTM_NEWLINK, REQUEST_ACK_CREATE = 16, 0x1 | 0x4 | 0x400
IFNAME, LINKINFO, NET_NS_PID, TARGET_NETNSID = 3, 18, 19, 46
INFO_KIND, INFO_DATA, VETH_PEER, UP = 1, 2, 1, 1


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


link = lambda flags: struct.pack("=BxHiII", 0, 0, 0, flags, flags)
name = lambda text: attribute(IFNAME, text.encode() + b"\0")
outer, inner = sys.argv[1:]
peer = link(0) + name(inner) + attribute(NET_NS_PID, struct.pack("=I", os.getpid()))
body = link(UP) + name(outer) + attribute(TARGET_NETNSID, struct.pack("=i", 0)) + attribute(
    LINKINFO, attribute(INFO_KIND, b"veth") + attribute(INFO_DATA, attribute(VETH_PEER, peer)))
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
    sock.send(struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, REQUEST_ACK_CREATE, 1, 0) + body)
    error = struct.unpack("=i", sock.recv(8192)[16:20])[0]
sys.exit(f"refused: {os.strerror(-error)}" if error else 0)
