/* Modbus clients, each with one request of 125 registers on its way at any time.
 * load PORT CLIENTS SECONDS       prints requests per second and the 50th and 99th percentile of the latency in us
 * load PORT CLIENTS SECONDS flood sends requests as fast as they are taken, answers are read and thrown away */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER = 9 + 250, MOST = 256, TIMES = 4000000, BURST = 340 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void request(unsigned char *to, unsigned number)
{
    static const unsigned char tail[] = {0, 0, 0, 6, 1, 3, 0, 100, 0, 125};
    to[0] = (unsigned char)(number >> 8);
    to[1] = (unsigned char)number;
    memcpy(to + 2, tail, sizeof tail);
}

static int dial(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        perror("connect");
        exit(1);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int flood(int port, int clients, double seconds)
{
    static unsigned char burst[BURST * 12], rubbish[1 << 16];
    struct epoll_event events[MOST];
    int poll = epoll_create1(0);
    size_t sent[MOST] = {0};
    double end = now() + seconds;

    for (unsigned i = 0; i < BURST; i++)
        request(burst + 12 * i, i);
    for (int i = 0; i < clients; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
        int fd = dial(port);
        event.data.u64 = ((unsigned long)i << 32) | (unsigned)fd;
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
    while (now() < end) {
        int count = epoll_wait(poll, events, MOST, 100);
        for (int i = 0; i < count; i++) {
            int fd = (int)(events[i].data.u64 & 0xffffffff), who = (int)(events[i].data.u64 >> 32);
            while (read(fd, rubbish, sizeof rubbish) > 0)
                ;
            ssize_t wrote = write(fd, burst + sent[who], sizeof burst - sent[who]);
            if (wrote > 0)
                sent[who] = (sent[who] + (size_t)wrote) % sizeof burst;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static double times[TIMES], began[MOST];
    static unsigned char answers[MOST][ANSWER];
    static unsigned numbers[MOST];
    static int got[MOST], fds[MOST];
    struct epoll_event events[MOST];
    unsigned char out[12];

    if (argc < 4)
        return 2;
    int port = atoi(argv[1]), clients = atoi(argv[2]), poll = epoll_create1(0);
    double seconds = atof(argv[3]);
    if (argc > 4)
        return flood(port, clients, seconds);
    for (int i = 0; i < clients; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)i};
        fds[i] = dial(port);
        epoll_ctl(poll, EPOLL_CTL_ADD, fds[i], &event);
    }
    double start = now(), end = start + seconds;
    for (int i = 0; i < clients; i++) {
        request(out, numbers[i] = (unsigned)i * 2000);
        began[i] = now();
        if (write(fds[i], out, 12) != 12)
            return 1;
    }
    size_t done = 0;
    while (now() < end) {
        int count = epoll_wait(poll, events, MOST, 100);
        for (int e = 0; e < count; e++) {
            unsigned i = events[e].data.u32;
            ssize_t size = read(fds[i], answers[i] + got[i], (size_t)(ANSWER - got[i]));
            if (size <= 0) {
                fprintf(stderr, "client %u was closed\n", i);
                return 1;
            }
            got[i] += (int)size;
            if (got[i] < ANSWER)
                continue;
            unsigned number = ((unsigned)answers[i][0] << 8) | answers[i][1];
            if (number != (numbers[i] & 0xffff) || answers[i][7] != 3 || answers[i][8] != 250) {
                fprintf(stderr, "client %u: a wrong answer\n", i);
                return 1;
            }
            if (done < TIMES)
                times[done] = now() - began[i];
            done++;
            got[i] = 0;
            request(out, ++numbers[i]);
            began[i] = now();
            if (write(fds[i], out, 12) != 12)
                return 1;
        }
    }
    double took = now() - start;
    size_t kept = done < TIMES ? done : TIMES;
    qsort(times, kept, sizeof *times, compare);
    printf("%.0f %.0f %.0f\n", (double)done / took, 1e6 * times[kept / 2], 1e6 * times[kept * 99 / 100]);
    return 0;
}
