"""Writes frames to an interface past the IP stack: frames.py INTERFACE DESTINATION-MAC.

Every kind of frame with every protocol that its sender may claim, with and without
PACKET_QDISC_BYPASS. Prints how many the kernel took and how many it refused."""
import itertools, socket, struct, sys

SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
V4, V6 = "169.254.169.254", "fd00:ec2::254"


def checksum(header):
    total = sum(struct.unpack("!%dH" % (len(header) // 2), header))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def v4(content):
    udp = struct.pack("!HHHH", 4444, 80, 8 + len(content), 0) + content
    header = lambda sum: struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, sum,
                                     socket.inet_aton("172.31.0.9"), socket.inet_aton(V4))
    return header(checksum(header(0))) + udp


def v6(flow=0, protocol=17, hops=64, source="fd00:31::9"):
    udp = struct.pack("!HHHH", 4444, 80, 16, 0xBEEF) + b"12345678"
    return (struct.pack("!IHBB", 6 << 28 | flow, len(udp), protocol, hops)
            + socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, V6) + udp)


interface, to = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", ""))
tag, outer = struct.pack("!HH", 0x8100, 5), struct.pack("!HH", 0x88A8, 6)
frame = lambda kind, packet, tags=b"": to + b"\x02\0\0\0\0\x09" + tags + struct.pack("!H", kind) + packet
# A packet of IPv6 can look like tags, which the kernel passes over: its flow label, protocol and hop
# limit, and source address may be the numbers of VLANs.
disguises = [v6(0x8100), v6(0x8100, 0x88, 0xA8)] + [
    v6(0x8100, 0x88, 0xA8, source)
    for source in ("fd00:8100::1", "fd00:8100:0:8100::1", "fd00:8100:0:8100:0:8100::1",
                   "fd00:8100:0:8100:0:8100:0:8100")]
frames = [frame(kind, packet, tags) for tags in (b"", tag, outer + tag)
          for kind, packet in ((0x800, v4(b"x" * 30)), (0x800, v4(b"")), (0x86DD, v6()))]
frames += [frame(0x86DD, packet) for packet in disguises]
protocols = (0, 3, 0x800, 0x806, 0x86DD, 0x8100, 0x88A8, 0x1234)
taken = refused = 0
for bytes, protocol, bypass in itertools.product(frames, protocols, (0, 1)):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, bypass)
        try:
            sender.sendto(bytes, (interface, protocol, 0, 0, to))
            taken += 1
        except OSError:
            refused += 1
print(taken, refused)
