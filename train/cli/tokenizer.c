/* seodang tokenizer train|convert|inspect; encode and decode are in tokenizer_text.c. */
#include "train/cli/tokenizer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "data/bpe_train.h"
#include "data/tokenizer.h"
#include "train/cli/cli.h"

enum { THREADS_MAX = 256 };

static int64_t cpu_count(void) {
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return seo_max_i64(1, seo_min_i64(online, THREADS_MAX));
}

/* Long work must not end at a folder that is not there. */
static seo_err check_folder_of(const char *path) {
    char folder[4096] = ".";
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= sizeof folder) return SEO_FAIL(SEO_ERR_USAGE, "--out: the path is too long");
    if (slash != NULL) memcpy(folder, path, length);
    folder[length] = '\0';
    if (access(folder, W_OK | X_OK) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_IO, "--out %s: cannot write in folder '%s': %s", path, folder,
                    strerror(errno));
}

static seo_err read_special_set(const char *name, seo_special_set *out) {
    static const char *const names[] = {"gpt2", "roberta"};
    for (int i = 0; i < SEO_COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (seo_special_set)i;
            return SEO_OK;
        }
    }
    const char *nearest = seo_nearest(name, names, SEO_COUNT_OF(names));
    return SEO_FAIL(SEO_ERR_USAGE,
                    "--special %s: there is 'gpt2' (<|endoftext|>) and 'roberta' "
                    "(<s> <pad> </s> <unk> <mask>)%s%s%s",
                    name, nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                    nearest != NULL ? "'?" : "");
}

static void tell_trained(const char *path, const seo_tokenizer *tok, int64_t wanted,
                         const seo_bpe_train_report *report) {
    char count[SEO_SHORT_TEXT], words[SEO_SHORT_TEXT], bytes[SEO_SHORT_TEXT];
    if (report->documents > 0) {
        seo_info("%s of text in %lld document%s, %s different words",
                 seo_format_bytes(bytes, (double)report->text_bytes), (long long)report->documents,
                 report->documents == 1 ? "" : "s",
                 seo_format_count(words, report->distinct_words));
    }
    if (report->merges < wanted) {
        seo_warn("the text gives only %lld merges of the %lld asked for: no other pair occurs "
                 "twice; give more text or a smaller --vocab-size",
                 (long long)report->merges, (long long)wanted);
    }
    seo_info("%s: %s ids (256 bytes, %lld merges, special tokens), sha256 %.16s", path,
             seo_format_count(count, seo_tokenizer_vocab_size(tok)), (long long)report->merges,
             seo_tokenizer_sha256(tok));
}

static int train_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "tokenizer train",
        .operands = "FILE|DIR...",
        .summary = "Learns a byte-level BPE vocabulary from text, JSONL, and .gz or .zst of these. "
                   "257 ids are plain bytes and <|endoftext|>.",
        .example = "seodang tokenizer train --vocab-size 8192 --out tokenizer.json books/\n"
                   "seodang tokenizer train --vocab-size 257 --out bytes.json book.txt",
        .operands_min = 1,
        .operands_max = -1};
    int64_t vocab_size = 0, threads = cpu_count();
    const char *out = NULL, *field = "text", *special = "gpt2";
    bool helped = false;
    const seo_cli_option options[] = {
        {.name = "vocab-size",
         .type = SEO_CLI_INT,
         .value = &vocab_size,
         .operand = "N",
         .help = "ids to make: 256 bytes, merges, special tokens",
         .required = true,
         .min = SEO_VOCAB_SIZE_MIN,
         .max = INT32_MAX},
        {.name = "out",
         .type = SEO_CLI_TEXT,
         .value = &out,
         .operand = "FILE",
         .help = "the tokenizer.json to write",
         .required = true},
        {.name = "special",
         .type = SEO_CLI_TEXT,
         .value = &special,
         .operand = "SET",
         .help = "gpt2: <|endoftext|>; roberta: <s> <pad> </s> <unk> and <mask>"},
        {.name = "threads",
         .type = SEO_CLI_INT,
         .value = &threads,
         .operand = "N",
         .help = "threads that count words; the result does not depend on it",
         .min = 1,
         .max = THREADS_MAX},
        {.name = "field",
         .type = SEO_CLI_TEXT,
         .value = &field,
         .operand = "NAME",
         .help = "the member of a JSONL line that holds its text"}};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    seo_tokenizer *tok = NULL;
    seo_bpe_train_report report = {0};
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (helped) goto done;
    SEO_TRY(check_folder_of(out));
    seo_special_set set = SEO_SPECIAL_GPT2;
    SEO_TRY(read_special_set(special, &set));
    const seo_bpe_train_options train = {.paths = paths.items,
                                         .path_count = paths.count,
                                         .field = field,
                                         .special = set,
                                         .vocab_size = vocab_size,
                                         .threads = (int)threads};
    SEO_TRY(seo_bpe_train(&train, &report, &tok));
    SEO_TRY(seo_tokenizer_save(tok, out));
    tell_trained(out, tok, vocab_size - seo_special_vocab_min(set), &report);
done:
    seo_tokenizer_free(tok);
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

/* What `tokenizer convert` reads. */
typedef struct foreign {
    bool gpt2, hugging_face, bert, cased;
} foreign;

static seo_err load_foreign(const foreign *kind, const seo_cli_list *paths, seo_tokenizer **out) {
    if (kind->gpt2 + kind->hugging_face + kind->bert != 1) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "tokenizer convert: say --gpt2, --bert or --hf, one of them");
    }
    if (kind->cased && !kind->bert) {
        return SEO_FAIL(SEO_ERR_USAGE, "--cased goes with --bert; other files say it themselves");
    }
    if (kind->gpt2) {
        if (paths->count == 2)
            return seo_tokenizer_load_gpt2(paths->items[0], paths->items[1], out);
        return SEO_FAIL(SEO_ERR_USAGE, "--gpt2 wants two files, encoder.json and vocab.bpe");
    }
    if (paths->count != 1) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s wants one file, %s", kind->bert ? "--bert" : "--hf",
                        kind->bert ? "vocab.txt" : "tokenizer.json");
    }
    return kind->bert ? seo_tokenizer_load_bert(paths->items[0], kind->cased, out)
                      : seo_tokenizer_load(paths->items[0], out);
}

static int convert_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "tokenizer convert",
        .operands = "FILE...",
        .summary = "Writes a vocabulary that others made as tokenizer.json, one spelling for "
                   "equal ones.",
        .example = "seodang tokenizer convert --gpt2 encoder.json vocab.bpe --out gpt2.json\n"
                   "seodang tokenizer convert --bert vocab.txt --out bert.json\n"
                   "seodang tokenizer convert --hf tokenizer.json --out same.json",
        .operands_min = 1,
        .operands_max = 2};
    const char *out = NULL;
    foreign kind = {0};
    bool helped = false;
    const seo_cli_option options[] = {
        {.name = "gpt2",
         .type = SEO_CLI_FLAG,
         .value = &kind.gpt2,
         .help = "the files are GPT-2's encoder.json and vocab.bpe"},
        {.name = "bert",
         .type = SEO_CLI_FLAG,
         .value = &kind.bert,
         .help = "the file is BERT's vocab.txt, of an uncased model"},
        {.name = "cased",
         .type = SEO_CLI_FLAG,
         .value = &kind.cased,
         .help = "with --bert: of a cased model, which keeps case and accents"},
        {.name = "hf",
         .type = SEO_CLI_FLAG,
         .value = &kind.hugging_face,
         .help = "the file is a Hugging Face tokenizer.json (byte-level BPE or WordPiece)"},
        {.name = "out",
         .type = SEO_CLI_TEXT,
         .value = &out,
         .operand = "FILE",
         .help = "the tokenizer.json to write",
         .required = true}};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    seo_tokenizer *tok = NULL;
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (helped) goto done;
    SEO_TRY(load_foreign(&kind, &paths, &tok));
    SEO_TRY(seo_tokenizer_save(tok, out));
    seo_info("%s: %lld ids, sha256 %.16s", out, (long long)seo_tokenizer_vocab_size(tok),
             seo_tokenizer_sha256(tok));
done:
    seo_tokenizer_free(tok);
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

static void add_specials(const seo_tokenizer *tok, seo_buf *out) {
    for (int32_t id = 0; id < seo_tokenizer_vocab_size(tok); id++) {
        const unsigned char *bytes;
        size_t count;
        if (!seo_tokenizer_is_special(tok, id)) continue;
        seo_tokenizer_piece(tok, id, &bytes, &count);
        seo_buf_format(out, "special        %d ", id);
        seo_buf_json_string(out, (const char *)bytes, count);
        seo_buf_text(out, "\n");
    }
}

static void add_kind(const seo_tokenizer *tok, seo_buf *out) {
    if (seo_tokenizer_kind_of(tok) == SEO_TOKENIZER_BPE) {
        seo_buf_text(out, "kind           byte-level BPE, GPT-2's words\n");
        return;
    }
    seo_wordpiece_rules rules = seo_tokenizer_rules(tok);
    seo_buf_format(out,
                   "kind           WordPiece, BERT's words: %s, accents %s, Chinese characters %s, "
                   "at most %d characters\n",
                   rules.lower_case ? "lower case" : "cased",
                   rules.strip_accents ? "stripped" : "kept", rules.chinese ? "alone" : "in words",
                   rules.characters_max);
}

static void describe(const char *path, const seo_tokenizer *tok, seo_buf *out) {
    char ids[SEO_SHORT_TEXT], merges[SEO_SHORT_TEXT];
    size_t longest = 0;
    int32_t longest_id = 0;
    for (int32_t id = 0; id < seo_tokenizer_vocab_size(tok); id++) {
        const unsigned char *bytes;
        size_t count;
        bool there = seo_tokenizer_piece(tok, id, &bytes, &count);
        if (!there || seo_tokenizer_is_special(tok, id) || count <= longest) continue;
        longest = count;
        longest_id = id;
    }
    seo_buf_format(out, "file           %s\n", path);
    add_kind(tok, out);
    seo_buf_format(out, "vocabulary     %s ids",
                   seo_format_count(ids, seo_tokenizer_vocab_size(tok)));
    if (seo_tokenizer_kind_of(tok) == SEO_TOKENIZER_BPE) {
        seo_buf_format(out, ", %s merges",
                       seo_format_count(merges, seo_tokenizer_merge_count(tok)));
    }
    seo_buf_text(out, "\n");
    add_specials(tok, out);
    seo_buf_format(out, "longest piece  %zu bytes, id %d\n", longest, longest_id);
    seo_buf_format(out, "sha256         %s\n", seo_tokenizer_sha256(tok));
}

static int inspect_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "tokenizer inspect",
        .operands = "TOKENIZER",
        .summary = "Shows what a tokenizer.json holds. The sha256 is that of its canonical "
                   "spelling and names the tokenizer in shards and checkpoints.",
        .example = "seodang tokenizer inspect gpt2.json\n"
                   "seodang tokenizer inspect --token '[MASK]' bert.json",
        .operands_min = 1,
        .operands_max = 1};
    bool helped = false;
    const char *token = NULL;
    const seo_cli_option options[] = {{.name = "token",
                                       .type = SEO_CLI_TEXT,
                                       .value = &token,
                                       .operand = "TEXT",
                                       .help = "prints the id of this special token only"}};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    seo_tokenizer *tok = NULL;
    seo_buf out = {0};
    int32_t id = 0;
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (helped) goto done;
    SEO_TRY(seo_tokenizer_load(paths.items[0], &tok));
    if (token != NULL) {
        err = seo_tokenizer_special_id(tok, token, &id);
        if (err != SEO_OK) seo_err_context(err, "%s", paths.items[0]);
        if (err != SEO_OK) goto done;
        seo_buf_format(&out, "%d\n", id);
    } else {
        describe(paths.items[0], tok, &out);
    }
    SEO_TRY(seo_buf_check(&out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    seo_buf_free(&out);
    seo_tokenizer_free(tok);
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

int seo_cli_tokenizer(int argc, char **argv) {
    static const seo_cli_verb verbs[] = {
        {"train", train_verb, "learn a vocabulary from text"},
        {"convert", convert_verb, "read a vocabulary that others made"},
        {"encode", seo_cli_tokenizer_encode, "text to ids"},
        {"decode", seo_cli_tokenizer_decode, "ids to text"},
        {"inspect", inspect_verb, "show what a tokenizer holds"},
    };
    return seo_cli_dispatch("seodang tokenizer", verbs, SEO_COUNT_OF(verbs), argc, argv);
}
