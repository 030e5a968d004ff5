/* The other ranks' side of the meeting: they find rank 0's port and say who they are. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/progress.h"
#include "train/world/meet.h"

/* CONNECT_S: for an address that nobody answers at; the next one may be the right one. READY_S: how
 * much longer than rank 0 we wait, so that its word on who is missing arrives. */
static const double CONNECT_S = 2.0, GREET_S = 2.0, VERDICT_S = 10.0, READY_S = 15.0;

typedef struct joining {
    const seo_world_args *args;
    seo_link *link;
    char host[SEO_WIRE_HOST];
    double start_s;
    seo_card card;
    bool ends_run;   /* no use in trying again */
    char away[512];  /* what rank 0 had against us */
    char *all_cards; /* through MPI */
} joining;

static seo_meet_got read_until(int fd, seo_meet_in *in, double seconds) {
    const double until = seo_clock_s() + seconds;
    in->have = 0;
    for (;;) {
        const seo_meet_got got = seo_meet_read(fd, in);
        const double left = until - seo_clock_s();
        if (got != SEO_MEET_MORE || left <= 0) return got;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        poll(&wait, 1, (int)(1e3 * left) + 1);
    }
}

/* A connected socket, or -1 with errno. */
static int connect_to(const struct addrinfo *a) {
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    seo_meet_socket(fd);
    int reason = 0;
    socklen_t bytes = sizeof reason;
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) reason = errno;
    if (reason == EINPROGRESS) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        reason = ETIMEDOUT;
        if (poll(&wait, 1, (int)(1e3 * CONNECT_S)) == 1) {
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &bytes);
        }
    }
    if (reason == 0) return fd;
    close(fd);
    errno = reason;
    return -1;
}

static bool say_hello(const joining *j, int fd) {
    uint8_t payload[SEO_WIRE_CONTROL_MAX];
    struct timespec now;
    const seo_launch *launch = j->args->launch;
    clock_gettime(CLOCK_REALTIME, &now);
    seo_wire_hello h = {.version = SEO_WIRE_VERSION,
                        .rank = launch->rank,
                        .size = launch->size,
                        .process = getpid(),
                        .token = j->card.token,
                        .wall_s = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec};
    snprintf(h.id, sizeof h.id, "%s", launch->id);
    memcpy(h.host, j->host, sizeof h.host);
    return seo_meet_send(fd, SEO_FRAME_HELLO, payload, seo_wire_put_hello(payload, &h));
}

/* After the welcome: the others are waited for. */
static seo_err wait_for_all(const joining *j, int fd) {
    seo_meet_in in = {0};
    seo_wire_verdict verdict;
    const uint8_t *payload = in.bytes + SEO_WIRE_HEADER;
    const seo_meet_got got = read_until(fd, &in, j->args->join_s + READY_S);
    if (got == SEO_MEET_FRAME && in.frame.kind == SEO_FRAME_READY) return SEO_OK;
    if (got == SEO_MEET_FRAME && in.frame.kind == SEO_FRAME_VERDICT &&
        seo_wire_get_verdict(payload, in.frame.bytes, &verdict)) {
        return SEO_FAIL(SEO_ERR_MISSING, "%s: %s", j->link->who, verdict.why);
    }
    return SEO_FAIL(SEO_ERR_LOST, "%s was there and %s while the ranks gathered", j->link->who,
                    got == SEO_MEET_MORE ? "fell silent" : "went away");
}

/* Greeting, hello, verdict over a fresh connection. SEO_ERR_MISSING: it was not rank 0. */
static seo_err shake_hands(joining *j, int fd) {
    seo_meet_in in = {0};
    seo_wire_verdict verdict;
    uint32_t version;
    const uint8_t *payload = in.bytes + SEO_WIRE_HEADER;
    if (read_until(fd, &in, GREET_S) != SEO_MEET_FRAME || in.frame.kind != SEO_FRAME_GREET ||
        !seo_wire_get_greet(payload, in.frame.bytes, &version)) {
        return SEO_FAIL(SEO_ERR_MISSING, "who listens there is not rank 0 of a run");
    }
    if (version != SEO_WIRE_VERSION) {
        return SEO_FAIL(SEO_ERR_MISSING, "who listens there is another version of the program");
    }
    if (!say_hello(j, fd) || read_until(fd, &in, VERDICT_S) != SEO_MEET_FRAME ||
        in.frame.kind != SEO_FRAME_VERDICT ||
        !seo_wire_get_verdict(payload, in.frame.bytes, &verdict)) {
        return SEO_FAIL(SEO_ERR_MISSING, "who listens there did not answer");
    }
    seo_meet_who(j->link->who, sizeof j->link->who, 0, verdict.host, verdict.process);
    if (verdict.welcome) return SEO_OK;
    j->ends_run = verdict.ends_run;
    snprintf(j->away, sizeof j->away, "%.150s turned us away: %.300s", j->link->who, verdict.why);
    return SEO_FAIL(verdict.ends_run ? SEO_ERR_USAGE : SEO_ERR_MISSING, "%s turned us away: %s",
                    j->link->who, verdict.why);
}

/* All that a name stands for. SEO_OK: the link is ours, and all ranks are there. */
static seo_err try_address(joining *j, const char *name, int32_t port) {
    struct addrinfo want = {.ai_socktype = SOCK_STREAM}, *all = NULL;
    char text[16];
    seo_err err = SEO_ERR_MISSING;
    snprintf(text, sizeof text, "%d", (int)port);
    const int failed = getaddrinfo(name, text, &want, &all);
    if (failed != 0) {
        return SEO_FAIL(SEO_ERR_MISSING, "%s: %s", name, gai_strerror(failed));
    }
    for (const struct addrinfo *a = all; a && err != SEO_OK && !j->ends_run; a = a->ai_next) {
        const int fd = connect_to(a);
        if (fd < 0) {
            err = SEO_FAIL(SEO_ERR_MISSING, "%s port %d: %s", name, (int)port, strerror(errno));
            continue;
        }
        err = shake_hands(j, fd);
        if (err != SEO_OK) {
            err = seo_err_context(err, "%s port %d", name, (int)port);
            close(fd);
            continue;
        }
        err = wait_for_all(j, fd);
        j->ends_run = true;
        if (err != SEO_OK) {
            close(fd);
            break;
        }
        j->link->fd = fd;
        j->link->state = SEO_LINK_OPEN;
    }
    freeaddrinfo(all);
    return err;
}

/* The card as it is now. SEO_ERR_MISSING: there is none of this start yet. */
static seo_err find_card(joining *j) {
    char path[SEO_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    if (j->args->mpi) {
        if (seo_card_parse(j->all_cards, SEO_CARD_BYTES, &j->card)) return SEO_OK;
        j->ends_run = true;
        return SEO_FAIL(SEO_ERR_LOST, "rank 0 could not say where it listens: see its message");
    }
    seo_err err = seo_meet_file(j->args->folder, path);
    if (err == SEO_OK) err = seo_file_read(path, SEO_CARD_BYTES, &text, &bytes);
    if (err == SEO_OK && !seo_card_parse(text, (size_t)bytes, &j->card)) {
        err = SEO_FAIL(SEO_ERR_MISSING, "%s is not what rank 0 writes", path);
    }
    free(text);
    if (err == SEO_OK && strcmp(j->card.id, j->args->launch->id) != 0) {
        err = SEO_FAIL(SEO_ERR_MISSING, "%s is left from another start (\"%s\", this is \"%s\")",
                       path, j->card.id, j->args->launch->id);
    }
    return err;
}

/* One round of all that may be rank 0. */
static seo_err try_once(joining *j) {
    const seo_launch *launch = j->args->launch;
    seo_err err = SEO_OK;
    if (!j->args->mpi && launch->master[0] != '\0') {
        for (int32_t i = 0; i < SEO_MEET_PORTS && launch->master_port + i <= UINT16_MAX; i++) {
            err = try_address(j, launch->master, launch->master_port + i);
            if (err == SEO_OK || j->ends_run) break;
        }
        return err;
    }
    err = find_card(j);
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < j->card.address_count; i++) {
        err = try_address(j, j->card.address[i], j->card.port);
        if (err == SEO_OK || j->ends_run) break;
    }
    return err;
}

static seo_err gather_cards(joining *j) {
    const char nothing[SEO_CARD_BYTES] = {0};
    const seo_comm_label label = {"addresses of the ranks", -1};
    if (!j->args->mpi) return SEO_OK;
    j->all_cards = calloc((size_t)j->args->launch->size, SEO_CARD_BYTES);
    if (!j->all_cards) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the addresses of the ranks");
    return seo_comm_gather_host(j->args->mpi, label, nothing, SEO_CARD_BYTES, j->all_cards);
}

seo_err seo_meet_join(const seo_world_args *args, seo_link *links) {
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    joining j = {.args = args, .link = &links[0], .start_s = seo_clock_s()};
    seo_meet_host(j.host);
    seo_err err = gather_cards(&j);
    while (err == SEO_OK) {
        err = try_once(&j);
        if (err == SEO_OK || j.ends_run) break;
        if (seo_clock_s() - j.start_s >= args->join_s) {
            err =
                SEO_FAIL(SEO_ERR_MISSING,
                         "rank %d could not find rank 0 for %.0f s. Last: %s. Rank 0 ended before "
                         "(see its message), or this host cannot reach it",
                         (int)args->launch->rank, args->join_s,
                         j.away[0] != '\0' ? j.away : seo_err_detail());
            break;
        }
        err = SEO_OK;
        nanosleep(&pause, NULL);
    }
    free(j.all_cards);
    return err;
}
