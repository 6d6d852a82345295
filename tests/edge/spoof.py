"""Sends whole IP packets of UDP by eth0: spoof.py ROUTER-MAC SOURCE,DESTINATION[,VIA]...

With VIA the packet is addressed to that, and a source route (RFC 791) or a segment routing header
(RFC 8754) names the destination. Source and destination ports are 80 where the address is the service's
and 4444 elsewhere."""
import ipaddress, socket, struct, sys, time

SERVICE = ("169.254.169.254", "fd00:ec2::254")
port = lambda address: 80 if str(address) in SERVICE else 4444


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source, destination, via):
    ports = (4444, 80) if via else (port(source), 80 if port(source) != 80 else 4444)
    udp = struct.pack("!HHHH", *ports, 16, 0) + b"12345678"
    final = via or destination
    if source.version == 4:
        options = struct.pack("!BBB4sB", 131, 7, 4, destination.packed, 1) if via else b""
        length = 20 + len(options)
        header = lambda sum: struct.pack("!BBHHHBBH4s4s", 0x40 | length // 4, 0, length + len(udp), 1, 0, 64, 17,
                                         sum, source.packed, final.packed) + options
        return header(checksum(header(0))) + udp
    pseudo = source.packed + destination.packed + struct.pack("!IHBB", len(udp), 0, 0, 17)
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp)) + udp[8:]
    route = struct.pack("!BBBBBBH", 17, 4, 4, 1, 1, 0, 0) + destination.packed + via.packed if via else b""
    return (struct.pack("!IHBB", 6 << 28, len(route) + len(udp), 43 if via else 17, 64)
            + source.packed + final.packed + route + udp)


router = bytes.fromhex(sys.argv[1].replace(":", ""))
for argument in sys.argv[2:]:
    source, destination, *via = map(ipaddress.ip_address, argument.split(","))
    via = via[0] if via else None
    protocol = 0x800 if source.version == 4 else 0x86DD
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
        sender.sendto(packet(source, destination, via), ("eth0", protocol, 0, 0, router))
    time.sleep(0.03)
