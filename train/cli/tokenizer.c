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
#include "data/wordpiece_train.h"
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

/* The index of `name` in names[0..count), or an error that says what there is. */
static seo_err read_choice(const char *option, const char *name, const char *const *names,
                           int64_t count, int *out) {
    for (int i = 0; i < count; i++) {
        *out = i;
        if (strcmp(name, names[i]) == 0) return SEO_OK;
    }
    const char *nearest = seo_nearest(name, names, count);
    seo_buf there = {0};
    for (int64_t i = 0; i < count; i++) {
        seo_buf_format(&there, "%s'%s'", i > 0 ? " and " : "", names[i]);
    }
    if (nearest != NULL) seo_buf_format(&there, "; did you mean '%s'?", nearest);
    seo_err err = SEO_FAIL(SEO_ERR_USAGE, "%s %s is not known; there are %s", option, name,
                           there.data != NULL ? there.data : "");
    seo_buf_free(&there);
    return err;
}

/* What `tokenizer train` was asked for. */
typedef struct training {
    const char *type, *special, *out, *field;
    int64_t vocab_size, alphabet, threads;
    bool cased;
} training;

static void tell_text(int64_t text_bytes, int64_t documents, int64_t distinct_words) {
    char words[SEO_SHORT_TEXT], bytes[SEO_SHORT_TEXT];
    if (documents == 0) return;
    seo_info("%s of text in %lld document%s, %s different words",
             seo_format_bytes(bytes, (double)text_bytes), (long long)documents,
             documents == 1 ? "" : "s", seo_format_count(words, distinct_words));
}

static void tell_merges(int64_t made, int64_t wanted) {
    if (made >= wanted) return;
    seo_warn("the text gives only %lld merges of the %lld asked for: no other pair occurs twice; "
             "give more text or a smaller --vocab-size",
             (long long)made, (long long)wanted);
}

static seo_err train_bpe(const training *t, const seo_cli_list *paths, seo_tokenizer **out) {
    static const char *const sets[] = {"gpt2", "roberta"};
    char count[SEO_SHORT_TEXT];
    int set = SEO_SPECIAL_GPT2;
    seo_bpe_train_report report = {0};
    seo_err err = SEO_OK;
    if (t->special != NULL)
        SEO_TRY(read_choice("--special", t->special, sets, SEO_COUNT_OF(sets), &set));
    if (t->cased || t->alphabet > 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "--cased and --alphabet go with --type wordpiece");
    }
    const seo_bpe_train_options options = {.paths = paths->items,
                                           .path_count = paths->count,
                                           .field = t->field,
                                           .special = (seo_special_set)set,
                                           .vocab_size = t->vocab_size,
                                           .threads = (int)t->threads};
    SEO_TRY(seo_bpe_train(&options, &report, out));
    SEO_TRY(seo_tokenizer_save(*out, t->out));
    tell_text(report.text_bytes, report.documents, report.distinct_words);
    tell_merges(report.merges, t->vocab_size - seo_special_vocab_min(options.special));
    seo_info("%s: %s ids (256 bytes, %lld merges, special tokens), sha256 %.16s", t->out,
             seo_format_count(count, seo_tokenizer_vocab_size(*out)), (long long)report.merges,
             seo_tokenizer_sha256(*out));
done:
    return err;
}

static seo_err train_wordpiece(const training *t, const seo_cli_list *paths, seo_tokenizer **out) {
    char count[SEO_SHORT_TEXT];
    seo_wordpiece_train_report report = {0};
    seo_err err = SEO_OK;
    if (t->special != NULL) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "--special %s goes with --type bpe; WordPiece has [PAD] "
                        "[UNK] [CLS] [SEP] [MASK]",
                        t->special);
    }
    const seo_wordpiece_train_options options = {.paths = paths->items,
                                                 .path_count = paths->count,
                                                 .field = t->field,
                                                 .vocab_size = t->vocab_size,
                                                 .alphabet_max = t->alphabet > 0 ? t->alphabet
                                                                                 : SEO_ALPHABET_MAX,
                                                 .threads = (int)t->threads,
                                                 .cased = t->cased};
    SEO_TRY(seo_wordpiece_train(&options, &report, out));
    SEO_TRY(seo_tokenizer_save(*out, t->out));
    tell_text(report.text_bytes, report.documents, report.distinct_words);
    if (report.left_out > 0) {
        seo_info("%lld words with a rarer character than the %lld letters, or too long, were left "
                 "out: they are [UNK]",
                 (long long)report.left_out, (long long)options.alphabet_max);
    }
    int64_t vocab_size = seo_tokenizer_vocab_size(*out);
    tell_merges(report.merges, report.merges + t->vocab_size - vocab_size);
    seo_info("%s: %s ids (5 special tokens, %lld letters, %lld merges), sha256 %.16s", t->out,
             seo_format_count(count, vocab_size), (long long)report.letters,
             (long long)report.merges, seo_tokenizer_sha256(*out));
done:
    return err;
}

static seo_err train_on(const training *t, const seo_cli_list *paths) {
    static const char *const types[] = {"bpe", "wordpiece"};
    int type = 0;
    seo_err err = SEO_OK;
    seo_tokenizer *tok = NULL;
    SEO_TRY(read_choice("--type", t->type, types, SEO_COUNT_OF(types), &type));
    SEO_TRY(check_folder_of(t->out));
    SEO_TRY(type == 0 ? train_bpe(t, paths, &tok) : train_wordpiece(t, paths, &tok));
done:
    seo_tokenizer_free(tok);
    return err;
}

static int train_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "tokenizer train",
        .operands = "FILE|DIR...",
        .summary = "Learns a vocabulary from text, JSONL, and .gz or .zst of these: byte-level BPE "
                   "(257 ids are plain bytes and <|endoftext|>), or WordPiece with BERT's text "
                   "rules.",
        .example =
            "seodang tokenizer train --vocab-size 8192 --out tokenizer.json books/\n"
            "seodang tokenizer train --special roberta --vocab-size 8192 --out t.json books/\n"
            "seodang tokenizer train --type wordpiece --vocab-size 8192 --out t.json books/",
        .operands_min = 1,
        .operands_max = -1};
    training t = {.type = "bpe", .field = "text", .threads = cpu_count()};
    bool helped = false;
    const seo_cli_option options[] = {
        {"vocab-size", SEO_CLI_INT, &t.vocab_size, "N",
         "ids to make: bytes or letters, merges, special tokens", true, 6, INT32_MAX},
        {"out", SEO_CLI_TEXT, &t.out, "FILE", "the tokenizer.json to write", true, 0, 0},
        {"type", SEO_CLI_TEXT, &t.type, "KIND", "bpe or wordpiece", false, 0, 0},
        {"special", SEO_CLI_TEXT, &t.special, "SET",
         "of bpe: gpt2 (the default), <|endoftext|>; roberta, <s> <pad> </s> <unk> and <mask>",
         false, 0, 0},
        {"cased", SEO_CLI_FLAG, &t.cased, NULL, "of wordpiece: keep case and accents", false, 0, 0},
        {"alphabet", SEO_CLI_INT, &t.alphabet, "N",
         "of wordpiece: at most so many different letters (1000)", false, 1, 1 << 20},
        {"threads", SEO_CLI_INT, &t.threads, "N",
         "threads that count words; the result does not depend on it", false, 1, THREADS_MAX},
        {"field", SEO_CLI_TEXT, &t.field, "NAME", "the member of a JSONL line that holds its text",
         false, 0, 0}};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (!helped) SEO_TRY(train_on(&t, &paths));
done:
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
