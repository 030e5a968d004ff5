/* The canonical tokenizer.json: fixed keys, pieces by id, merges by rank, one a line. It is what
 * Hugging Face's readers expect of a byte-level BPE, and its SHA-256 names the tokenizer. */
#include "base/file.h"
#include "data/bpe.h"
#include "data/byte_level.h"

static const char byte_level_open[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, ";

/* A piece as a JSON string: ordinary ones in the byte-level alphabet, special ones as they are. */
static void add_piece(const seo_tokenizer *tok, int32_t id, seo_buf *spelling, seo_buf *out) {
    const seo_piece *piece = &tok->pieces[id];
    const char *bytes = tok->bytes.data + piece->offset;
    if (piece->special) {
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

static void add_model(const seo_tokenizer *tok, seo_buf *spelling, seo_buf *out) {
    seo_buf_text(out, "  \"model\": {\n"
                      "    \"type\": \"BPE\",\n"
                      "    \"dropout\": null,\n"
                      "    \"unk_token\": null,\n"
                      "    \"continuing_subword_prefix\": \"\",\n"
                      "    \"end_of_word_suffix\": \"\",\n"
                      "    \"fuse_unk\": false,\n"
                      "    \"byte_fallback\": false,\n"
                      "    \"ignore_merges\": false,\n"
                      "    \"vocab\": {");
    const char *separator = "";
    for (int32_t id = 0; id < tok->id_count; id++) {
        if (tok->pieces[id].bytes == 0) continue;
        seo_buf_format(out, "%s\n      ", separator);
        add_piece(tok, id, spelling, out);
        seo_buf_format(out, ": %d", id);
        separator = ",";
    }
    seo_buf_text(out, "\n    },\n    \"merges\": [");
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

seo_err seo_tokenizer_write(const seo_tokenizer *tok, seo_buf *out) {
    seo_buf spelling = {0};
    seo_buf_text(out,
                 "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    add_specials(tok, &spelling, out);
    seo_buf_text(out, "  \"normalizer\": null,\n");
    seo_buf_format(out, "  \"pre_tokenizer\": %s\"trim_offsets\": true, \"use_regex\": true},\n",
                   byte_level_open);
    add_post_processor(tok, out);
    seo_buf_format(out, "  \"decoder\": %s\"trim_offsets\": true, \"use_regex\": true},\n",
                   byte_level_open);
    add_model(tok, &spelling, out);
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
