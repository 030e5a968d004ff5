/* The connections of one rank and the thread that serves them; shared by world.c, meet*.c and
 * watch.c alone.
 *
 * Rank 0 has a link to every other rank, the others have one, to rank 0: links[r] is the link to
 * rank r, and stays SEO_LINK_NONE where there is none. One lock guards all of it; the hooks are
 * called by the service thread, those marked so with the lock held. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "train/world/wire.h"
#include "train/world/world.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_link_state {
    SEO_LINK_NONE,
    SEO_LINK_OPEN,
    SEO_LINK_LEFT, /* said goodbye */
    SEO_LINK_LOST  /* broken or silent; the descriptor may still be open for last words */
} seo_link_state;

/* A message on its way in, and those that wait for their receiver. */
typedef struct seo_inbox {
    seo_blob done[SEO_WIRE_WINDOW];
    char what[SEO_WIRE_WINDOW][SEO_WIRE_WHAT];
    int64_t first, count; /* of done */
    bool partial;         /* done[(first + count) % WINDOW] is being filled */
    int64_t have, capacity;
    uint64_t number; /* of the last title */
} seo_inbox;

/* A message on its way out: the caller's memory, and the caller waits. */
typedef struct seo_outbox {
    bool busy, titled;
    char what[SEO_WIRE_WHAT];
    const uint8_t *data;
    int64_t bytes, sent;
    uint64_t number, acknowledged;
} seo_outbox;

enum { SEO_LINK_CONTROL = 32 << 10 };

typedef struct seo_link {
    int fd; /* -1: closed */
    seo_link_state state;
    char who[160], why[512]; /* why: of a loss */
    double heard_s;
    double beat_s; /* when the last beat was queued */
    /* Reading. */
    uint8_t head[SEO_WIRE_HEADER], control_in[SEO_WIRE_CONTROL_MAX];
    int64_t head_have, have;
    seo_frame frame;
    seo_inbox in[SEO_WIRE_CHANNELS];
    /* Writing: control frames whole in a buffer, and one piece of a message in flight. */
    uint8_t control[SEO_LINK_CONTROL];
    int64_t control_from, control_to;
    seo_outbox out[SEO_WIRE_CHANNELS];
    bool flying;
    uint8_t fly_head[SEO_WIRE_HEADER];
    const uint8_t *fly_data;
    int64_t fly_bytes, fly_sent; /* of header and data together */
    uint32_t fly_channel, next_channel;
} seo_link;

typedef struct seo_line_hooks {
    void *context;
    /* Without the lock, at each look at the links. */
    void (*sample)(void *context);
    /* With the lock: the payload of a beat to `to`; how many bytes. */
    uint32_t (*beat)(void *context, int32_t to, uint8_t *out);
    /* With the lock: a frame of the watch's kinds. false: it is not well-formed. */
    bool (*frame)(void *context, int32_t from, const seo_frame *frame, const uint8_t *payload);
    /* With the lock: this link was lost just now. */
    void (*lost)(void *context, int32_t rank, bool silent);
    /* Without the lock, after each look: may end the process. */
    void (*act)(void *context, double away_s);
} seo_line_hooks;

typedef struct seo_line {
    int32_t rank, size;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    seo_link *links; /* [size] */
    int wake[2];     /* a pipe: what is queued is looked at at once */
    pthread_t thread;
    bool threaded, closing;
    double silent_s;            /* who is not heard for so long is lost */
    double last_look_s, away_s; /* away: this process did not run for so long, just now */
    int32_t lost_rank;          /* the first that was lost, -1: none */
    char lost_text[768];
    bool watched; /* the end of the job is the watch's: lost calls of the training thread wait */
    seo_line_hooks hooks;
} seo_line;

/* Takes the connected, nonblocking descriptors in links (links: calloc'd [size], freed by close).
 */
seo_err seo_line_open(int32_t rank, int32_t size, seo_link *links, double silent_s, seo_line **out);
/* Says goodbye and waits a little for the others' answer. NULL is fine. */
void seo_line_close(seo_line *line);

/* Queues a control frame; with the lock held. Dropped when the link's buffer is full, which only a
 * peer that does not read can bring about. */
void seo_line_control(seo_line *line, int32_t to, seo_frame_kind kind, uint32_t channel,
                      const uint8_t *payload, uint32_t bytes);
void seo_line_note(seo_line *line, int32_t to, seo_frame_kind kind, const seo_wire_note *note);
void seo_line_wake(seo_line *line);

/* The caller's message to the ranks of [first, end), one after the other or at once as they read;
 * returns when `data` is free again. */
seo_err seo_line_send(seo_line *line, int32_t first, int32_t end, seo_channel channel,
                      const char *what, const void *data, int64_t bytes);
/* The next message of rank `from`; out->data is malloc'd and never NULL. */
seo_err seo_line_receive(seo_line *line, int32_t from, seo_channel channel, const char *what,
                         seo_blob *out);

/* line_link.c: one link's bytes, with the lock held. Reading hands frames to seo_line_frame. */
void seo_link_read(seo_line *line, int32_t rank);
void seo_link_write(seo_line *line, int32_t rank);
bool seo_link_wants_write(const seo_link *link);
void seo_link_free(seo_link *link);
/* The caller of a message does not wait for it any longer: its memory is its own again. */
void seo_link_abandon(seo_link *link, uint32_t channel);
/* Marks it lost, tells callers, hooks and the other ranks. */
void seo_link_lose(seo_line *line, int32_t rank, bool silent, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#ifdef __cplusplus
}
#endif
