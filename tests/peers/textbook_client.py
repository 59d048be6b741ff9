"""The UDP pinger's client as the exercise describes it: ten pings, a second of patience, the next
one as soon as the last is answered or timed out. A stand-in written from the exercise's text; its
patience is shorter, so that a test is too.
"""
import socket
import sys
import time

client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(0.2)
server = (sys.argv[1], int(sys.argv[2]))
for number in range(1, 11):
    sent = time.time()
    client.sendto(f"Ping {number} {sent}".encode(), server)
    try:
        answer, _ = client.recvfrom(1024)
        print(f"{answer.decode()} {time.time() - sent:.6f}")
    except socket.timeout:
        print("Request timed out")
