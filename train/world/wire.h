/* What the ranks of a run say to each other: bytes on the line, and nothing of sockets.
 *
 * The line is TCP. All integers are little-endian, floats are IEEE 754 binary64, a text is a u16
 * length and so many bytes without a NUL. Everything is a frame: a header of 32 bytes
 *
 *   0  u32 magic "SEO1"    4  u8 kind    5  u8 channel    6  u16 zero    8  u32 payload bytes
 *   12 u32 zero            16 u64 sequence number         24 u64 message bytes
 *
 * and its payload. Data frames carry at most 64 KiB, so that a heartbeat waits for no more than
 * that; all others at most 4 KiB.
 *
 *   kind     from       payload
 *   GREET    rank 0     u32 version; sent at once, so that a stranger's port is recognised
 *   HELLO    others     u32 version, i32 rank, i32 size, i64 process, f64 wall clock in seconds,
 *                       u64 token, text launch id, text host
 *   VERDICT  rank 0     u8 welcome, u8 whether it ends the run, i64 process, text host, text why
 * not READY    rank 0     none: all ranks are there TITLE    both       text what: begins a message
 * of `channel` of so many bytes DATA     both       the message's next bytes ACK      both none:
 * one message of `channel` was taken BEAT     both       none, or the place of a rank
 * (seo_wire_beat) LOSS     both       a note (i32 number, u8 flag, text): the rank that is gone, -,
 * why FAIL     others     a note: exit status, -, why this rank cannot go on END      rank 0     a
 * note: exit status, whether a rank is lost, why the job ends DONE     others     a note: -,
 * whether it saved, - EXIT     rank 0     a note: exit status: leave now BYE      both       none:
 * this rank leaves in order
 *
 * Messages of a channel are numbered from 1 in each direction; at most SEO_WIRE_WINDOW of them are
 * under way without an ACK. Whatever breaks these rules ends the connection. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SEO_WIRE_VERSION = 1,
    SEO_WIRE_HEADER = 32,
    SEO_WIRE_DATA_MAX = 64 << 10,
    SEO_WIRE_CONTROL_MAX = 4096,
    SEO_WIRE_WINDOW = 4,
    SEO_WIRE_CHANNELS = 2,
    SEO_WIRE_HOST = 65,
    SEO_WIRE_ID = 96,
    SEO_WIRE_WHAT = 96,
    SEO_WIRE_TEXT = 3072
};

typedef enum seo_frame_kind {
    SEO_FRAME_GREET = 1,
    SEO_FRAME_HELLO,
    SEO_FRAME_VERDICT,
    SEO_FRAME_READY,
    SEO_FRAME_TITLE,
    SEO_FRAME_DATA,
    SEO_FRAME_ACK,
    SEO_FRAME_BEAT,
    SEO_FRAME_LOSS,
    SEO_FRAME_FAIL,
    SEO_FRAME_END,
    SEO_FRAME_DONE,
    SEO_FRAME_EXIT,
    SEO_FRAME_BYE,
    SEO_FRAME_KINDS
} seo_frame_kind;

typedef struct seo_frame {
    seo_frame_kind kind;
    uint32_t channel, bytes;
    uint64_t number, total;
} seo_frame;

void seo_frame_put(uint8_t out[SEO_WIRE_HEADER], const seo_frame *frame);
/* false: not ours, or out of bounds. */
bool seo_frame_get(const uint8_t in[SEO_WIRE_HEADER], seo_frame *frame);

typedef struct seo_wire_hello {
    uint32_t version;
    int32_t rank, size;
    int64_t process;
    double wall_s;
    uint64_t token;
    char id[SEO_WIRE_ID], host[SEO_WIRE_HOST];
} seo_wire_hello;

typedef struct seo_wire_verdict {
    bool welcome, ends_run;
    int64_t process;
    char host[SEO_WIRE_HOST], why[SEO_WIRE_TEXT];
} seo_wire_verdict;

/* Where a rank is. Times are ages at the time of sending, since clocks differ; -1: not so. */
typedef struct seo_wire_beat {
    int64_t step, number, bytes;
    double entered_ago_s, left_ago_s;   /* left -1: still inside */
    double longest_gap_s, longest_in_s; /* of collectives so far */
    bool paused;
    char doing[48], name[64];
} seo_wire_beat;

/* LOSS, FAIL, END, DONE and EXIT. */
typedef struct seo_wire_note {
    int32_t number;
    bool flag;
    char text[SEO_WIRE_TEXT];
} seo_wire_note;

/* Payloads, at most SEO_WIRE_CONTROL_MAX bytes: put returns how many, get false for what is too
 * short, too long or out of bounds. Texts longer than their field are cut when put. */
uint32_t seo_wire_put_greet(uint8_t *out);
bool seo_wire_get_greet(const uint8_t *in, uint32_t bytes, uint32_t *version);
uint32_t seo_wire_put_hello(uint8_t *out, const seo_wire_hello *hello);
bool seo_wire_get_hello(const uint8_t *in, uint32_t bytes, seo_wire_hello *hello);
uint32_t seo_wire_put_verdict(uint8_t *out, const seo_wire_verdict *verdict);
bool seo_wire_get_verdict(const uint8_t *in, uint32_t bytes, seo_wire_verdict *verdict);
uint32_t seo_wire_put_beat(uint8_t *out, const seo_wire_beat *beat);
bool seo_wire_get_beat(const uint8_t *in, uint32_t bytes, seo_wire_beat *beat);
uint32_t seo_wire_put_note(uint8_t *out, const seo_wire_note *note);
bool seo_wire_get_note(const uint8_t *in, uint32_t bytes, seo_wire_note *note);

#ifdef __cplusplus
}
#endif
