/* Rank 0's side of the meeting: it listens, publishes its card, and calls the roll. */
#include "train/world/meet.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/text.h"

enum { PENDING_MIN = 64, WARNINGS_MAX = 10, NAMED_MAX = 16 };
static const double HELLO_S = 5.0, SKEW_S = 5.0;

/* A connection that has not said who it is yet. */
typedef struct pending {
    int fd; /* -1: free */
    double since_s;
    char from[SEO_CARD_ADDRESS];
    seo_meet_in in;
} pending;

typedef struct roll {
    const seo_world_args *args;
    seo_link *links;
    int32_t size, there;
    int listener;
    int32_t port;
    char host[SEO_WIRE_HOST], file[SEO_PATH_MAX];
    uint64_t token;
    pending *pending;
    int64_t pending_count;
    int64_t turned_away;
    char last_away[512];
    struct pollfd *list;
} roll;

/* ---- listening ---- */

static int try_listen(int family, int32_t port) {
    const int on = 1, off = 0;
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const struct sockaddr *address =
        family == AF_INET6 ? (const struct sockaddr *)&six : (const struct sockaddr *)&four;
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    /* A port that the last run used a minute ago may be taken again; one in use may not. */
    if (port != 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    seo_meet_socket(fd);
    if (bind(fd, address, family == AF_INET6 ? sizeof six : sizeof four) == 0 &&
        listen(fd, SOMAXCONN) == 0) {
        return fd;
    }
    const int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

static int32_t port_of(int fd) {
    struct sockaddr_storage address;
    socklen_t bytes = sizeof address;
    char port[16] = "";
    if (getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) return 0;
    getnameinfo((struct sockaddr *)&address, bytes, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    return (int32_t)strtol(port, NULL, 10);
}

static seo_err start_listening(roll *r) {
    const int32_t first = r->args->launch->master_port;
    const int32_t ports = first > 0 ? SEO_MEET_PORTS : 1;
    for (int32_t i = 0; i < ports && first + i <= UINT16_MAX; i++) {
        r->listener = try_listen(AF_INET6, first + i);
        if (r->listener < 0 && errno != EADDRINUSE) r->listener = try_listen(AF_INET, first + i);
        if (r->listener >= 0) break;
    }
    if (r->listener < 0) {
        if (first == 0) {
            return SEO_FAIL(SEO_ERR_IO, "cannot listen for the other ranks: %s", strerror(errno));
        }
        return SEO_FAIL(SEO_ERR_IO,
                        "cannot listen for the other ranks on any of the ports %d to %d "
                        "(MASTER_PORT on): %s",
                        (int)first, (int)(first + ports - 1), strerror(errno));
    }
    r->port = port_of(r->listener);
    return SEO_OK;
}

/* A collective call: the others wait in it for rank 0 even when it has nothing to say. */
static seo_err publish_by_mpi(const roll *r, const char text[SEO_CARD_BYTES]) {
    const seo_comm_label label = {"addresses of the ranks", -1};
    char *all = calloc((size_t)r->size, SEO_CARD_BYTES);
    if (!all) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the addresses of the ranks");
    seo_err err = seo_comm_gather_host(r->args->mpi, label, text, SEO_CARD_BYTES, all);
    free(all);
    return err;
}

static seo_err publish_by_file(roll *r, const char *text) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_dir_make(r->args->folder));
    SEO_TRY(seo_meet_file(r->args->folder, r->file));
    SEO_TRY(seo_file_write_atomic(r->file, text, (int64_t)strlen(text)));
done:
    if (err != SEO_OK) r->file[0] = '\0';
    return err;
}

static seo_err listen_and_publish(roll *r) {
    const seo_world_args *args = r->args;
    seo_card card;
    char text[SEO_CARD_BYTES] = {0};
    seo_err err = start_listening(r);
    if (!args->mpi && args->launch->master[0] != '\0') return err;
    if (err == SEO_OK) err = seo_card_make(args->launch, r->port, &card);
    if (err == SEO_OK) {
        r->token = card.token;
        seo_card_text(&card, text);
    }
    if (!args->mpi) return err == SEO_OK ? publish_by_file(r, text) : err;
    if (err == SEO_OK) return publish_by_mpi(r, text);
    char why[1024];
    snprintf(why, sizeof why, "%s", seo_err_detail());
    (void)publish_by_mpi(r, text);
    return SEO_FAIL(err, "%s", why);
}

/* ---- newcomers ---- */

__attribute__((format(printf, 2, 3))) static void turn_away(roll *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->last_away, sizeof r->last_away, fmt, ap);
    va_end(ap);
    if (r->turned_away++ < WARNINGS_MAX) seo_warn("turned away: %s", r->last_away);
}

static void drop(pending *p) {
    close(p->fd);
    p->fd = -1;
}

static pending *place_for_one(roll *r) {
    pending *oldest = &r->pending[0];
    for (int64_t i = 0; i < r->pending_count; i++) {
        pending *p = &r->pending[i];
        if (p->fd < 0) return p;
        if (p->since_s < oldest->since_s) oldest = p;
    }
    drop(oldest);
    return oldest;
}

static void let_in(roll *r) {
    for (int i = 0; i < 64; i++) {
        struct sockaddr_storage address;
        socklen_t bytes = sizeof address;
        const int fd = accept4(r->listener, (struct sockaddr *)&address, &bytes, SOCK_CLOEXEC);
        if (fd < 0) return;
        uint8_t greeting[SEO_WIRE_CONTROL_MAX];
        pending *p = place_for_one(r);
        p->fd = fd;
        p->since_s = seo_clock_s();
        p->in.have = 0;
        if (getnameinfo((struct sockaddr *)&address, bytes, p->from, sizeof p->from, NULL, 0,
                        NI_NUMERICHOST) != 0) {
            snprintf(p->from, sizeof p->from, "an unknown address");
        }
        seo_meet_socket(fd);
        if (!seo_meet_send(fd, SEO_FRAME_GREET, greeting, seo_wire_put_greet(greeting))) drop(p);
    }
}

static void refuse(const roll *r, int fd, bool ends_run, const char *why) {
    uint8_t payload[SEO_WIRE_CONTROL_MAX];
    seo_wire_verdict verdict = {.ends_run = ends_run, .process = getpid()};
    memcpy(verdict.host, r->host, sizeof verdict.host);
    snprintf(verdict.why, sizeof verdict.why, "%s", why);
    seo_meet_send(fd, SEO_FRAME_VERDICT, payload, seo_wire_put_verdict(payload, &verdict));
}

/* Why this one is not of this start; NULL: it is. */
static const char *stranger(const roll *r, const seo_wire_hello *h) {
    if (h->version != SEO_WIRE_VERSION) return "it runs another version of the program";
    if (strcmp(h->id, r->args->launch->id) != 0) return "it belongs to another start of the run";
    if (h->token != r->token) return "it holds the address of another start of the run";
    return NULL;
}

static void check_clock(const roll *r, const char *who, double wall_s) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const double skew = wall_s - ((double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    if (fabs(skew) <= SKEW_S) return;
    seo_warn("the clock of %s is %.0f s %s that of %s: times in logs and files will not fit "
             "together; set it (timedatectl set-ntp true)",
             who, fabs(skew), skew > 0 ? "ahead of" : "behind", r->host);
}

static bool still_there(const seo_link *link) {
    char byte;
    const ssize_t n = recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

static void welcome(roll *r, pending *p, const seo_wire_hello *h, const char *who) {
    uint8_t payload[SEO_WIRE_CONTROL_MAX];
    seo_wire_verdict verdict = {.welcome = true, .process = getpid()};
    seo_link *link = &r->links[h->rank];
    memcpy(verdict.host, r->host, sizeof verdict.host);
    if (!seo_meet_send(p->fd, SEO_FRAME_VERDICT, payload,
                       seo_wire_put_verdict(payload, &verdict))) {
        drop(p);
        return;
    }
    link->fd = p->fd;
    link->state = SEO_LINK_OPEN;
    snprintf(link->who, sizeof link->who, "%s", who);
    p->fd = -1;
    r->there++;
    check_clock(r, who, h->wall_s);
}

/* Ranks of one start that disagree on the world's size can never begin: that ends the run. */
static seo_err size_differs(const roll *r, const pending *p, const char *who, int32_t size) {
    char why[512];
    snprintf(why, sizeof why,
             "%s says the run has %d ranks, rank 0 on %s says %d: start all ranks with one "
             "launcher and the same number",
             who, (int)size, r->host, (int)r->size);
    refuse(r, p->fd, true, why);
    return SEO_FAIL(SEO_ERR_USAGE, "%s", why);
}

static seo_err hear(roll *r, pending *p) {
    seo_wire_hello h;
    char who[160], why[512];
    const uint8_t *payload = p->in.bytes + SEO_WIRE_HEADER;
    if (p->in.frame.kind != SEO_FRAME_HELLO ||
        !seo_wire_get_hello(payload, p->in.frame.bytes, &h)) {
        turn_away(r, "a connection from %s: what it says is not of a rank", p->from);
        drop(p);
        return SEO_OK;
    }
    seo_meet_who(who, sizeof who, h.rank, h.host, h.process);
    const char *strange = stranger(r, &h);
    if (strange) {
        turn_away(r, "%s: %s (\"%s\", this is \"%s\")", who, strange, h.id, r->args->launch->id);
        refuse(r, p->fd, false, strange);
    } else if (h.size != r->size) {
        seo_err err = size_differs(r, p, who, h.size);
        drop(p);
        return err;
    } else if (h.rank < 1 || h.rank >= r->size) {
        turn_away(r, "%s: no such rank in a run of %d", who, (int)r->size);
        refuse(r, p->fd, true, "there is no such rank in this run");
    } else if (r->links[h.rank].fd >= 0 && still_there(&r->links[h.rank])) {
        snprintf(why, sizeof why,
                 "two processes say they are the same rank: %s, and %s. Start all ranks with one "
                 "launcher",
                 r->links[h.rank].who, who);
        turn_away(r, "%s", why);
        refuse(r, p->fd, true, why);
    } else {
        if (r->links[h.rank].fd >= 0) {
            close(r->links[h.rank].fd);
            r->there--;
        }
        welcome(r, p, &h, who);
    }
    if (p->fd >= 0) drop(p);
    return SEO_OK;
}

static seo_err serve_pending(roll *r) {
    const double now = seo_clock_s();
    for (int64_t i = 0; i < r->pending_count; i++) {
        pending *p = &r->pending[i];
        if (p->fd < 0) continue;
        switch (seo_meet_read(p->fd, &p->in)) {
        case SEO_MEET_MORE:
            if (now - p->since_s < HELLO_S) break;
            turn_away(r, "a connection from %s that said nothing for %.0f s", p->from, HELLO_S);
            drop(p);
            break;
        case SEO_MEET_FRAME: {
            seo_err err = hear(r, p);
            if (err != SEO_OK) return err;
            break;
        }
        case SEO_MEET_CLOSED: drop(p); break;
        case SEO_MEET_JUNK:
            turn_away(r, "a connection from %s: what it says is not this protocol", p->from);
            drop(p);
            break;
        }
    }
    return SEO_OK;
}

/* Who came and went again is not there. */
static void check_joined(roll *r) {
    for (int32_t k = 1; k < r->size; k++) {
        seo_link *link = &r->links[k];
        if (link->fd < 0 || still_there(link)) continue;
        seo_warn("%s was there and is gone again", link->who);
        close(link->fd);
        link->fd = -1;
        link->state = SEO_LINK_NONE;
        r->there--;
    }
}

/* ---- the roll call ---- */

static void wait_for_news(roll *r) {
    nfds_t count = 1;
    r->list[0] = (struct pollfd){.fd = r->listener, .events = POLLIN};
    for (int64_t i = 0; i < r->pending_count; i++) {
        if (r->pending[i].fd < 0) continue;
        r->list[count++] = (struct pollfd){.fd = r->pending[i].fd, .events = POLLIN};
    }
    poll(r->list, count, 100);
}

static const char *usual_reason(const roll *r, char *out, size_t bytes) {
    const seo_launch *launch = r->args->launch;
    if (launch->launcher == SEO_LAUNCH_SLURM && strstr(launch->id, ".batch ")) {
        return "This process was started by a Slurm batch script without srun, so it is the only "
               "one: write `srun seodang ...` in the script";
    }
    const bool by_file = !r->args->mpi && launch->master[0] == '\0';
    snprintf(out, bytes,
             "They ended before they came (see their messages above), or cannot reach port %d of "
             "%s (firewall, network of the wrong interface)%s%s",
             (int)r->port, r->host, by_file ? ", or do not see this host's folder " : "",
             by_file ? r->args->folder : "");
    return out;
}

static seo_err missing(const roll *r, double waited_s) {
    seo_buf names = {0};
    char reason[1024];
    const int32_t count = r->size - 1 - r->there;
    int32_t named = 0;
    for (int32_t k = 1; k < r->size && named < NAMED_MAX; k++) {
        if (r->links[k].fd >= 0) continue;
        seo_buf_format(&names, "%s%d", named++ > 0 ? ", " : "", (int)k);
    }
    seo_err err = SEO_FAIL(SEO_ERR_MISSING, "after %.0f s %s %s%s of %d %s never come. %s%s%s",
                           waited_s, count > 1 ? "ranks" : "rank", names.data ? names.data : "?",
                           count > named ? " ..." : "", (int)r->size, count > 1 ? "have" : "has",
                           usual_reason(r, reason, sizeof reason),
                           r->turned_away > 0 ? ". Turned away last: " : "", r->last_away);
    seo_buf_free(&names);
    return err;
}

static seo_err call(roll *r) {
    const double start = seo_clock_s();
    for (;;) {
        wait_for_news(r);
        let_in(r);
        seo_err err = serve_pending(r);
        if (err != SEO_OK) return err;
        check_joined(r);
        if (r->there == r->size - 1) return SEO_OK;
        if (seo_clock_s() - start >= r->args->join_s) return missing(r, r->args->join_s);
    }
}

/* What all are told in the end: to begin, or why not. */
static void tell_all(const roll *r, seo_err err) {
    for (int32_t k = 1; k < r->size; k++) {
        if (r->links[k].fd < 0) continue;
        if (err == SEO_OK)
            seo_meet_send(r->links[k].fd, SEO_FRAME_READY, NULL, 0);
        else
            refuse(r, r->links[k].fd, true, seo_err_detail());
    }
}

static seo_err take_memory(roll *r) {
    r->pending_count = seo_max_i64(PENDING_MIN, r->size);
    r->pending = calloc((size_t)r->pending_count, sizeof *r->pending);
    r->list = calloc((size_t)r->pending_count + 1, sizeof *r->list);
    if (!r->pending || !r->list) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the roll call of %d ranks", (int)r->size);
    }
    for (int64_t i = 0; i < r->pending_count; i++) r->pending[i].fd = -1;
    return SEO_OK;
}

/* The file of this start goes; that of a later one, which took its place, stays. */
static void remove_file(const roll *r) {
    char *text = NULL;
    int64_t bytes = 0;
    seo_card card;
    if (r->file[0] == '\0') return;
    if (seo_file_read(r->file, SEO_CARD_BYTES, &text, &bytes) == SEO_OK &&
        seo_card_parse(text, (size_t)bytes, &card) && card.token == r->token) {
        unlink(r->file);
    }
    free(text);
}

seo_err seo_meet_gather(const seo_world_args *args, seo_link *links) {
    seo_err err = SEO_OK;
    char why[2048];
    roll r = {.args = args, .links = links, .size = args->launch->size, .listener = -1};
    seo_meet_host(r.host);
    SEO_TRY(take_memory(&r));
    SEO_TRY(listen_and_publish(&r));
    SEO_TRY(call(&r));
done:
    tell_all(&r, err);
    snprintf(why, sizeof why, "%s", seo_err_detail());
    remove_file(&r);
    if (err != SEO_OK) err = SEO_FAIL(err, "%s", why);
    if (r.listener >= 0) close(r.listener);
    for (int64_t i = 0; r.pending && i < r.pending_count; i++) {
        if (r.pending[i].fd >= 0) drop(&r.pending[i]);
    }
    free(r.pending);
    free(r.list);
    return err;
}
