/* What another process may send to a rank: the frames of a link, their payloads, and the card of
 * rank 0. The first byte says which. Nothing that is accepted may leave its bounds, and what a
 * parser takes it must give back to the byte. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "train/world/meet.h"

static void same(const uint8_t *again, uint32_t bytes, const uint8_t *data, size_t size) {
    SEO_ASSERT(bytes == size && memcmp(again, data, size) == 0);
}

/* The payload as every kind. */
static void payloads(const uint8_t *data, size_t size) {
    uint8_t again[SEO_WIRE_CONTROL_MAX];
    seo_wire_hello hello;
    seo_wire_verdict verdict;
    seo_wire_beat beat;
    seo_wire_note note;
    uint32_t version;
    if (size > SEO_WIRE_CONTROL_MAX) return;
    const uint32_t n = (uint32_t)size;
    if (seo_wire_get_hello(data, n, &hello)) {
        same(again, seo_wire_put_hello(again, &hello), data, size);
    }
    if (seo_wire_get_verdict(data, n, &verdict)) {
        same(again, seo_wire_put_verdict(again, &verdict), data, size);
    }
    if (seo_wire_get_beat(data, n, &beat)) {
        same(again, seo_wire_put_beat(again, &beat), data, size);
    }
    if (seo_wire_get_note(data, n, &note)) {
        same(again, seo_wire_put_note(again, &note), data, size);
    }
    if (seo_wire_get_greet(data, n, &version)) SEO_ASSERT(size == 4);
}

static void card(const uint8_t *data, size_t size) {
    seo_card got, back;
    char text[SEO_CARD_BYTES], again[SEO_CARD_BYTES];
    if (!seo_card_parse((const char *)data, size, &got)) return;
    SEO_ASSERT(got.port > 0 && got.port <= UINT16_MAX);
    SEO_ASSERT(got.address_count > 0 && got.address_count <= SEO_CARD_ADDRESSES);
    seo_card_text(&got, text);
    SEO_ASSERT(seo_card_parse(text, sizeof text, &back));
    seo_card_text(&back, again);
    SEO_ASSERT(memcmp(text, again, sizeof text) == 0);
}

/* The rank's side of a link that gets these bytes, with the hooks of nobody. */
static void frames(const uint8_t *data, size_t size, int32_t rank) {
    int ends[2];
    seo_link *links = calloc(2, sizeof *links);
    SEO_ASSERT(links != NULL);
    SEO_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    seo_line line = {.rank = rank,
                     .size = 2,
                     .links = links,
                     .lost_rank = -1,
                     .wake = {-1, -1},
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .changed = PTHREAD_COND_INITIALIZER};
    links[rank].fd = -1;
    links[1 - rank].fd = ends[0];
    links[1 - rank].state = SEO_LINK_OPEN;
    while (size > 0 && links[1 - rank].fd >= 0) {
        const ssize_t n = send(ends[1], data, size, MSG_NOSIGNAL);
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
        seo_link_read(&line, 1 - rank);
    }
    for (int c = 0; c < SEO_WIRE_CHANNELS; c++) {
        const seo_inbox *in = &links[1 - rank].in[c];
        SEO_ASSERT(in->count >= 0 && in->count <= SEO_WIRE_WINDOW);
    }
    close(ends[1]);
    seo_link_free(&links[1 - rank]);
    free(links);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_QUIET});
    if (size == 0) return 0;
    /* A copy of exactly the bytes lets the address sanitizer see a read behind them. */
    uint8_t *exact = malloc(size - 1 + (size == 1));
    SEO_ASSERT(exact != NULL);
    memcpy(exact, data + 1, size - 1);
    switch (data[0] % 4) {
    case 0: payloads(exact, size - 1); break;
    case 1: card(exact, size - 1); break;
    default: frames(exact, size - 1, data[0] % 4 - 2); break;
    }
    free(exact);
    return 0;
}
