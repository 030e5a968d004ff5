#include "train/world/line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"

static const double BEAT_S = 1.0, LOOK_S = 0.25, GOODBYE_S = 2.0;

void seo_line_wake(seo_line *line) {
    /* A full pipe wakes as well. */
    (void)!write(line->wake[1], "", 1);
}

void seo_line_control(seo_line *line, int32_t to, seo_frame_kind kind, uint32_t channel,
                      const uint8_t *payload, uint32_t bytes) {
    seo_link *link = &line->links[to];
    if (link->fd < 0) return;
    if (link->control_from > 0) {
        memmove(link->control, link->control + link->control_from,
                (size_t)(link->control_to - link->control_from));
        link->control_to -= link->control_from;
        link->control_from = 0;
    }
    if (link->control_to + SEO_WIRE_HEADER + (int64_t)bytes > SEO_LINK_CONTROL) return;
    const seo_frame f = {.kind = kind, .channel = channel, .bytes = bytes};
    seo_frame_put(link->control + link->control_to, &f);
    if (bytes > 0) memcpy(link->control + link->control_to + SEO_WIRE_HEADER, payload, bytes);
    link->control_to += SEO_WIRE_HEADER + (int64_t)bytes;
}

void seo_line_note(seo_line *line, int32_t to, seo_frame_kind kind, const seo_wire_note *note) {
    uint8_t payload[SEO_WIRE_CONTROL_MAX];
    seo_line_control(line, to, kind, 0, payload, seo_wire_put_note(payload, note));
}

/* ---- the service thread ---- */

static double shortest_wait(const seo_line *line) {
    const double beat = line->silent_s / 8;
    return beat < LOOK_S ? beat : LOOK_S;
}

/* With the lock: a beat to everyone who has not had one lately and reads what he is sent. */
static void send_beats(seo_line *line, double now) {
    const double every = line->silent_s / 8 < BEAT_S ? line->silent_s / 8 : BEAT_S;
    uint8_t payload[SEO_WIRE_CONTROL_MAX];
    for (int32_t r = 0; r < line->size; r++) {
        seo_link *link = &line->links[r];
        if (link->state != SEO_LINK_OPEN || now - link->beat_s < every) continue;
        if (link->control_to - link->control_from > SEO_WIRE_CONTROL_MAX) continue;
        uint32_t bytes = 0;
        if (line->hooks.beat) bytes = line->hooks.beat(line->hooks.context, r, payload);
        seo_line_control(line, r, SEO_FRAME_BEAT, 0, payload, bytes);
        link->beat_s = now;
    }
}

/* With the lock: who was not heard for too long. While this process did not run it heard nobody:
 * that is not theirs. */
static void judge_silence(seo_line *line, double now) {
    for (int32_t r = 0; r < line->size; r++) {
        seo_link *link = &line->links[r];
        if (link->state != SEO_LINK_OPEN) continue;
        if (now - link->heard_s < line->silent_s) continue;
        seo_link_lose(line, r, true,
                      "has not been heard for %.1f s: it is stopped, or its network is gone",
                      now - link->heard_s);
    }
}

/* Fills the poll list: the pipe first, then the open links. With the lock. */
static nfds_t list_links(seo_line *line, struct pollfd *list, int32_t *ranks) {
    nfds_t count = 1;
    list[0] = (struct pollfd){.fd = line->wake[0], .events = POLLIN};
    for (int32_t r = 0; r < line->size; r++) {
        const seo_link *link = &line->links[r];
        if (link->fd < 0) continue;
        const bool writes = seo_link_wants_write(link);
        list[count] =
            (struct pollfd){.fd = link->fd, .events = (short)(POLLIN | (writes ? POLLOUT : 0))};
        ranks[count++] = r;
    }
    return count;
}

static void look(seo_line *line, struct pollfd *list, int32_t *ranks) {
    char drained[64];
    pthread_mutex_lock(&line->lock);
    nfds_t count = list_links(line, list, ranks);
    const double wait_s = shortest_wait(line);
    pthread_mutex_unlock(&line->lock);
    poll(list, count, (int)(1e3 * wait_s) + 1);
    if (list[0].revents & POLLIN) (void)!read(line->wake[0], drained, sizeof drained);
    pthread_mutex_lock(&line->lock);
    double now = seo_clock_s();
    const seo_line_hooks hooks = line->hooks;
    line->away_s = now - line->last_look_s - wait_s;
    if (line->away_s < 2 * wait_s) line->away_s = 0; /* an ordinary delay */
    line->last_look_s = now;
    for (int32_t r = 0; r < line->size && line->away_s > 0; r++) {
        line->links[r].heard_s += line->away_s;
    }
    for (nfds_t i = 1; i < count; i++) {
        if (list[i].revents & (POLLIN | POLLHUP | POLLERR)) seo_link_read(line, ranks[i]);
    }
    if (hooks.sample) {
        pthread_mutex_unlock(&line->lock);
        hooks.sample(hooks.context);
        pthread_mutex_lock(&line->lock);
    }
    now = seo_clock_s();
    judge_silence(line, now);
    if (!line->closing) send_beats(line, now);
    for (int32_t r = 0; r < line->size; r++) seo_link_write(line, r);
    const double away = line->away_s;
    pthread_mutex_unlock(&line->lock);
    if (hooks.act) hooks.act(hooks.context, away);
}

/* With the lock: whether everyone has answered the goodbye. */
static bool all_gone(const seo_line *line) {
    for (int32_t r = 0; r < line->size; r++) {
        if (line->links[r].fd >= 0 && line->links[r].state != SEO_LINK_LOST) return false;
    }
    return true;
}

/* Says goodbye, and reads until the others have closed too: closing with unread bytes would throw
 * away what they have not read yet. */
static void say_goodbye(seo_line *line, struct pollfd *list, int32_t *ranks) {
    pthread_mutex_lock(&line->lock);
    line->hooks = (seo_line_hooks){0};
    for (int32_t r = 0; r < line->size; r++) {
        seo_line_control(line, r, SEO_FRAME_BYE, 0, NULL, 0);
    }
    pthread_mutex_unlock(&line->lock);
    const double until = seo_clock_s() + GOODBYE_S;
    bool gone = false;
    while (!gone && seo_clock_s() < until) {
        pthread_mutex_lock(&line->lock);
        for (int32_t r = 0; r < line->size; r++) {
            seo_link *link = &line->links[r];
            if (link->fd >= 0 && !seo_link_wants_write(link)) shutdown(link->fd, SHUT_WR);
        }
        gone = all_gone(line);
        pthread_mutex_unlock(&line->lock);
        if (!gone) look(line, list, ranks);
    }
}

static void *serve(void *argument) {
    seo_line *line = argument;
    struct pollfd *list = calloc((size_t)line->size + 1, sizeof *list);
    int32_t *ranks = calloc((size_t)line->size + 1, sizeof *ranks);
    SEO_ASSERT(list != NULL && ranks != NULL);
    for (;;) {
        pthread_mutex_lock(&line->lock);
        const bool closing = line->closing;
        pthread_mutex_unlock(&line->lock);
        if (closing) break;
        look(line, list, ranks);
    }
    say_goodbye(line, list, ranks);
    free(list);
    free(ranks);
    return NULL;
}

/* ---- open and close ---- */

static seo_err start_thread(seo_line *line) {
    sigset_t all, before;
    /* Signals are for the thread that trains. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&line->thread, NULL, serve, line);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    line->threaded = failed == 0;
    if (failed == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_MEMORY, "cannot start the thread that keeps the ranks in touch: %s",
                    strerror(failed));
}

seo_err seo_line_open(int32_t rank, int32_t size, seo_link *links, double silent_s,
                      seo_line **out) {
    seo_err err = SEO_OK;
    seo_line *line = calloc(1, sizeof *line);
    *out = NULL;
    if (!line) {
        for (int32_t r = 0; r < size; r++) seo_link_free(&links[r]);
        free(links);
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the connections of %d ranks", (int)size);
    }
    *line = (seo_line){.rank = rank,
                       .size = size,
                       .links = links,
                       .silent_s = silent_s,
                       .lost_rank = -1,
                       .wake = {-1, -1},
                       .last_look_s = seo_clock_s()};
    pthread_mutex_init(&line->lock, NULL);
    pthread_cond_init(&line->changed, NULL);
    for (int32_t r = 0; r < size; r++) links[r].heard_s = line->last_look_s;
    if (pipe2(line->wake, O_CLOEXEC | O_NONBLOCK) != 0) {
        SEO_TRY(SEO_FAIL(SEO_ERR_IO, "cannot make a pipe: %s", strerror(errno)));
    }
    SEO_TRY(start_thread(line));
    *out = line;
    return SEO_OK;
done:
    seo_line_close(line);
    return err;
}

void seo_line_close(seo_line *line) {
    if (!line) return;
    if (line->threaded) {
        pthread_mutex_lock(&line->lock);
        line->closing = true;
        pthread_mutex_unlock(&line->lock);
        seo_line_wake(line);
        pthread_join(line->thread, NULL);
    }
    for (int i = 0; i < 2; i++) {
        if (line->wake[i] >= 0) close(line->wake[i]);
    }
    for (int32_t r = 0; r < line->size; r++) seo_link_free(&line->links[r]);
    pthread_cond_destroy(&line->changed);
    pthread_mutex_destroy(&line->lock);
    free(line->links);
    free(line);
}

/* ---- messages ---- */

/* With the lock. When the watch is on, the end of the job is its business: the thread that trains
 * must not run ahead of it into an end of its own. */
static seo_err lost(seo_line *line, int32_t rank, seo_channel channel, const char *what) {
    const seo_link *link = &line->links[rank];
    const bool anyone = line->lost_rank >= 0;
    while (anyone && line->watched && channel == SEO_CHANNEL_RUN) {
        pthread_cond_wait(&line->changed, &line->lock);
    }
    if (anyone) return SEO_FAIL(SEO_ERR_LOST, "%s: %s", what, line->lost_text);
    return SEO_FAIL(SEO_ERR_LOST, "%s: %s has left the run", what, link->who);
}

static bool can_go_on(const seo_line *line, int32_t rank) {
    return line->links[rank].state == SEO_LINK_OPEN && line->lost_rank < 0;
}

static void post(seo_link *link, seo_channel channel, const char *what, const void *data,
                 int64_t bytes) {
    seo_outbox *out = &link->out[channel];
    out->busy = true;
    out->titled = false;
    out->data = data;
    out->bytes = bytes;
    out->sent = 0;
    out->number++;
    snprintf(out->what, sizeof out->what, "%s", what);
}

static bool window_is_full(const seo_outbox *out) {
    return out->number - out->acknowledged >= SEO_WIRE_WINDOW;
}

seo_err seo_line_send(seo_line *line, int32_t first, int32_t end, seo_channel channel,
                      const char *what, const void *data, int64_t bytes) {
    seo_err err = SEO_OK;
    SEO_ASSERT(bytes >= 0 && what[0] != '\0');
    pthread_mutex_lock(&line->lock);
    for (int32_t r = first; r < end && err == SEO_OK; r++) {
        seo_link *link = &line->links[r];
        while (can_go_on(line, r) && window_is_full(&link->out[channel])) {
            seo_line_wake(line);
            pthread_cond_wait(&line->changed, &line->lock);
        }
        if (!can_go_on(line, r))
            err = lost(line, r, channel, what);
        else
            post(link, channel, what, data, bytes);
    }
    seo_line_wake(line);
    for (int32_t r = first; r < end; r++) {
        seo_link *link = &line->links[r];
        while (err == SEO_OK && can_go_on(line, r) && link->out[channel].busy) {
            pthread_cond_wait(&line->changed, &line->lock);
        }
        if (!link->out[channel].busy) continue;
        seo_link_abandon(link, channel);
        if (err == SEO_OK) err = lost(line, r, channel, what);
    }
    pthread_mutex_unlock(&line->lock);
    return err;
}

seo_err seo_line_receive(seo_line *line, int32_t from, seo_channel channel, const char *what,
                         seo_blob *out) {
    seo_err err = SEO_OK;
    *out = (seo_blob){0};
    pthread_mutex_lock(&line->lock);
    seo_link *link = &line->links[from];
    seo_inbox *in = &link->in[channel];
    while (in->count == 0 && can_go_on(line, from)) {
        pthread_cond_wait(&line->changed, &line->lock);
    }
    if (in->count == 0) {
        err = lost(line, from, channel, what);
    } else if (strncmp(in->what[in->first], what, SEO_WIRE_WHAT - 1) != 0) {
        err = SEO_FAIL(SEO_ERR_USAGE,
                       "the ranks do not do the same: %s is at \"%s\" while rank %d is at \"%s\". "
                       "Do all run the same program with the same configuration?",
                       link->who, in->what[in->first], (int)line->rank, what);
    } else {
        *out = in->done[in->first];
        in->first = (in->first + 1) % SEO_WIRE_WINDOW;
        in->count--;
        seo_line_control(line, from, SEO_FRAME_ACK, (uint32_t)channel, NULL, 0);
        seo_line_wake(line);
    }
    pthread_mutex_unlock(&line->lock);
    return err;
}
