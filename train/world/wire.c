#include "train/world/wire.h"

#include <math.h>
#include <string.h>

static const uint8_t k_magic[4] = {'S', 'E', 'O', '1'};

/* ---- numbers and texts ---- */

static uint8_t *put(uint8_t *at, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> (8 * i));
    return at + bytes;
}

static uint8_t *put_f64(uint8_t *at, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put(at, bits, 8);
}

static uint8_t *put_text(uint8_t *at, const char *text, size_t field) {
    const size_t bytes = strnlen(text, field - 1);
    at = put(at, bytes, 2);
    memcpy(at, text, bytes);
    return at + bytes;
}

/* What is left to read; `bad` stays once something did not fit. */
typedef struct reader {
    const uint8_t *at, *end;
    bool bad;
} reader;

static uint64_t get(reader *r, int bytes) {
    uint64_t value = 0;
    if (r->bad || r->end - r->at < bytes) {
        r->bad = true;
        return 0;
    }
    for (int i = 0; i < bytes; i++) value |= (uint64_t)r->at[i] << (8 * i);
    r->at += bytes;
    return value;
}

static double get_f64(reader *r) {
    const uint64_t bits = get(r, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    if (!isfinite(value)) r->bad = true;
    return r->bad ? 0 : value;
}

static bool get_flag(reader *r) {
    const uint64_t value = get(r, 1);
    if (value > 1) r->bad = true;
    return value == 1;
}

/* Texts go into messages for people: a control character in one is no text of ours. */
static void get_text(reader *r, char *out, size_t field) {
    const size_t bytes = (size_t)get(r, 2);
    out[0] = '\0';
    if (r->bad || bytes >= field || (size_t)(r->end - r->at) < bytes) {
        r->bad = true;
        return;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (r->at[i] < 32 && r->at[i] != '\n' && r->at[i] != '\t') r->bad = true;
    }
    if (r->bad) return;
    memcpy(out, r->at, bytes);
    out[bytes] = '\0';
    r->at += bytes;
}

static bool whole(const reader *r) {
    return !r->bad && r->at == r->end;
}

/* ---- frames ---- */

void seo_frame_put(uint8_t out[SEO_WIRE_HEADER], const seo_frame *frame) {
    memset(out, 0, SEO_WIRE_HEADER);
    memcpy(out, k_magic, sizeof k_magic);
    out[4] = (uint8_t)frame->kind;
    out[5] = (uint8_t)frame->channel;
    put(out + 8, frame->bytes, 4);
    put(out + 16, frame->number, 8);
    put(out + 24, frame->total, 8);
}

bool seo_frame_get(const uint8_t in[SEO_WIRE_HEADER], seo_frame *frame) {
    reader r = {in + 4, in + SEO_WIRE_HEADER, false};
    *frame = (seo_frame){0};
    if (memcmp(in, k_magic, sizeof k_magic) != 0) return false;
    const uint64_t kind = get(&r, 1), channel = get(&r, 1), zero = get(&r, 2);
    const uint64_t bytes = get(&r, 4), zero2 = get(&r, 4);
    if (kind < SEO_FRAME_GREET || kind >= SEO_FRAME_KINDS || zero != 0 || zero2 != 0) return false;
    frame->kind = (seo_frame_kind)kind;
    frame->channel = (uint32_t)channel;
    frame->bytes = (uint32_t)bytes;
    frame->number = get(&r, 8);
    frame->total = get(&r, 8);
    if (frame->total > INT64_MAX || channel >= SEO_WIRE_CHANNELS) return false;
    return bytes <= (kind == SEO_FRAME_DATA ? SEO_WIRE_DATA_MAX : SEO_WIRE_CONTROL_MAX);
}

/* ---- payloads ---- */

uint32_t seo_wire_put_greet(uint8_t *out) {
    return (uint32_t)(put(out, SEO_WIRE_VERSION, 4) - out);
}

bool seo_wire_get_greet(const uint8_t *in, uint32_t bytes, uint32_t *version) {
    reader r = {in, in + bytes, false};
    *version = (uint32_t)get(&r, 4);
    return whole(&r);
}

uint32_t seo_wire_put_hello(uint8_t *out, const seo_wire_hello *hello) {
    uint8_t *at = put(out, hello->version, 4);
    at = put(at, (uint32_t)hello->rank, 4);
    at = put(at, (uint32_t)hello->size, 4);
    at = put(at, (uint64_t)hello->process, 8);
    at = put_f64(at, hello->wall_s);
    at = put(at, hello->token, 8);
    at = put_text(at, hello->id, sizeof hello->id);
    at = put_text(at, hello->host, sizeof hello->host);
    return (uint32_t)(at - out);
}

bool seo_wire_get_hello(const uint8_t *in, uint32_t bytes, seo_wire_hello *hello) {
    reader r = {in, in + bytes, false};
    *hello = (seo_wire_hello){.version = (uint32_t)get(&r, 4)};
    hello->rank = (int32_t)get(&r, 4);
    hello->size = (int32_t)get(&r, 4);
    hello->process = (int64_t)get(&r, 8);
    hello->wall_s = get_f64(&r);
    hello->token = get(&r, 8);
    get_text(&r, hello->id, sizeof hello->id);
    get_text(&r, hello->host, sizeof hello->host);
    return whole(&r);
}

uint32_t seo_wire_put_verdict(uint8_t *out, const seo_wire_verdict *verdict) {
    uint8_t *at = put(out, verdict->welcome, 1);
    at = put(at, verdict->ends_run, 1);
    at = put(at, (uint64_t)verdict->process, 8);
    at = put_text(at, verdict->host, sizeof verdict->host);
    at = put_text(at, verdict->why, sizeof verdict->why);
    return (uint32_t)(at - out);
}

bool seo_wire_get_verdict(const uint8_t *in, uint32_t bytes, seo_wire_verdict *verdict) {
    reader r = {in, in + bytes, false};
    verdict->welcome = get_flag(&r);
    verdict->ends_run = get_flag(&r);
    verdict->process = (int64_t)get(&r, 8);
    get_text(&r, verdict->host, sizeof verdict->host);
    get_text(&r, verdict->why, sizeof verdict->why);
    return whole(&r);
}

uint32_t seo_wire_put_beat(uint8_t *out, const seo_wire_beat *beat) {
    uint8_t *at = put(out, (uint64_t)beat->step, 8);
    at = put(at, (uint64_t)beat->number, 8);
    at = put(at, (uint64_t)beat->bytes, 8);
    at = put_f64(at, beat->entered_ago_s);
    at = put_f64(at, beat->left_ago_s);
    at = put_f64(at, beat->longest_gap_s);
    at = put_f64(at, beat->longest_in_s);
    at = put(at, beat->paused, 1);
    at = put_text(at, beat->doing, sizeof beat->doing);
    at = put_text(at, beat->name, sizeof beat->name);
    return (uint32_t)(at - out);
}

bool seo_wire_get_beat(const uint8_t *in, uint32_t bytes, seo_wire_beat *beat) {
    reader r = {in, in + bytes, false};
    *beat = (seo_wire_beat){.step = (int64_t)get(&r, 8)};
    beat->number = (int64_t)get(&r, 8);
    beat->bytes = (int64_t)get(&r, 8);
    beat->entered_ago_s = get_f64(&r);
    beat->left_ago_s = get_f64(&r);
    beat->longest_gap_s = get_f64(&r);
    beat->longest_in_s = get_f64(&r);
    beat->paused = get_flag(&r);
    get_text(&r, beat->doing, sizeof beat->doing);
    get_text(&r, beat->name, sizeof beat->name);
    return whole(&r) && beat->number >= 0;
}

uint32_t seo_wire_put_note(uint8_t *out, const seo_wire_note *note) {
    uint8_t *at = put(out, (uint32_t)note->number, 4);
    at = put(at, note->flag, 1);
    at = put_text(at, note->text, sizeof note->text);
    return (uint32_t)(at - out);
}

bool seo_wire_get_note(const uint8_t *in, uint32_t bytes, seo_wire_note *note) {
    reader r = {in, in + bytes, false};
    note->number = (int32_t)get(&r, 4);
    note->flag = get_flag(&r);
    get_text(&r, note->text, sizeof note->text);
    return whole(&r);
}
