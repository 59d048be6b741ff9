"""Scapy's STAMP layer as the foreign judge of our packets in both directions.

`send PORT [KEY]` sends three probes to our reflector and reads its answers;
`reflect N [KEY]` says its port, reflects N of our probes and says whether they were right.

With a KEY the packets are authenticated. Scapy has no such layer; the two below are built from the
fields that its own layers are made of, laid out by RFC 8762 sections 4.2.2 and 4.3.2.
"""
import hashlib
import hmac
import socket
import sys
import time

from scapy.contrib.stamp import ErrorEstimate
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated as OpenReflection
from scapy.contrib.stamp import STAMPSessionSenderTestUnauthenticated as OpenProbe
from scapy.fields import ByteField, IntField, PacketField, ShortField, StrFixedLenField
from scapy.layers.ntp import TimeStampField
from scapy.packet import Packet

KEY = sys.argv[3].encode() if len(sys.argv) > 3 else None


def zeros(name, length):
    return StrFixedLenField(name, bytes(length), length)


def estimate(name):
    return PacketField(name, ErrorEstimate(), ErrorEstimate)


class Sealed(Packet):
    """What both authenticated packets share: an HMAC over the 96 octets before it."""

    def extract_padding(self, rest):
        return b"", rest

    def post_build(self, packet, payload):
        packet = packet[:96]
        return packet + hmac.new(KEY, packet, hashlib.sha256).digest()[:16] + payload

    def is_authentic(self, octets):
        return hmac.compare_digest(hmac.new(KEY, octets[:96], hashlib.sha256).digest()[:16], self.hmac)


class SealedProbe(Sealed):
    fields_desc = [
        IntField("seq", 0), zeros("mbz1", 12), TimeStampField("ts", 0), estimate("err_estimate"),
        ShortField("ssid", 1), zeros("mbz2", 68), zeros("hmac", 16),
    ]


class SealedReflection(Sealed):
    fields_desc = [
        IntField("seq", 0), zeros("mbz1", 12), TimeStampField("ts", 0), estimate("err_estimate"),
        ShortField("ssid", 1), zeros("mbz2", 4), TimeStampField("ts_rx", 0), zeros("mbz3", 8),
        IntField("seq_sender", 0), zeros("mbz4", 12), TimeStampField("ts_sender", 0),
        estimate("err_estimate_sender"), zeros("mbz5", 6), ByteField("ttl_sender", 255), zeros("mbz6", 15),
        zeros("hmac", 16),
    ]


Probe, Reflection, LENGTH = (SealedProbe, SealedReflection, 112) if KEY else (OpenProbe, OpenReflection, 44)


def check_seal(packet, octets):
    assert KEY is None or packet.is_authentic(octets), packet.show(dump=True)


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
        assert len(answer) == len(probe) == LENGTH, (len(answer), len(probe))
        read = Reflection(answer)
        check_seal(read, answer)
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
        check_seal(probe, data)
        assert len(data) == LENGTH and bytes(probe) == data, probe.show(dump=True)
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
