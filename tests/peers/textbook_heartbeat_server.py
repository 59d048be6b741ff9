"""The watcher of the textbook's second exercise, as its text asks for it: the difference of the times,
lost beats by the sequence number, and after five seconds of silence the client counts as stopped.

`SECONDS` of silence end it; it says its port first.
"""
import socket
import sys
import time

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
server.settimeout(float(sys.argv[1]))
print(server.getsockname()[1], flush=True)
expected = None
while True:
    try:
        message, address = server.recvfrom(1024)
    except socket.timeout:
        print("client stopped", flush=True)
        break
    words = message.decode().split()
    # Ours name the sender and its run between the word and the number.
    number, sent = (int(words[3]), float(words[4]) / 1000) if words[0] in ("BEAT", "BYE") else (int(words[1]), float(words[2]))
    if words[0] == "BYE":
        continue
    if expected is not None and number > expected:
        print(f"lost {number - expected}", flush=True)
    expected = number + 1
    print(f"beat {number} took {time.time() - sent:.6f}", flush=True)
