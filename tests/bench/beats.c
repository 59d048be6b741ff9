/* Many heartbeat senders on one socket, each at 1 Hz, spread evenly over the second.
 *
 *   beats PORT SENDERS SECONDS DOWN DOWN_AT
 *
 * From second DOWN_AT the first DOWN senders are silent; the name of each and the time of its last beat
 * are printed, in nanoseconds since 1970. The total number of beats is printed to stderr.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, ROOM = 128, TICK = 1000000 };
static char lines[BATCH][ROOM];
static struct iovec pieces[BATCH];
static struct mmsghdr messages[BATCH];

static int64_t nanos(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int count, char **words) {
  if (count < 6) return 2;
  int senders = atoi(words[2]), dead = atoi(words[4]);
  int64_t seconds = atoll(words[3]), die_at = atoll(words[5]);
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (connect(s, (struct sockaddr *)&address, sizeof address)) return perror("connect"), 1;
  int64_t *last = calloc(senders, sizeof *last);
  int64_t begun = nanos(CLOCK_MONOTONIC), sent = 0, total = senders * seconds;
  for (int64_t due = begun; sent < total; due += TICK) {
    struct timespec t = {due / 1000000000, due % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    int64_t upto = (nanos(CLOCK_MONOTONIC) - begun) * senders / 1000000000;
    if (upto > total) upto = total;
    while (sent < upto) {
      int n = 0;
      for (; n < BATCH && sent < upto; sent++) {
        int64_t number = sent % senders, seq = sent / senders + 1;
        if (number < dead && seq > die_at) continue;
        int64_t wall = nanos(CLOCK_REALTIME);
        last[number] = wall;
        int length = snprintf(lines[n], ROOM, "BEAT sender-%06lld 1 %lld %lld 1000 3", (long long)number,
                              (long long)seq, (long long)(wall / 1000000));
        pieces[n] = (struct iovec){.iov_base = lines[n], .iov_len = length};
        messages[n].msg_hdr = (struct msghdr){.msg_iov = &pieces[n], .msg_iovlen = 1};
        n++;
      }
      for (int done = 0; done < n;) {
        int more = sendmmsg(s, messages + done, n - done, 0);
        if (more <= 0) return perror("sendmmsg"), 1;
        done += more;
      }
    }
  }
  for (int i = 0; i < dead; i++) printf("sender-%06d %lld\n", i, (long long)last[i]);
  fprintf(stderr, "%lld\n", (long long)(senders * seconds - (int64_t)dead * (seconds - die_at)));
}
