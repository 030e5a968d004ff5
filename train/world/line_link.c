/* One link: frames in and out of a nonblocking socket. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/progress.h"
#include "train/world/line.h"

/* A message's memory grows as its bytes come, so that a wrong length takes none. */
enum { GROW_FIRST = 1 << 20, READS_MAX = 64 };

void seo_link_abandon(seo_link *link, uint32_t channel) {
    link->out[channel].busy = false;
    if (!link->flying || link->fly_channel != channel) return;
    link->flying = false;
    /* Half a frame is out: nothing can follow it. */
    if (link->fly_sent > 0 && link->fd >= 0) {
        close(link->fd);
        link->fd = -1;
    }
}

void seo_link_lose(seo_line *line, int32_t rank, bool silent, const char *fmt, ...) {
    seo_link *link = &line->links[rank];
    if (link->state == SEO_LINK_LOST || link->state == SEO_LINK_NONE) return;
    /* Who answers our goodbye by closing has not died. */
    const bool left = link->state == SEO_LINK_LEFT || line->closing;
    if (left) link->state = SEO_LINK_LEFT;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(link->why, sizeof link->why, fmt, ap);
    va_end(ap);
    if (!silent || left) {
        if (link->fd >= 0) close(link->fd);
        link->fd = -1;
    }
    for (uint32_t c = 0; c < SEO_WIRE_CHANNELS; c++) seo_link_abandon(link, c);
    pthread_cond_broadcast(&line->changed);
    if (left) return;
    link->state = SEO_LINK_LOST;
    if (line->lost_rank < 0) {
        line->lost_rank = rank;
        snprintf(line->lost_text, sizeof line->lost_text, "%s %s", link->who, link->why);
    }
    seo_wire_note note = {.number = rank};
    snprintf(note.text, sizeof note.text, "%s %s", link->who, link->why);
    for (int32_t r = 0; line->rank == 0 && r < line->size; r++) {
        if (line->links[r].fd >= 0) seo_line_note(line, r, SEO_FRAME_LOSS, &note);
    }
    if (line->hooks.lost) line->hooks.lost(line->hooks.context, rank, silent);
}

/* ---- in ---- */

static bool take_title(seo_line *line, seo_link *link, const seo_frame *f) {
    seo_inbox *in = &link->in[f->channel];
    if (in->partial || in->count == SEO_WIRE_WINDOW || f->number != in->number + 1) return false;
    if (f->bytes == 0 || f->bytes >= SEO_WIRE_WHAT) return false;
    const int64_t at = (in->first + in->count) % SEO_WIRE_WINDOW;
    memcpy(in->what[at], link->control_in, f->bytes);
    in->what[at][f->bytes] = '\0';
    in->number = f->number;
    in->capacity = seo_min_i64((int64_t)f->total, GROW_FIRST);
    in->done[at] = (seo_blob){.data = malloc((size_t)in->capacity + 1), .bytes = (int64_t)f->total};
    in->have = 0;
    in->partial = f->total > 0;
    in->count += !in->partial;
    if (!in->partial) pthread_cond_broadcast(&line->changed);
    return in->done[at].data != NULL;
}

/* Room for the data frame that begins; NULL: it does not belong to its message, or no memory. */
static uint8_t *room_for(seo_link *link, const seo_frame *f) {
    seo_inbox *in = &link->in[f->channel];
    seo_blob *blob = &in->done[(in->first + in->count) % SEO_WIRE_WINDOW];
    if (!in->partial || f->number != in->number || f->bytes == 0) return NULL;
    if ((int64_t)f->bytes > blob->bytes - in->have) return NULL;
    if (in->have + (int64_t)f->bytes > in->capacity) {
        const int64_t capacity = seo_min_i64(blob->bytes, 2 * in->capacity + SEO_WIRE_DATA_MAX);
        void *bigger = realloc(blob->data, (size_t)capacity + 1);
        if (!bigger) return NULL;
        blob->data = bigger;
        in->capacity = capacity;
    }
    return (uint8_t *)blob->data + in->have;
}

static bool take_loss(seo_line *line, const seo_frame *f, const uint8_t *payload) {
    seo_wire_note note;
    if (line->rank == 0 || !seo_wire_get_note(payload, f->bytes, &note)) return false;
    if (note.number < 0 || note.number >= line->size) return false;
    pthread_cond_broadcast(&line->changed);
    if (line->lost_rank >= 0) return true;
    line->lost_rank = note.number;
    snprintf(line->lost_text, sizeof line->lost_text, "%.700s", note.text);
    return true;
}

/* A frame is complete. false: it breaks the rules. */
static bool take_frame(seo_line *line, int32_t rank) {
    seo_link *link = &line->links[rank];
    const seo_frame *f = &link->frame;
    seo_inbox *in = &link->in[f->channel];
    switch (f->kind) {
    case SEO_FRAME_TITLE: return take_title(line, link, f);
    case SEO_FRAME_DATA:
        if (f->bytes == 0) return false;
        in->have += f->bytes;
        if (in->have == in->done[(in->first + in->count) % SEO_WIRE_WINDOW].bytes) {
            in->partial = false;
            in->count++;
            pthread_cond_broadcast(&line->changed);
        }
        return true;
    case SEO_FRAME_ACK:
        pthread_cond_broadcast(&line->changed);
        return ++link->out[f->channel].acknowledged <= link->out[f->channel].number;
    case SEO_FRAME_BYE:
        if (link->state == SEO_LINK_OPEN) link->state = SEO_LINK_LEFT;
        pthread_cond_broadcast(&line->changed);
        return true;
    case SEO_FRAME_LOSS: return take_loss(line, f, link->control_in);
    case SEO_FRAME_BEAT:
        if (f->bytes == 0) return true;
        break;
    case SEO_FRAME_FAIL:
    case SEO_FRAME_END:
    case SEO_FRAME_DONE:
    case SEO_FRAME_EXIT: break;
    default: return false;
    }
    return !line->hooks.frame || line->hooks.frame(line->hooks.context, rank, f, link->control_in);
}

/* Where the next bytes of this link go. false: the header is not ours. */
static bool next_room(seo_link *link, uint8_t **to, int64_t *bytes) {
    if (link->head_have < SEO_WIRE_HEADER) {
        *to = link->head + link->head_have;
        *bytes = SEO_WIRE_HEADER - link->head_have;
        return true;
    }
    const seo_frame *f = &link->frame;
    *to = link->control_in + link->have;
    *bytes = (int64_t)f->bytes - link->have;
    if (f->kind == SEO_FRAME_DATA) {
        uint8_t *room = room_for(link, f);
        *to = room + link->have;
        return room != NULL;
    }
    return true;
}

/* So many bytes came to where next_room said. */
static bool came(seo_line *line, int32_t rank, int64_t bytes) {
    seo_link *link = &line->links[rank];
    if (link->head_have < SEO_WIRE_HEADER) {
        link->head_have += bytes;
        if (link->head_have < SEO_WIRE_HEADER) return true;
        link->have = 0;
        if (!seo_frame_get(link->head, &link->frame)) return false;
    } else {
        link->have += bytes;
    }
    if (link->have < (int64_t)link->frame.bytes) return true;
    link->head_have = 0;
    return take_frame(line, rank);
}

void seo_link_read(seo_line *line, int32_t rank) {
    seo_link *link = &line->links[rank];
    for (int i = 0; i < READS_MAX && link->fd >= 0; i++) {
        uint8_t *to;
        int64_t bytes;
        if (!next_room(link, &to, &bytes)) {
            seo_link_lose(line, rank, false, "sent a message that cannot be taken");
            return;
        }
        const ssize_t n = recv(link->fd, to, (size_t)bytes, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
        if (n < 0) {
            seo_link_lose(line, rank, false, "is gone: its connection broke (%s)", strerror(errno));
            return;
        }
        if (n == 0) {
            seo_link_lose(line, rank, false,
                          "is gone: its connection was closed without a goodbye, so the process "
                          "ended or was killed");
            return;
        }
        link->heard_s = seo_clock_s();
        if (!came(line, rank, n)) {
            seo_link_lose(line, rank, false, "sent what is not of this protocol");
            return;
        }
    }
}

/* ---- out ---- */

static bool has_piece(const seo_outbox *out) {
    return out->busy && (!out->titled || out->sent < out->bytes);
}

bool seo_link_wants_write(const seo_link *link) {
    if (link->fd < 0) return false;
    if (link->flying || link->control_from < link->control_to) return true;
    if (link->state != SEO_LINK_OPEN) return false;
    for (int c = 0; c < SEO_WIRE_CHANNELS; c++) {
        if (has_piece(&link->out[c])) return true;
    }
    return false;
}

/* Puts the next piece of a message into flight: the channels take turns. */
static bool next_piece(seo_link *link) {
    for (uint32_t i = 0; i < SEO_WIRE_CHANNELS; i++) {
        const uint32_t c = (link->next_channel + i) % SEO_WIRE_CHANNELS;
        seo_outbox *out = &link->out[c];
        if (link->state != SEO_LINK_OPEN || !has_piece(out)) continue;
        seo_frame f = {.kind = SEO_FRAME_TITLE, .channel = c, .number = out->number};
        if (!out->titled) {
            f.bytes = (uint32_t)strlen(out->what);
            f.total = (uint64_t)out->bytes;
            link->fly_data = (const uint8_t *)out->what;
        } else {
            f.kind = SEO_FRAME_DATA;
            f.bytes = (uint32_t)seo_min_i64(SEO_WIRE_DATA_MAX, out->bytes - out->sent);
            link->fly_data = out->data + out->sent;
        }
        seo_frame_put(link->fly_head, &f);
        link->fly_bytes = SEO_WIRE_HEADER + (int64_t)f.bytes;
        link->fly_sent = 0;
        link->fly_channel = c;
        link->next_channel = c + 1;
        link->flying = true;
        return true;
    }
    return false;
}

static void landed(seo_line *line, seo_link *link) {
    seo_outbox *out = &link->out[link->fly_channel];
    link->flying = false;
    if (out->titled) out->sent += link->fly_bytes - SEO_WIRE_HEADER;
    out->titled = true;
    if (out->sent < out->bytes) return;
    out->busy = false;
    pthread_cond_broadcast(&line->changed);
}

/* Bytes that the socket took, 0: it is full, -1: an error. */
static ssize_t push(seo_link *link) {
    struct iovec parts[2];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 1};
    if (link->flying) {
        const int64_t head = seo_max_i64(0, SEO_WIRE_HEADER - link->fly_sent);
        const int64_t from = seo_max_i64(0, link->fly_sent - SEO_WIRE_HEADER);
        parts[0] = (struct iovec){link->fly_head + (SEO_WIRE_HEADER - head), (size_t)head};
        parts[1] = (struct iovec){(void *)(uintptr_t)(link->fly_data + from),
                                  (size_t)(link->fly_bytes - SEO_WIRE_HEADER - from)};
        message.msg_iovlen = 2;
    } else {
        parts[0] = (struct iovec){link->control + link->control_from,
                                  (size_t)(link->control_to - link->control_from)};
    }
    const ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL);
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
}

void seo_link_write(seo_line *line, int32_t rank) {
    seo_link *link = &line->links[rank];
    for (int i = 0; i < READS_MAX && link->fd >= 0; i++) {
        const bool control = !link->flying && link->control_from < link->control_to;
        if (!link->flying && !control && !next_piece(link)) return;
        const ssize_t n = push(link);
        if (n == 0) return;
        if (n < 0) {
            /* What it said last is still to be read, a goodbye among it. */
            const int reason = errno;
            seo_link_read(line, rank);
            seo_link_lose(line, rank, false, "is gone: its connection broke (%s)",
                          strerror(reason));
            return;
        }
        if (control) {
            link->control_from += n;
            if (link->control_from == link->control_to) link->control_from = link->control_to = 0;
            continue;
        }
        link->fly_sent += n;
        if (link->fly_sent == link->fly_bytes) landed(line, link);
    }
}

void seo_link_free(seo_link *link) {
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
    for (int c = 0; c < SEO_WIRE_CHANNELS; c++) {
        seo_inbox *in = &link->in[c];
        for (int64_t i = 0; i < in->count + in->partial; i++) {
            free(in->done[(in->first + i) % SEO_WIRE_WINDOW].data);
        }
        in->count = 0;
        in->partial = false;
    }
}
