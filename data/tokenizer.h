/* A tokenizer: text <-> ids. There are two kinds.
 *
 * Byte-level BPE with GPT-2's pre-tokenizer; zero merges is a plain byte tokenizer. Invalid UTF-8:
 * every byte of an invalid sequence is a code point of its own class "other" to the pre-tokenizer
 * and keeps its byte value, so that any byte string round-trips exactly.
 *
 * WordPiece with BERT's basic text rules (data/basic_text.h): the longest pieces from the left,
 * those inside a word spelled with ## in front; a word that cannot be spelled, or is longer than
 * rules.characters_max, is [UNK]. Text does not round-trip. Invalid UTF-8: every byte of an invalid
 * sequence is dropped, as control characters are.
 *
 * Special tokens in raw text are text, unless asked for.
 *
 * Files read: Hugging Face tokenizer.json of either kind; GPT-2's encoder.json + vocab.bpe; BERT's
 * vocab.txt. Written: tokenizer.json. A loaded tokenizer is immutable and may be used by many
 * threads; each encoding thread has its own seo_encoder. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_tokenizer seo_tokenizer;
typedef struct seo_encoder seo_encoder;

typedef enum seo_tokenizer_kind { SEO_TOKENIZER_BPE, SEO_TOKENIZER_WORDPIECE } seo_tokenizer_kind;

/* How WordPiece treats a text before it cuts words into pieces; data/basic_text.h says what each
 * does. */
typedef struct seo_wordpiece_rules {
    bool lower_case, strip_accents;
    bool chinese;           /* each Chinese character is a word */
    int32_t characters_max; /* longer words are [UNK] */
} seo_wordpiece_rules;
enum { SEO_WORDPIECE_CHARACTERS_MAX = 100 }; /* BERT's */

seo_err seo_tokenizer_load(const char *path, seo_tokenizer **out);
/* The same from memory; `name` stands in messages for the path. */
seo_err seo_tokenizer_parse(const char *name, const char *text, size_t bytes, seo_tokenizer **out);
seo_err seo_tokenizer_load_gpt2(const char *encoder_json, const char *vocab_bpe,
                                seo_tokenizer **out);
/* BERT's vocab.txt, a piece a line. The file does not say whether it is an uncased model's. */
seo_err seo_tokenizer_load_bert(const char *vocab_txt, bool cased, seo_tokenizer **out);
seo_err seo_tokenizer_parse_bert(const char *name, const char *text, size_t bytes, bool cased,
                                 seo_tokenizer **out);
seo_err seo_tokenizer_save(const seo_tokenizer *tok, const char *path);
void seo_tokenizer_free(seo_tokenizer *tok);

seo_tokenizer_kind seo_tokenizer_kind_of(const seo_tokenizer *tok);
seo_wordpiece_rules seo_tokenizer_rules(const seo_tokenizer *tok); /* zeros for BPE */
int64_t seo_tokenizer_vocab_size(const seo_tokenizer *tok);        /* largest id + 1 */
int64_t seo_tokenizer_merge_count(const seo_tokenizer *tok);

/* What a special token is for. Names decide: <|endoftext|> ends texts; RoBERTa has <s> (BOS, CLS),
 * </s> (EOT, SEP), <pad>, <unk>, <mask>; BERT has [CLS] (BOS, CLS), [SEP] (EOT, SEP), [PAD], [UNK],
 * [MASK]. Their ids may lie anywhere. */
typedef enum seo_role {
    SEO_ROLE_EOT,
    SEO_ROLE_BOS,
    SEO_ROLE_PAD,
    SEO_ROLE_MASK,
    SEO_ROLE_CLS,
    SEO_ROLE_SEP,
    SEO_ROLE_UNK,
    SEO_ROLE_COUNT
} seo_role;

/* The id of the token that plays the role, or -1. */
int32_t seo_tokenizer_role(const seo_tokenizer *tok, seo_role role);
int32_t seo_tokenizer_eot(const seo_tokenizer *tok); /* the role EOT: it ends documents */
/* The same, where it is needed: without one SEO_ERR_USAGE, with the names that would do. */
seo_err seo_tokenizer_require(const seo_tokenizer *tok, seo_role role, int32_t *out);
/* The id of the special token spelled `text`; SEO_ERR_USAGE with the nearest name otherwise. */
seo_err seo_tokenizer_special_id(const seo_tokenizer *tok, const char *text, int32_t *out);
/* SHA-256 of the canonical tokenizer.json: equal for equal tokenizers, whatever file they came
 * from. */
const char *seo_tokenizer_sha256(const seo_tokenizer *tok);

/* The bytes of one id, as the vocabulary has them (WordPiece with its ##); false when there is no
 * such id. Special tokens give their text. */
bool seo_tokenizer_piece(const seo_tokenizer *tok, int32_t id, const unsigned char **bytes,
                         size_t *count);
bool seo_tokenizer_is_special(const seo_tokenizer *tok, int32_t id);

/* An encoding state (word cache); one per thread. */
seo_err seo_encoder_open(const seo_tokenizer *tok, seo_encoder **out);
void seo_encoder_close(seo_encoder *enc);

/* Growing list of ids. Zero-initialise; free with seo_ids_free. */
typedef struct seo_ids {
    int32_t *items;
    int64_t count, capacity;
} seo_ids;
void seo_ids_free(seo_ids *ids);

/* Appends the ids of text[0..bytes). Linear in bytes up to a logarithm, whatever the text.
 * with_special: pieces spelled like a special token become that token (default of the command line:
 * no). */
seo_err seo_encode(seo_encoder *enc, const void *text, size_t bytes, bool with_special,
                   seo_ids *out);

/* Appends the text of ids[0..count). WordPiece: a space between words, none before . , ? and !, and
 * pieces with ## join what is before them. An id that the vocabulary lacks is SEO_ERR_FORMAT. */
seo_err seo_decode(const seo_tokenizer *tok, const int32_t *ids, int64_t count, seo_buf *out);
/* The same for one id of a text; `first` when nothing of the text is before it. */
seo_err seo_decode_one(const seo_tokenizer *tok, int32_t id, bool first, seo_buf *out);

#ifdef __cplusplus
}
#endif
