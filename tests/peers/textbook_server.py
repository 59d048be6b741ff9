"""The UDP pinger's server as the exercise describes it: 4 of 11 lost, answers in upper case.

A stand-in written from the exercise's text; says its port first. The argument seeds its dice.
"""
import random
import socket
import sys

random.seed(int(sys.argv[1]))
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    dice = random.randint(0, 10)
    message, address = server.recvfrom(1024)
    message = message.upper()
    if dice < 4:
        continue
    server.sendto(message, address)
