/* The canonical tokenizer.json: fixed keys, pieces by id, merges by rank, one a line. It is what
 * Hugging Face's readers expect, and its SHA-256 names the tokenizer. */
#include "base/file.h"
#include "data/byte_level.h"
#include "data/vocabulary.h"

static const char byte_level_open[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, ";

/* A piece as a JSON string: BPE's ordinary ones in the byte-level alphabet, all others as they
 * are. */
static void add_piece(const seo_tokenizer *tok, int32_t id, seo_buf *spelling, seo_buf *out) {
    const seo_piece *piece = &tok->pieces[id];
    const char *bytes = tok->bytes.data + piece->offset;
    if (piece->special || tok->kind == SEO_TOKENIZER_WORDPIECE) {
        seo_buf_json_string(out, bytes, (size_t)piece->bytes);
        return;
    }
    seo_buf_clear(spelling);
    seo_byte_level_spell(spelling, (const unsigned char *)bytes, (size_t)piece->bytes);
    seo_buf_json_string(out, spelling->data, spelling->bytes);
}

static void add_specials(const seo_tokenizer *tok, seo_buf *spelling, seo_buf *out) {
    const char *separator = "";
    seo_buf_text(out, "  \"added_tokens\": [");
    for (int32_t id = 0; id < tok->id_count; id++) {
        if (!tok->pieces[id].special) continue;
        seo_buf_format(out, "%s\n    {\"id\": %d, \"content\": ", separator, id);
        add_piece(tok, id, spelling, out);
        seo_buf_format(out,
                       ", \"single_word\": false, \"lstrip\": %s, \"rstrip\": false, "
                       "\"normalized\": false, \"special\": true}",
                       tok->pieces[id].strips_left ? "true" : "false");
        separator = ",";
    }
    seo_buf_text(out, "],\n");
}

static void add_merge(const seo_tokenizer *tok, const seo_merge *merge, seo_buf *spelling,
                      seo_buf *out) {
    const int32_t parts[2] = {merge->left, merge->right};
    seo_buf_clear(spelling);
    for (int part = 0; part < 2; part++) {
        const seo_piece *piece = &tok->pieces[parts[part]];
        if (part == 1) seo_buf_text(spelling, " ");
        seo_byte_level_spell(spelling, (const unsigned char *)tok->bytes.data + piece->offset,
                             (size_t)piece->bytes);
    }
    seo_buf_json_string(out, spelling->data, spelling->bytes);
}

static void add_vocabulary(const seo_tokenizer *tok, seo_buf *spelling, seo_buf *out) {
    const char *separator = "";
    seo_buf_text(out, "    \"vocab\": {");
    for (int32_t id = 0; id < tok->id_count; id++) {
        if (tok->pieces[id].bytes == 0) continue;
        seo_buf_format(out, "%s\n      ", separator);
        add_piece(tok, id, spelling, out);
        seo_buf_format(out, ": %d", id);
        separator = ",";
    }
    seo_buf_text(out, "\n    }");
}

/* ---- byte-level BPE ---- */

static void add_bpe_model(const seo_tokenizer *tok, seo_buf *spelling, seo_buf *out) {
    seo_buf_text(out, "  \"model\": {\n"
                      "    \"type\": \"BPE\",\n"
                      "    \"dropout\": null,\n"
                      "    \"unk_token\": null,\n"
                      "    \"continuing_subword_prefix\": \"\",\n"
                      "    \"end_of_word_suffix\": \"\",\n"
                      "    \"fuse_unk\": false,\n"
                      "    \"byte_fallback\": false,\n"
                      "    \"ignore_merges\": false,\n");
    add_vocabulary(tok, spelling, out);
    seo_buf_text(out, ",\n    \"merges\": [");
    for (int64_t rank = 0; rank < tok->merge_count; rank++) {
        seo_buf_text(out, rank == 0 ? "\n      " : ",\n      ");
        add_merge(tok, &tok->merges[rank], spelling, out);
    }
    seo_buf_text(out, tok->merge_count == 0 ? "]\n  }\n" : "\n    ]\n  }\n");
}

/* A vocabulary with RoBERTa's two frames texts with them, where its user asks for that. */
static void add_post_processor(const seo_tokenizer *tok, seo_buf *out) {
    int32_t cls = tok->roles[SEO_ROLE_CLS], sep = tok->roles[SEO_ROLE_SEP];
    if (cls < 0 || sep < 0) {
        seo_buf_format(out,
                       "  \"post_processor\": %s\"trim_offsets\": false, \"use_regex\": true},\n",
                       byte_level_open);
        return;
    }
    seo_buf_text(out, "  \"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [");
    add_piece(tok, sep, NULL, out);
    seo_buf_format(out, ", %d], \"cls\": [", sep);
    add_piece(tok, cls, NULL, out);
    seo_buf_format(out, ", %d], \"trim_offsets\": true, \"add_prefix_space\": false},\n", cls);
}

static void add_bpe(const seo_tokenizer *tok, seo_buf *spelling, seo_buf *out) {
    seo_buf_text(out, "  \"normalizer\": null,\n");
    seo_buf_format(out, "  \"pre_tokenizer\": %s\"trim_offsets\": true, \"use_regex\": true},\n",
                   byte_level_open);
    add_post_processor(tok, out);
    seo_buf_format(out, "  \"decoder\": %s\"trim_offsets\": true, \"use_regex\": true},\n",
                   byte_level_open);
    add_bpe_model(tok, spelling, out);
}

/* ---- WordPiece ---- */

static const char *flag(bool value) {
    return value ? "true" : "false";
}

static void add_template_token(const seo_tokenizer *tok, int32_t id, int part, seo_buf *out) {
    seo_buf_text(out, "{\"SpecialToken\": {\"id\": ");
    add_piece(tok, id, NULL, out);
    seo_buf_format(out, ", \"type_id\": %d}}", part);
}

/* [CLS] A [SEP] and [CLS] A [SEP] B [SEP], where there are both tokens. */
static void add_template(const seo_tokenizer *tok, seo_buf *out) {
    int32_t cls = tok->roles[SEO_ROLE_CLS], sep = tok->roles[SEO_ROLE_SEP];
    static const char *const names[] = {"single", "pair"}, *const sequences[] = {"A", "B"};
    if (cls < 0 || sep < 0) {
        seo_buf_text(out, "  \"post_processor\": null,\n");
        return;
    }
    seo_buf_text(out, "  \"post_processor\": {\"type\": \"TemplateProcessing\"");
    for (int frame = 0; frame < 2; frame++) {
        seo_buf_format(out, ",\n    \"%s\": [", names[frame]);
        add_template_token(tok, cls, 0, out);
        for (int part = 0; part <= frame; part++) {
            seo_buf_format(out, ", {\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}, ",
                           sequences[part], part);
            add_template_token(tok, sep, part, out);
        }
        seo_buf_text(out, "]");
    }
    const int32_t ids[2] = {cls, sep};
    seo_buf_text(out, ",\n    \"special_tokens\": {");
    for (int i = 0; i < 2; i++) {
        seo_buf_text(out, i > 0 ? ", " : "");
        add_piece(tok, ids[i], NULL, out);
        seo_buf_text(out, ": {\"id\": ");
        add_piece(tok, ids[i], NULL, out);
        seo_buf_format(out, ", \"ids\": [%d], \"tokens\": [", ids[i]);
        add_piece(tok, ids[i], NULL, out);
        seo_buf_text(out, "]}");
    }
    seo_buf_text(out, "}},\n");
}

static void add_wordpiece(const seo_tokenizer *tok, seo_buf *spelling, seo_buf *out) {
    const seo_wordpiece_rules *rules = &tok->rules;
    const char *accents =
        rules->strip_accents == rules->lower_case ? "null" : flag(rules->strip_accents);
    seo_buf_format(out,
                   "  \"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, "
                   "\"handle_chinese_chars\": %s, \"strip_accents\": %s, \"lowercase\": %s},\n"
                   "  \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},\n",
                   flag(rules->chinese), accents, flag(rules->lower_case));
    add_template(tok, out);
    seo_buf_text(out, "  \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", "
                      "\"cleanup\": true},\n"
                      "  \"model\": {\n"
                      "    \"type\": \"WordPiece\",\n"
                      "    \"unk_token\": ");
    add_piece(tok, tok->roles[SEO_ROLE_UNK], spelling, out);
    seo_buf_format(out,
                   ",\n    \"continuing_subword_prefix\": \"##\",\n"
                   "    \"max_input_chars_per_word\": %d,\n",
                   rules->characters_max);
    add_vocabulary(tok, spelling, out);
    seo_buf_text(out, "\n  }\n");
}

seo_err seo_tokenizer_write(const seo_tokenizer *tok, seo_buf *out) {
    seo_buf spelling = {0};
    seo_buf_text(out,
                 "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    add_specials(tok, &spelling, out);
    if (tok->kind == SEO_TOKENIZER_WORDPIECE) {
        add_wordpiece(tok, &spelling, out);
    } else {
        add_bpe(tok, &spelling, out);
    }
    seo_buf_text(out, "}\n");
    seo_err err = seo_buf_check(&spelling);
    if (err == SEO_OK) err = seo_buf_check(out);
    seo_buf_free(&spelling);
    return err;
}

seo_err seo_tokenizer_save(const seo_tokenizer *tok, const char *path) {
    seo_buf text = {0};
    seo_err err = seo_tokenizer_write(tok, &text);
    if (err == SEO_OK) err = seo_file_write_atomic(path, text.data, (int64_t)text.bytes);
    seo_buf_free(&text);
    return err;
}
