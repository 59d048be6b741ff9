"""The first pinger that students write: the bare word, ten times over one socket."""
import socket
import sys

client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(2)
for _ in range(10):
    client.sendto(b"ping", (sys.argv[1], int(sys.argv[2])))
    print(client.recvfrom(1024)[0].decode())
