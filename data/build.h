/* `data build`: text files in, a dataset folder out.
 *
 * The files are read twice. The survey hashes every document, drops exact duplicates (128-bit XXH3
 * of the text; the first one stays) and decides what is held out; then the pieces are read again,
 * encoded in parallel and written in order. Memory is bounded by the longest document and some
 * bytes for each document, not by the corpus. The bytes written are a pure function of the text,
 * the tokenizer and the options, for any number of threads. Each piece is closed by <|endoftext|>.
 *
 * What is held out, of all bytes the fraction `held_out`, as near as whole units allow:
 *   document  whole documents, the first by a keyed hash of their text
 *   block     blocks of long documents, cut at line ends: where there are few documents. Blocks of
 * 1 to 64 KiB, small enough for about sixteen of them to be held out; chosen by a keyed hash of
 * (document, block number) tail      the end of the byte stream, as nanoGPT splits: no choice, no
 * shuffle auto      document from 100 documents on, else block */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_held_out_mode {
    SEO_HELD_OUT_AUTO,
    SEO_HELD_OUT_DOCUMENT,
    SEO_HELD_OUT_BLOCK,
    SEO_HELD_OUT_TAIL
} seo_held_out_mode;

typedef struct seo_build_args {
    const char *folder; /* must not exist, or be empty */
    const char *tokenizer_path;
    const char *const *paths;
    int64_t path_count;
    const char *field; /* of JSONL; NULL: "text" */
    double held_out;   /* 0 <= fraction < 1; 0: no held-out split */
    seo_held_out_mode mode;
    int64_t seed;
    int64_t shard_tokens; /* 0: the default of 2^26 */
    int32_t threads;      /* 0: as many as the affinity mask allows */
} seo_build_args;

typedef struct seo_build_result {
    int64_t files, files_left_out;
    int64_t documents; /* read, the empty ones left out */
    int64_t empty_documents, duplicate_documents, invalid_utf8_bytes;
    seo_held_out_mode mode;                 /* resolved */
    int64_t bytes[2], tokens[2], pieces[2]; /* by seo_split */
    char manifest_sha256[SEO_SHA256_HEX];
} seo_build_result;

/* SEO_ERR_USAGE for a folder in use, a tokenizer without <|endoftext|>, a split that would leave
 * one side empty. */
seo_err seo_build(const seo_build_args *args, seo_build_result *result);

/* "auto", "document", "block", "tail". SEO_ERR_USAGE for another name. */
seo_err seo_held_out_mode_parse(const char *name, seo_held_out_mode *out);
const char *seo_held_out_mode_name(seo_held_out_mode mode);

#ifdef __cplusplus
}
#endif
