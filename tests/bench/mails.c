/* Minimal mail server: replies to each command by its first letter and stores nothing. The rate at which
 * smtp-source delivers to it is the maximum rate of smtp-source. Prints its port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 1024 };
static char is_body[CONNECTIONS];

static void say(int client, const char *reply) {
  if (write(client, reply, strlen(reply)) < 0) close(client);
}

static void hear(int client) {
  static char octets[65536];
  ssize_t length = read(client, octets, sizeof octets);
  if (length <= 0) {
    close(client);
  } else if (is_body[client]) {
    if (length < 3 || memcmp(octets + length - 3, ".\r\n", 3) != 0) return;
    is_body[client] = 0;
    say(client, "250 accepted\r\n");
  } else if (octets[0] == 'D') {
    is_body[client] = 1;
    say(client, "354 go on\r\n");
  } else if (octets[0] == 'Q') {
    say(client, "221 bye\r\n");
    close(client);
  } else {
    say(client, "250 ok\r\n");
  }
}

int main(void) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, poll = epoll_create1(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, CONNECTIONS)
      || getsockname(listener, (struct sockaddr *)&address, &length)
      || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event)) return 1;
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    struct epoll_event ready[64];
    int count = epoll_wait(poll, ready, 64, -1);
    for (int i = 0; i < count; i++) {
      if (ready[i].data.fd != listener) {
        hear(ready[i].data.fd);
        continue;
      }
      int client = accept(listener, NULL, NULL);
      if (client < 0) continue;
      if (client >= CONNECTIONS) {
        close(client);
        continue;
      }
      is_body[client] = 0;
      event.data.fd = client;
      epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
      say(client, "220 x\r\n");
    }
  }
}
