/* CRC-32C by RFC 3720's vectors, XXH3, and files hashed; SHA-256 itself is test_sha256.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"

static void crc32c_matches_published_vectors(void **state) {
    (void)state;
    unsigned char bytes[32];
    assert_int_equal(seo_crc32c(0, "123456789", 9), 0xe3069283u);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(seo_crc32c(0, bytes, sizeof bytes), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(seo_crc32c(0, bytes, sizeof bytes), 0x62a8ab43u);
    for (int i = 0; i < 32; i++) bytes[i] = (unsigned char)i;
    assert_int_equal(seo_crc32c(0, bytes, sizeof bytes), 0x46dd794eu);
    assert_int_equal(seo_crc32c(7, NULL, 0), 7);
}

static void crc32c_continues_and_equals_its_oracle(void **state) {
    (void)state;
    unsigned char bytes[301];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 37 + 11);
    uint32_t whole = seo_crc32c_portable(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++) {
        uint32_t crc = seo_crc32c(0, bytes, cut);
        assert_int_equal(crc, seo_crc32c_portable(0, bytes, cut));
        assert_int_equal(seo_crc32c(crc, bytes + cut, sizeof bytes - cut), whole);
    }
}

static void files_hash_like_their_bytes(void **state) {
    (void)state;
    const char *path = "test_hash_file.tmp";
    char from_file[SEO_SHA256_HEX], from_memory[SEO_SHA256_HEX];
    enum { BYTES = (1 << 20) + 17 }; /* More than one piece of the streaming reader. */
    char *data = malloc(BYTES);
    assert_non_null(data);
    for (size_t i = 0; i < BYTES; i++) data[i] = (char)(i * 131 + (i >> 9));
    assert_int_equal(seo_file_write_atomic(path, data, BYTES), SEO_OK);
    assert_int_equal(seo_file_sha256_hex(path, from_file), SEO_OK);
    seo_sha256_hex(data, BYTES, from_memory);
    assert_string_equal(from_file, from_memory);
    assert_int_equal(seo_file_xxh128_hex(path, from_file), SEO_OK);
    seo_xxh128_hex(data, BYTES, from_memory);
    assert_string_equal(from_file, from_memory);
    assert_int_equal(strlen(from_file), 32);
    free(data);
    assert_int_equal(remove(path), 0);
    assert_int_equal(seo_file_sha256_hex(path, from_file), SEO_ERR_MISSING);
    assert_int_equal(seo_file_xxh128_hex(".", from_file), SEO_ERR_IO);
}

static void xxh3_matches_published_vectors(void **state) {
    (void)state;
    char hex[SEO_XXH128_HEX];
    /* Of the empty input with seed 0, from the algorithm's specification. */
    assert_true(seo_hash64("", 0) == 0x2d06800538d394c2u);
    seo_xxh128_hex("", 0, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_matches_published_vectors),
        cmocka_unit_test(crc32c_continues_and_equals_its_oracle),
        cmocka_unit_test(files_hash_like_their_bytes),
        cmocka_unit_test(xxh3_matches_published_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
