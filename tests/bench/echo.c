/* Two minimal echo servers to compare ping-serve with, and a load generator.
 *
 *   echo plain PORT               recvfrom and sendto, one datagram at a time
 *   echo batch PORT               recvmmsg and sendmmsg, 64 at a time
 *   echo pong PORT COUNT          one ping every 2 ms with send and recv only; prints the median
 *                                 round-trip time in nanoseconds
 *   echo load PORT WINDOW SECONDS sends lower-case datagrams, WINDOW of them in flight; prints the
 *                                 number of replies per second
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <linux/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, ROOM = 2048, SIZE = 24 };
static char buffers[BATCH][ROOM];
static struct sockaddr_in peers[BATCH];
static struct iovec pieces[BATCH];
static struct mmsghdr messages[BATCH];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void prepare(int with_peers, size_t length) {
  for (int i = 0; i < BATCH; i++) {
    pieces[i] = (struct iovec){.iov_base = buffers[i], .iov_len = length};
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = with_peers ? &peers[i] : NULL,
        .msg_namelen = with_peers ? sizeof peers[i] : 0,
        .msg_iov = &pieces[i],
        .msg_iovlen = 1,
    };
  }
}

static void plain(int s) {
  for (;;) {
    socklen_t length = sizeof peers[0];
    ssize_t n = recvfrom(s, buffers[0], ROOM, 0, (struct sockaddr *)peers, &length);
    if (n >= 0) sendto(s, buffers[0], n, 0, (struct sockaddr *)peers, length);
  }
}

static void batch(int s) {
  for (;;) {
    prepare(1, ROOM);
    int n = recvmmsg(s, messages, BATCH, MSG_WAITFORONE, NULL);
    for (int i = 0; i < n; i++) pieces[i].iov_len = messages[i].msg_len;
    if (n > 0) sendmmsg(s, messages, n, 0);
  }
}

static void load(int s, int window, double seconds) {
  struct timeval patience = {.tv_usec = 200000};
  int segment = SIZE;
  /* The kernel segments the buffer, so that the load generator is cheaper than the server it measures. */
  if (setsockopt(s, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment)) perror("UDP_SEGMENT"), exit(1);
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  int due = window;
  long came = 0;
  static char lower[BATCH * SIZE];
  memset(lower, 'x', sizeof lower);
  double begun = now(), moment = begun;
  while (moment - begun < seconds) {
    while (due > 0) {
      int n = due < BATCH ? due : BATCH;
      if (send(s, lower, n * SIZE, 0) <= 0) break;
      due -= n;
    }
    prepare(0, ROOM);
    int n = recvmmsg(s, messages, BATCH, MSG_WAITFORONE, NULL);
    if (n > 0) came += n;
    due = n > 0 ? n : window;
    moment = now();
  }
  printf("%.0f\n", came / (moment - begun));
}

static int ascending(const void *a, const void *b) {
  long x = *(const long *)a, y = *(const long *)b;
  return (x > y) - (x < y);
}

static void pong(int s, int count) {
  long *times = calloc(count, sizeof *times);
  struct timespec due, begun, ended;
  clock_gettime(CLOCK_MONOTONIC, &due);
  for (int i = 0; i < count; i++) {
    due.tv_nsec += 2000000;
    if (due.tv_nsec >= 1000000000) due.tv_sec++, due.tv_nsec -= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    int length = snprintf(buffers[0], ROOM, "Ping %d 1700000000000", i);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    send(s, buffers[0], length, 0);
    recv(s, buffers[0], ROOM, 0);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    times[i] = (ended.tv_sec - begun.tv_sec) * 1000000000L + ended.tv_nsec - begun.tv_nsec;
  }
  qsort(times, count, sizeof *times, ascending);
  printf("%ld\n", times[count / 2]);
}

int main(int count, char **words) {
  if (count < 3) return 2;
  int s = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
  setsockopt(s, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  int is_load = !strcmp(words[1], "load");
  if (is_load || !strcmp(words[1], "pong")) {
    if (count < 4 + is_load || connect(s, (struct sockaddr *)&address, sizeof address)) return 1;
    if (is_load) load(s, atoi(words[3]), atof(words[4]));
    else pong(s, atoi(words[3]));
    return 0;
  }
  if (bind(s, (struct sockaddr *)&address, sizeof address)) return perror("bind"), 1;
  if (!strcmp(words[1], "plain")) plain(s);
  batch(s);
}
