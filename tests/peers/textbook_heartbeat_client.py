"""The sender of the textbook's second exercise: a number and the time in each datagram.

`HOST PORT COUNT SECONDS` sends so many, so far apart; the third one is lost on the way.
"""
import socket
import sys
import time

host, port, count, apart = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(1, count + 1):
    if number != 3:
        client.sendto(f"Heartbeat {number} {time.time()}".encode(), (host, port))
    time.sleep(apart)
print(client.getsockname()[1])
