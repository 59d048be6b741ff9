"""Scapy's STAMP layer as the foreign judge of our packets, unauthenticated, in both directions.

`send PORT` sends three probes to our reflector and reads its answers;
`reflect N` says its port, reflects N of our probes and says whether they were right.
"""
import socket
import sys
import time

from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated as Reflection
from scapy.contrib.stamp import STAMPSessionSenderTestUnauthenticated as Probe


def near(stamp):
    """Whether an NTP time lies within a minute of now."""
    return abs(float(stamp) - (time.time() + 2208988800)) < 60 or abs(float(stamp) - time.time()) < 60


def send(port):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.connect(("127.0.0.1", port))
    for number in range(3):
        probe = bytes(Probe(seq=number + 40, ssid=7))
        client.send(probe)
        answer = client.recv(2048)
        assert len(answer) == len(probe) == 44, (len(answer), len(probe))
        read = Reflection(answer)
        assert read.seq_sender == number + 40, read.show(dump=True)
        assert read.seq == number, read.show(dump=True)
        assert read.ssid == 7 and near(read.ts) and near(read.ts_rx), read.show(dump=True)
        assert bytes(read) == answer, "Scapy builds the same octets from what it read"
    print("3 reflections are right")


def reflect(count):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    for number in range(count):
        data, peer = server.recvfrom(2048)
        probe = Probe(data)
        assert len(data) == 44 and bytes(probe) == data, probe.show(dump=True)
        assert near(probe.ts) and probe.ssid != 0, probe.show(dump=True)
        answer = Reflection(
            seq=number, ts=probe.ts, err_estimate=probe.err_estimate, ssid=probe.ssid, ts_rx=probe.ts,
            seq_sender=probe.seq, ts_sender=probe.ts, err_estimate_sender=probe.err_estimate, ttl_sender=255,
        )
        # As the raw 64 bits: by way of a decimal the last of them would be lost.
        answer.fields["ts_sender"] = probe.fields["ts"]
        server.sendto(bytes(answer), peer)
    print(f"{count} probes are right", flush=True)
    sys.stdin.read()


if sys.argv[1] == "send":
    send(int(sys.argv[2]))
else:
    reflect(int(sys.argv[2]))
