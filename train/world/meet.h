/* How the ranks of a run find each other: rank 0 listens on a port that the system picks, its card
 * (addresses, port, token) reaches the others, they connect and say who they are.
 *
 * The card goes through MPI where there is MPI, else through the file `ranks` in the run folder.
 * Where MASTER_ADDR and MASTER_PORT are given there is no card: rank 0 listens on the first free
 * of SEO_MEET_PORTS ports from there on (torchrun's agent may hold the first itself), and the
 * others look for the one that greets them. wire.h has the handshake. */
#pragma once

#include "train/world/line.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_MEET_PORTS = 16, SEO_CARD_BYTES = 2048, SEO_CARD_ADDRESSES = 16, SEO_CARD_ADDRESS = 64 };

typedef struct seo_card {
    char id[SEO_WIRE_ID], host[SEO_WIRE_HOST];
    uint64_t token;
    int64_t process;
    int32_t port;
    int64_t address_count;
    char address[SEO_CARD_ADDRESSES][SEO_CARD_ADDRESS];
} seo_card;

/* Lines "key value"; `out` is filled with zeros. */
void seo_card_text(const seo_card *card, char out[SEO_CARD_BYTES]);
/* false: no card, or one that was cut short. */
bool seo_card_parse(const char *text, size_t bytes, seo_card *card);
/* This host's name, this process, a fresh token and the addresses others may reach it at: those of
 * interfaces first, the loopback's last. */
seo_err seo_card_make(const seo_launch *launch, int32_t port, seo_card *card);

void seo_meet_host(char out[SEO_WIRE_HOST]);
void seo_meet_who(char *out, size_t bytes, int32_t rank, const char *host, int64_t process);
/* "<folder>/ranks" */
seo_err seo_meet_file(const char *folder, char *out);
void seo_meet_socket(int fd); /* nonblocking, no delay, bounded buffers */
/* A whole small frame in one write; false: the peer is gone or does not read. */
bool seo_meet_send(int fd, seo_frame_kind kind, const uint8_t *payload, uint32_t bytes);

/* A frame on its way in, outside of a line. */
typedef struct seo_meet_in {
    uint8_t bytes[SEO_WIRE_HEADER + SEO_WIRE_CONTROL_MAX];
    int64_t have;
    seo_frame frame;
} seo_meet_in;
typedef enum seo_meet_got {
    SEO_MEET_MORE,
    SEO_MEET_FRAME,
    SEO_MEET_CLOSED,
    SEO_MEET_JUNK
} seo_meet_got;
/* Reads what is there, up to the end of one frame, whose payload is behind the header. */
seo_meet_got seo_meet_read(int fd, seo_meet_in *in);

/* Fills links[0..size): calloc'd, fds -1. Rank 0's roll call, and everybody else's way to it. */
seo_err seo_meet_gather(const seo_world_args *args, seo_link *links);
seo_err seo_meet_join(const seo_world_args *args, seo_link *links);

#ifdef __cplusplus
}
#endif
