/* The card that brings rank 0's address to the others, and what both sides of the handshake use. */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "train/world/meet.h"

#define CARD_HEAD "seodang ranks 1\n"

/* Little enough that a heartbeat is not long behind what the system holds back. */
enum { BUFFER_BYTES = 512 << 10 };

void seo_meet_host(char out[SEO_WIRE_HOST]) {
    if (gethostname(out, SEO_WIRE_HOST) != 0) snprintf(out, SEO_WIRE_HOST, "unknown-host");
    out[SEO_WIRE_HOST - 1] = '\0';
}

void seo_meet_who(char *out, size_t bytes, int32_t rank, const char *host, int64_t process) {
    snprintf(out, bytes, "rank %d on %s, process %lld", (int)rank, host, (long long)process);
}

seo_err seo_meet_file(const char *folder, char *out) {
    return seo_path_join(out, folder, "ranks");
}

void seo_meet_socket(int fd) {
    const int on = 1, bytes = BUFFER_BYTES;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

bool seo_meet_send(int fd, seo_frame_kind kind, const uint8_t *payload, uint32_t bytes) {
    uint8_t all[SEO_WIRE_HEADER + SEO_WIRE_CONTROL_MAX];
    const seo_frame f = {.kind = kind, .bytes = bytes};
    seo_frame_put(all, &f);
    if (bytes > 0) memcpy(all + SEO_WIRE_HEADER, payload, bytes);
    const ssize_t whole = SEO_WIRE_HEADER + (ssize_t)bytes;
    return send(fd, all, (size_t)whole, MSG_NOSIGNAL | MSG_DONTWAIT) == whole;
}

seo_meet_got seo_meet_read(int fd, seo_meet_in *in) {
    for (;;) {
        int64_t end = SEO_WIRE_HEADER;
        if (in->have >= SEO_WIRE_HEADER) {
            if (!seo_frame_get(in->bytes, &in->frame)) return SEO_MEET_JUNK;
            if (in->frame.bytes > SEO_WIRE_CONTROL_MAX) return SEO_MEET_JUNK;
            end += in->frame.bytes;
            if (in->have == end) return SEO_MEET_FRAME;
        }
        const ssize_t n = recv(fd, in->bytes + in->have, (size_t)(end - in->have), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            return SEO_MEET_MORE;
        }
        if (n <= 0) return SEO_MEET_CLOSED;
        in->have += n;
    }
}

/* ---- the card ---- */

static void add_line(char *out, const char *key, const char *value) {
    const size_t at = strlen(out);
    snprintf(out + at, SEO_CARD_BYTES - at, "%s %s\n", key, value);
}

void seo_card_text(const seo_card *card, char out[SEO_CARD_BYTES]) {
    char number[32];
    memset(out, 0, SEO_CARD_BYTES);
    snprintf(out, SEO_CARD_BYTES, "%s", CARD_HEAD);
    add_line(out, "id", card->id);
    add_line(out, "host", card->host);
    snprintf(number, sizeof number, "%016llx", (unsigned long long)card->token);
    add_line(out, "token", number);
    snprintf(number, sizeof number, "%lld", (long long)card->process);
    add_line(out, "process", number);
    snprintf(number, sizeof number, "%d", (int)card->port);
    add_line(out, "port", number);
    for (int64_t i = 0; i < card->address_count; i++) add_line(out, "address", card->address[i]);
    add_line(out, "end", "");
}

/* One "key value" line. false: it cannot be one of a card. */
static bool parse_line(const char *line, size_t bytes, seo_card *card) {
    char text[160];
    if (bytes >= sizeof text) return false;
    memcpy(text, line, bytes);
    text[bytes] = '\0';
    char *value = strchr(text, ' ');
    if (!value) return false;
    *value++ = '\0';
    const size_t length = strlen(value);
    if (strcmp(text, "id") == 0 && length < sizeof card->id) {
        memcpy(card->id, value, length + 1);
    } else if (strcmp(text, "host") == 0 && length < sizeof card->host) {
        memcpy(card->host, value, length + 1);
    } else if (strcmp(text, "token") == 0) {
        card->token = strtoull(value, NULL, 16);
    } else if (strcmp(text, "process") == 0) {
        card->process = strtoll(value, NULL, 10);
    } else if (strcmp(text, "port") == 0) {
        const long long port = strtoll(value, NULL, 10);
        if (port < 1 || port > UINT16_MAX) return false;
        card->port = (int32_t)port;
    } else if (strcmp(text, "address") == 0 && length < SEO_CARD_ADDRESS) {
        if (card->address_count == SEO_CARD_ADDRESSES) return false;
        memcpy(card->address[card->address_count++], value, length + 1);
    } else {
        return false;
    }
    return true;
}

bool seo_card_parse(const char *text, size_t bytes, seo_card *card) {
    const size_t head = strlen(CARD_HEAD);
    *card = (seo_card){0};
    bytes = strnlen(text, bytes);
    if (bytes < head || memcmp(text, CARD_HEAD, head) != 0) return false;
    for (size_t at = head; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        if (!end) return false;
        const size_t line = (size_t)(end - (text + at));
        if (line == 4 && memcmp(text + at, "end ", 4) == 0) {
            return card->port > 0 && card->address_count > 0;
        }
        if (!parse_line(text + at, line, card)) return false;
        at += line + 1;
    }
    return false;
}

/* Link-local addresses are good on one link only, and need to know which. */
static bool useful(const struct ifaddrs *i) {
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP)) return false;
    if (i->ifa_addr->sa_family == AF_INET) return true;
    if (i->ifa_addr->sa_family != AF_INET6) return false;
    struct sockaddr_in6 six;
    memcpy(&six, i->ifa_addr, sizeof six);
    return !IN6_IS_ADDR_LINKLOCAL(&six.sin6_addr);
}

static void add_addresses(const struct ifaddrs *all, bool loopback, int family, seo_card *card) {
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!useful(i) || i->ifa_addr->sa_family != family) continue;
        if (((i->ifa_flags & IFF_LOOPBACK) != 0) != loopback) continue;
        if (card->address_count == SEO_CARD_ADDRESSES) return;
        const socklen_t bytes =
            family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        char *out = card->address[card->address_count];
        if (getnameinfo(i->ifa_addr, bytes, out, SEO_CARD_ADDRESS, NULL, 0, NI_NUMERICHOST) == 0) {
            card->address_count++;
        }
    }
}

seo_err seo_card_make(const seo_launch *launch, int32_t port, seo_card *card) {
    struct ifaddrs *all = NULL;
    *card = (seo_card){.port = port, .process = getpid()};
    snprintf(card->id, sizeof card->id, "%s", launch->id);
    seo_meet_host(card->host);
    if (getrandom(&card->token, sizeof card->token, 0) != (ssize_t)sizeof card->token) {
        return SEO_FAIL(SEO_ERR_IO, "cannot get random bytes: %s", strerror(errno));
    }
    if (getifaddrs(&all) != 0) {
        return SEO_FAIL(SEO_ERR_IO, "cannot list this host's network addresses: %s",
                        strerror(errno));
    }
    for (int loopback = 0; loopback < 2; loopback++) {
        add_addresses(all, loopback, AF_INET, card);
        add_addresses(all, loopback, AF_INET6, card);
    }
    freeifaddrs(all);
    if (card->address_count > 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_IO, "this host has no network address, not even a loopback one: bring "
                                "an interface up (ip link set lo up)");
}
